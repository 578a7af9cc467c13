"""Holds runs against what a paper says: `CLAIMS` of an experiment file, judged one by one.

declared  which claims a file declares, and which of its experiments they need
judged    runs what is missing, and judges
outcomes  what a run's folder says, as claims want it
words     the numbers of verdicts, as they are told
show      the verdicts in a terminal
record    the verdicts as JSON
pages     the verdicts as a page, with curves and effects
command   `research reproduce`
"""

from research.reproduce.judged import Judgement, Study, reproduce

__all__ = ["Judgement", "Study", "reproduce"]
