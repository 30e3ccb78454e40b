"""Looking into a network: what it sees and why it decides, and proofs of its gradients."""

from glassnet.explain.features import feature_maps, feature_tiles, filter_tiles, filters
from glassnet.explain.gradcam import gradcam, gradcam_plus_plus
from glassnet.explain.gradcheck import GradcheckReport, GradcheckRow, gradcheck
from glassnet.explain.occlusion import occlusion
from glassnet.explain.passes import class_trace
from glassnet.explain.pictures import contact_sheet, overlay, panel
from glassnet.explain.saliency import saliency, smoothgrad
from glassnet.explain.sanity import SanityReport, sanity_check

__all__ = [
    "GradcheckReport",
    "GradcheckRow",
    "SanityReport",
    "class_trace",
    "contact_sheet",
    "feature_maps",
    "feature_tiles",
    "filter_tiles",
    "filters",
    "gradcam",
    "gradcam_plus_plus",
    "gradcheck",
    "occlusion",
    "overlay",
    "panel",
    "saliency",
    "sanity_check",
    "smoothgrad",
]
