"""Evaluations of what a model writes: it translates held-out sources, and texts are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from research.errors import UserError
from research.generate import Beam, texts
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
      model: see `generate.translations`.
      params: its parameters.
      dataset: of the experiment.
      stopping: asked after every few sources; where it says yes, the result is None.

    Raises:
      UserError: no pairs are held out.
    """
    prepared = dataset.prepare()
    pairs = prepared.texts()[: self.pairs]
    if not pairs:
      raise UserError(
        "no pairs are held out to translate; give files with heldout=..., hold out a larger share "
        "with split=ByHash(heldout=...), or drop the evaluation."
      )
    sources, targets = zip(*pairs)
    words = texts.Words(prepared.source_vocabulary, prepared.vocabulary)
    settings = {"tokens": self.tokens, "search": self.search, "rows": self.rows}
    written = texts.write(model, params, words, sources, stopping=stopping, **settings)
    if written is None:
      return None
    bleu, chrf = compare([item.text for item in written], list(targets), self.tokenize)
    return {
      "bleu": Mean(bleu.score, 1.0),
      "chrf": Mean(chrf.score, 1.0),
      "length": Mean(bleu.sys_len, max(bleu.ref_len, 1)),
      "cut": Mean(sum(item.left_out > 0 for item in written), len(written)),
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


def _line(error: BaseException) -> str:
  return " ".join(str(error).split())
