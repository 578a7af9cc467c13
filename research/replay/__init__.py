"""One step of a run once more: its very batch, and what each example of it did.

recall    the state before the step and its batch, out of checkpoints and arithmetic
examples  loss and gradient of every example by itself
reading   examples as texts and pictures
command   what is printed, and the page
"""

from research.replay.command import replay

__all__ = ["replay"]
