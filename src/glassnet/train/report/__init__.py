"""One page that tells all of a run."""

from __future__ import annotations

from glassnet.train.report.write import read_run, write_report

__all__ = ["read_run", "write_report"]
