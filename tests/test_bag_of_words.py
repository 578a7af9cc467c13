"""The baseline of text classifiers is scikit-learn's, on the records of the same splits."""

import csv
import dataclasses

import numpy as np
import pytest

from research import data
from research.bag_of_words import TfIdf
from research.errors import UserError

TEXTS = [f"the {a} {b} sat on the {a}" for a in ("cat", "dog", "emu") for b in "abcdefgh"]


@pytest.fixture
def labelled(tmp_path):
  """Labels by animal; every fourth text is held out."""

  def table(name, rows):
    with open(tmp_path / name, "w", newline="") as file:
      csv.writer(file).writerows([("text", "label"), *((text, text.split()[1]) for text in rows)])
    return data.LabelledFile(str(tmp_path / name))

  rest = [text for i, text in enumerate(TEXTS) if i % 4]
  parts = {"train": table("train.csv", rest), "heldout": table("heldout.csv", TEXTS[::4])}
  return data.Labelled(**parts, tokenizer=data.Bytes(), length=64, labels=3, marks=(None,) * 3)


def test_it_scores_as_scikit_learn_does(labelled):
  pytest.importorskip("sklearn")
  from sklearn.feature_extraction.text import TfidfVectorizer
  from sklearn.linear_model import LogisticRegression
  from sklearn.metrics import accuracy_score, f1_score, log_loss

  prepared = labelled.prepare()
  measured = TfIdf(words=2, strength=0.02).score(prepared, "heldout")
  (a, x), (b, y) = (
    zip(*((r["texts"][0], r["label"]) for r in prepared.records(split)))
    for split in ("train", "heldout")
  )
  features = TfidfVectorizer(ngram_range=(1, 2))
  model = LogisticRegression(C=0.02, max_iter=1000).fit(features.fit_transform(a), x)
  seen = features.transform(b)
  want = {
    "loss": log_loss(y, model.predict_proba(seen)),
    "accuracy": accuracy_score(y, model.predict(seen)),
    "macro_f1": f1_score(y, model.predict(seen), average="macro"),
  }
  assert measured["loss"].mean() > 0.1
  for name, value in want.items():
    np.testing.assert_allclose(measured[name].mean(), value, rtol=1e-5)


def test_fewer_records_are_a_part_of_more_and_keep_all_labels(labelled):
  few, more = (dataclasses.replace(labelled, limit=limit).prepare() for limit in (2, 9))
  texts = [[r["texts"][0] for r in x.records("train")] for x in (few, more)]
  assert [len(some) for some in texts] == [2, 9]
  assert set(texts[0]) < set(texts[1])
  assert few.labels.names == ("cat", "dog", "emu")
  assert len(few.source("train")) == 2
  assert len(few.source("heldout")) == len(TEXTS[::4])


@pytest.mark.parametrize("limit, said", [(0, "leaves no record"), (19, "the 18 training records")])
def test_a_limit_that_cannot_be_is_told(labelled, limit, said):
  with pytest.raises(UserError, match=said):
    dataclasses.replace(labelled, limit=limit).prepare()


def test_texts_without_words_are_told(labelled, monkeypatch):
  pytest.importorskip("sklearn")
  prepared = labelled.prepare()
  rows = [
    {"texts": [text], "label": label} for text, label in (("a", "cat"), ("\U0001f600", "dog"))
  ]
  monkeypatch.setattr(prepared, "records", lambda split: rows)
  with pytest.raises(UserError, match="have no word of two letters"):
    TfIdf().score(prepared, "heldout")
