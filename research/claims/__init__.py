"""What a paper says, as a value that runs are held against.

An experiment file declares them, `CLAIMS = (Claim(...), ...)`; `research reproduce` judges them.

comparison  Claim: one arm is better than another
alike       Alike: two arms come to the same
trend       Trend: each arm of an order is better than the one before it
crossing    Crossing: what wins on little data loses on more
scaling     ScalingLaw: small runs foretell a larger one
outcomes    what the arms reached, by seed
verdict     what every form has, and what follows from it
"""

from research.claims.alike import Alike
from research.claims.comparison import Claim
from research.claims.crossing import Crossing
from research.claims.outcomes import Outcome, Results
from research.claims.scaling import ScalingLaw
from research.claims.trend import Trend
from research.claims.verdict import (
  INCONCLUSIVE,
  NOT_REPRODUCED,
  REPRODUCED,
  Judged,
  Line,
  Verdict,
)

__all__ = [
  "INCONCLUSIVE",
  "NOT_REPRODUCED",
  "REPRODUCED",
  "Alike",
  "Claim",
  "Crossing",
  "Judged",
  "Line",
  "Outcome",
  "Results",
  "ScalingLaw",
  "Trend",
  "Verdict",
]
