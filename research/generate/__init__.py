"""From parameters to things one can look at.

language  cached decoding: generate, stream
sampling  how the next token is chosen: Greedy, Sample
samples   Samples, what a model is asked to write while it trains
"""

from research.generate.language import generate, stream
from research.generate.samples import Samples
from research.generate.sampling import Greedy, Sample

__all__ = ["Greedy", "Sample", "Samples", "generate", "stream"]
