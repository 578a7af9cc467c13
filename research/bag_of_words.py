"""What a text classifier has to beat: how often words occur, and logistic regression on that."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from research.errors import UserError
from research.metrics import MacroF1, Mean, Metrics


@dataclasses.dataclass(frozen=True)
class TfIdf:
  """Logistic regression on words and pairs of words, weighed by TF-IDF; by `scikit-learn`.

  It stands among the `baselines` of an experiment on `data.Labelled`. It sees whole texts, cut into
  words by rule; the experiment's tokenizer and length are not asked.

  Attributes:
    words: that stand beside one another in a feature, at most: 1 counts single words alone.
    strength: C, the inverse of the weight of the squared coefficients; 10 is about the best for
      short texts.
  """

  words: int = 2
  strength: float = 10.0

  def __post_init__(self):
    if self.words < 1:
      raise UserError(f"words={self.words} makes no feature; choose 1 or more")
    if not self.strength > 0:
      raise UserError(f"strength={self.strength} must be above zero")

  def score(self, prepared: Any, split: str) -> Metrics:
    """Fits the records of "train", and scores those of `split`:

    loss: -log p of the label, in nats.
    accuracy, macro_f1: as of `objectives.LabelScores`.

    Raises:
      UserError: scikit-learn is not installed, or the training records have a single label or no
        word.
    """
    try:
      from sklearn.feature_extraction.text import TfidfVectorizer
      from sklearn.linear_model import LogisticRegression
    except ImportError:
      raise UserError("this baseline is scikit-learn's; pip install scikit-learn") from None
    labels = len(prepared.labels)
    texts, given = _told(prepared, "train")
    if len(set(given)) < 2:
      raise UserError("the training records have a single label; a baseline needs two")
    features = TfidfVectorizer(ngram_range=(1, self.words))
    try:
      counts = features.fit_transform(texts)
    except ValueError:  # "empty vocabulary"
      raise UserError(
        "the training texts have no word of two letters or more, and this baseline counts words; "
        "drop it"
      ) from None
    model = LogisticRegression(C=self.strength, max_iter=1_000).fit(counts, given)
    texts, given = _told(prepared, split)
    # A label that no training record has keeps a probability of zero: its loss is infinite.
    probs_BC = np.zeros((len(given), labels))
    probs_BC[:, model.classes_] = model.predict_proba(features.transform(texts))
    said = probs_BC.argmax(axis=1)
    with np.errstate(divide="ignore"):
      nats = -np.log(probs_BC[np.arange(len(given)), given])
    return {
      "loss": Mean.of(nats),
      "accuracy": Mean.of(said == given),
      "macro_f1": MacroF1.of(given, said, np.ones(len(given)), labels),
    }


def _told(prepared: Any, split: str) -> tuple[list[str], np.ndarray]:
  """The texts of a split, and the numbers of their labels."""
  records = prepared.records(split)
  numbers = [prepared.labels.number(record["label"], "a record") for record in records]
  return ["\n".join(record["texts"]) for record in records], np.array(numbers)
