"""Looking into a network: proofs of its gradients."""

from glassnet.explain.gradcheck import GradcheckReport, GradcheckRow, gradcheck

__all__ = ["GradcheckReport", "GradcheckRow", "gradcheck"]
