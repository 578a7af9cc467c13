"""What a paper says, as a value that runs are held against.

An experiment file declares them, `CLAIMS = (Claim(...), ...)`; `research reproduce` judges them.

comparison  Claim: one arm is better than another
verdict     what arms reached, and what follows from it for a claim
"""

from research.claims.comparison import Claim
from research.claims.verdict import (
  INCONCLUSIVE,
  NOT_REPRODUCED,
  REPRODUCED,
  Outcome,
  Results,
  Verdict,
)

__all__ = [
  "INCONCLUSIVE",
  "NOT_REPRODUCED",
  "REPRODUCED",
  "Claim",
  "Outcome",
  "Results",
  "Verdict",
]
