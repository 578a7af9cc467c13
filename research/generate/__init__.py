"""From parameters to things one can look at.

language     cached decoding: generate, stream
sampling     how the next token is chosen: Greedy, Sample
beam         what is likeliest as a whole: Beam, beam_search
translation  the targets of sources: translate, translations
texts        the same from texts to texts
gaps         texts with sentinels where something is missing, and without
samples      Samples, what a model is asked to write while it trains
"""

from research.generate.beam import Beam, beam_search
from research.generate.language import generate, stream
from research.generate.samples import Samples
from research.generate.sampling import Greedy, Sample
from research.generate.translation import translate, translations

__all__ = [
  "Beam",
  "Greedy",
  "Sample",
  "Samples",
  "beam_search",
  "generate",
  "stream",
  "translate",
  "translations",
]
