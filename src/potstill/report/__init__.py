"""Run folders in, one self-contained HTML page out; nothing here trains."""

from __future__ import annotations

from potstill.pictures import picture
from potstill.report.figures import write_comparison, write_map
from potstill.report.page import write

__all__ = ["picture", "write", "write_comparison", "write_map"]
