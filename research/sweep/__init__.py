"""Many experiments of one file, each in a process of its own, as many at once as the machine bears.

shares     the machine, cut into equal parts: cores and GPUs
processes  started as forks (`research.forks`); stopped; cleared away
preloaded  what that server has imported
worker     what each of them does
runner     what is started, and started again where it died
row        how a run of a sweep stands
display    that, on a screen or in a file
probe      three steps of an experiment, to know what it costs
dry_run    what a whole sweep would cost
clusters   the same sweep as jobs of SLURM or GKE
choosing   the parts of Optuna that a search names
study      the trials of a search, kept by Optuna
search     runs them: asks for the next, reports, prunes
command    `research sweep`
"""

from research.sweep.row import Row, Swept
from research.sweep.runner import sweep

__all__ = ["Row", "Swept", "sweep"]
