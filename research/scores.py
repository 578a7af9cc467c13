"""Evaluations of what a model writes: it translates held-out sources, and texts are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from research.errors import UserError
from research.generate import Beam, translate
from research.generate.sampling import Sampler
from research.metrics import Mean, Metrics

TOKENIZERS = ("13a", "char", "intl", "ja-mecab", "ko-mecab", "zh", "spm", "flores200", "none")


@dataclasses.dataclass(frozen=True)
class Translated:
  """BLEU and chrF of held-out translations, by `sacrebleu` (Post, 2018; Popović, 2015).

  The dataset prepares `texts()`, pairs of a source and its target as they were written, and the
  vocabularies of both (`data.Translations`). A target begins with end-of-text, as there.

  Attributes:
    tokenize: how BLEU cuts texts into words, one of `TOKENIZERS`: "13a" for European languages,
      "zh" for Chinese, "char" for whatever has no spaces; for Japanese also "ja-mecab", which
      needs `pip install sacrebleu[ja]`. Scores by different ones cannot be compared.
    search: how targets are found.
    tokens: of a target, at most.
    pairs: that are translated, from the first on; None for all.
    every: steps between evaluations; None for a tenth of the run. The end is always evaluated.
    rows: sources at a time.
  """

  tokenize: str = "13a"
  search: Beam | Sampler = Beam(4, length_penalty=0.6)  # noqa: RUF009 (frozen)
  tokens: int = 128
  pairs: int | None = None
  every: int | None = None
  rows: int = 32

  def __post_init__(self):
    if self.tokenize not in TOKENIZERS:
      raise UserError(f"tokenize={self.tokenize!r} is not one of {', '.join(TOKENIZERS)}.")
    for field in ("tokens", "pairs", "rows"):
      if (value := getattr(self, field)) is not None and value < 1:
        raise UserError(f"{field}={value} translates nothing; choose at least 1.")

  def total(
    self,
    model: Any,
    params: Any,
    dataset: Any,
    stopping: Callable[[], bool] = lambda: False,
  ) -> Metrics | None:
    """Scores of the corpus:

    bleu, chrf: from 0 to 100.
    length: of what was written over that of the references, in BLEU's words.
    cut: the share of sources that were longer than the model, and lost their ends.

    Args:
      model: see `generate.translate`.
      params: its parameters.
      dataset: of the experiment.
      stopping: asked after every few sources; where it says yes, the result is None.
    """
    prepared = dataset.prepare()
    pairs = prepared.texts()[: self.pairs]
    sources = [_encoded(prepared.source_vocabulary, source) for source, _ in pairs]
    longest = model.max_length
    cut = sum(len(source) > longest for source in sources)
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    written: dict[int, str] = {}
    for start in range(0, len(order), self.rows):
      some = order[start : start + self.rows]
      targets = translate(
        model,
        params,
        [sources[i][:longest] for i in some],
        steps=self.tokens,
        begin=(prepared.vocabulary.end,),
        end=prepared.vocabulary.end,
        search=self.search,
        never=range(prepared.vocabulary.vocab_size, model.vocab_size),  # rows that fill the table
        rows=self.rows,
      )
      written |= {i: prepared.vocabulary.decode(target) for i, target in zip(some, targets)}
      if stopping():
        return None
    hypotheses = [written[i] for i in range(len(pairs))]
    bleu, chrf = compare(hypotheses, [target for _, target in pairs], self.tokenize)
    return {
      "bleu": Mean(bleu.score, 1.0),
      "chrf": Mean(chrf.score, 1.0),
      "length": Mean(bleu.sys_len, max(bleu.ref_len, 1)),
      "cut": Mean(cut, len(pairs)),
    }


def compare(hypotheses: list[str], references: list[str], tokenize: str) -> tuple[Any, Any]:
  """sacrebleu's corpus BLEU and chrF, each text against its one reference."""
  try:
    from sacrebleu.metrics import BLEU, CHRF
  except ImportError:
    raise UserError("BLEU is counted by sacrebleu; pip install sacrebleu") from None
  try:
    bleu = BLEU(tokenize=tokenize)
  except RuntimeError as error:
    raise UserError(f"sacrebleu cannot tokenize by {tokenize!r}: {_line(error)}") from None
  return bleu.corpus_score(hypotheses, [references]), CHRF().corpus_score(hypotheses, [references])


def _encoded(vocabulary: Any, text: str) -> np.ndarray:
  return np.append(vocabulary.encode(text), vocabulary.end).astype(np.int32)


def _line(error: BaseException) -> str:
  return " ".join(str(error).split())
