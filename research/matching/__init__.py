"""How well pictures and texts find one another: evaluations of what has two towers.

encoded     vectors of pictures and texts
ranks       who is among the k nearest, and how likely that is by chance
retrieval   a picture's captions, a caption's pictures
zero_shot   classes by their names
probes      classes by a few examples, or by a linear layer
"""

from research.matching.probes import FewShot, LinearProbe
from research.matching.retrieval import Retrieval
from research.matching.zero_shot import ZeroShot

__all__ = ["FewShot", "LinearProbe", "Retrieval", "ZeroShot"]
