"""Runs as pages that open from disk: curves beside baselines, samples, the experiment, the cost.

sections     what the page of one run says, one function a section
tables       losses beside baselines, and what else was measured
run          what a run left in its folder
several      many runs as one page and as tables
groups       runs that differ in nothing but their seed
table_files  CSV and Markdown
importance   how much of a sweep's outcome each field explains
plots        the loss of one run
arm_plots    arms over seeds, effects, quality against cost
parallel     a sweep's runs as lines through its fields
canvas       SVG that takes its colours from the page
page         typography and small pieces of HTML
"""

from research.report.run import read
from research.report.sections import write
from research.report.several import write as write_several

__all__ = ["read", "write", "write_several"]
