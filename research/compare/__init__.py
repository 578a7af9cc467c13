"""Two experiments, or two runs, side by side: what differs in what they are and what they compute.

sides     what stands on either side: an experiment file with its words, or a run folder
shapes    parameters, placements and costs, by name, from shapes alone
program   the training step as text, without names and places
runs      the first step at which two runs part, from what they left in their folders
lockstep  two experiments trained side by side, until they part
command   what is printed
"""

from research.compare.command import compare

__all__ = ["compare"]
