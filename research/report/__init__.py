"""A run as a page that opens from disk: curves beside baselines, samples, the experiment, the cost.

sections  what the page says, one function a section
tables    losses beside baselines, and what else was measured
run       what a run left in its folder
plots     SVG that takes its colours from the page
page      typography and small pieces of HTML
"""

from research.report.run import read
from research.report.sections import write

__all__ = ["read", "write"]
