"""How summaries are judged: ROUGE by the `rouge-score` package, beside the first sentence's.

Lin, 2004: words, and pairs of words, that a summary and its reference share, and the longest
sequence of words that both have. The first sentence of a text is a hard baseline to beat.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from research.errors import UserError
from research.generate import Beam, texts
from research.generate.sampling import Sampler
from research.metrics import Mean, Metrics

KINDS = ("rouge1", "rouge2", "rougeL")


@dataclasses.dataclass(frozen=True)
class Summarized:
  """ROUGE-1, 2 and L of the summaries of held-out texts: F-measures without stemming.

  The dataset prepares `records(split)` with a "source", its first sentence as "lead", and
  "targets" (`data.Summaries`). Of several references the best counts, for each measure its own.
  `rouge-score` knows the letters a to z and the digits, and no other script.

  Attributes:
    search: how summaries are found.
    tokens: of a summary, at most.
    records: that are summarized, from the first on; None for all.
    every: steps between evaluations; None for a tenth of the run. The end is always evaluated.
    split: of the dataset.
    rows: texts at a time.
  """

  search: Beam | Sampler = Beam(4, length_penalty=0.6)  # noqa: RUF009 (frozen)
  tokens: int = 64
  records: int | None = None
  every: int | None = None
  split: str = "heldout"
  rows: int = 32

  def __post_init__(self):
    for field in ("tokens", "records", "rows"):
      if (value := getattr(self, field)) is not None and value < 1:
        raise UserError(f"{field}={value} summarizes nothing; choose at least 1.")

  def total(
    self, model: Any, params: Any, dataset: Any, stopping: Callable[[], bool] = lambda: False
  ) -> Metrics | None:
    """Measures of each text:

    rouge1, rouge2, rougeL: from 0 to 100.
    lead_rouge1, lead_rouge2, lead_rougeL: of its first sentence, were it the summary.
    length: of what was written, in characters.
    cut: whether it was longer than the model, and lost its end.

    Args:
      model: see `generate.translations`.
      params: its parameters.
      dataset: of the experiment.
      stopping: asked after every few texts; where it says yes, the result is None.
    """
    prepared = dataset.prepare()
    records = prepared.records(self.split)[: self.records]
    words = texts.Words(prepared.vocabulary, prepared.vocabulary)
    settings = {"tokens": self.tokens, "search": self.search, "rows": self.rows}
    sources = [record["source"] for record in records]
    written = texts.write(model, params, words, sources, stopping=stopping, **settings)
    if written is None:
      return None
    references = [record["targets"] for record in records]
    said = {"": [item.text for item in written], "lead_": [record["lead"] for record in records]}
    scores = {prefix: compare(summaries, references) for prefix, summaries in said.items()}
    return {
      **{f"{prefix}{kind}": _mean(x) for prefix, of in scores.items() for kind, x in of.items()},
      "length": _mean([float(len(item.text)) for item in written]),
      "cut": _mean([float(item.left_out > 0) for item in written]),
    }


def compare(
  summaries: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, list[float]]:
  """By kind of ROUGE, 100 times the F-measure of every summary with the best of its references.

  Raises:
    UserError: the references have no word that is counted.
  """
  from rouge_score import rouge_scorer, tokenizers

  counted = tokenizers.DefaultTokenizer(use_stemmer=False)
  if not any(counted.tokenize(text) for several in references for text in several):
    raise UserError(
      "rouge-score counts words of the letters a to z and of digits, and the held-out summaries "
      "have none; judge them by another measure."
    )
  scorer = rouge_scorer.RougeScorer(KINDS, tokenizer=counted)
  scored = [scorer.score_multi(several, text) for text, several in zip(summaries, references)]
  return {kind: [100 * of[kind].fmeasure for of in scored] for kind in KINDS}


def _mean(values: Sequence[float]) -> Mean:
  return Mean(sum(values), float(len(values)), sum(value**2 for value in values))
