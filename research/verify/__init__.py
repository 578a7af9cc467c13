"""`research verify FILE`: the invariants of training, run against any experiment, also your own.

Every row of the table is a claim that was measured: the largest difference that was found, what it
may be, and the verdict. A check that has nothing to say about an experiment says why.
"""

from research.verify.run import broken, exit_code, verify

__all__ = ["broken", "exit_code", "verify"]
