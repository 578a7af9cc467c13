"""A model whose weights were imported; the folder of its run says what it is.

  research import hf FOLDER --workdir runs/gpt2
  research sample runs/gpt2 --prompt "Once upon a time"
  research describe research/hf/imported.py:text weights=runs/gpt2
  research run research/hf/imported.py:text weights=runs/gpt2 --workdir runs/tuned

`weights` is the run folder that the import has made; a run starts from its parameters. Each
function names data that a model of its kind learns from, with settings to start fine-tuning with:
no result of a paper is expected.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from research import data, objectives, optim
from research.errors import UserError
from research.evaluate import Eval
from research.experiment import Experiment
from research.hf.runs import SOURCE, described
from research.hf.tensors import read_json
from research.hf.vocabulary import ABOUT
from research.init_from import InitFrom


def text(weights: str, documents="*.txt", length: int | None = None, steps=1_000, peak=2e-5):
  """A decoder: documents as `data.Files` reads them."""
  model, words = described(weights)
  next_token = objectives.NextToken()
  length = min(model.max_length, 512) if length is None else length
  return _experiment(
    weights, model, data.Text(data.Files(documents), words, length), next_token, steps, peak
  )


def masked(weights: str, documents="*.txt", length: int | None = None, steps=1_000, peak=2e-5):
  """An encoder: documents, of whose words some are masked."""
  model, words = described(weights)
  length = min(model.max_length, 512) if length is None else length
  pairs = data.SentencePairs(data.Files(documents), words, length, rate=0.15, short=0.1)
  sentences = ("^pooler/", "^next_sentence_head/")  # where they were imported, masks need neither
  return _experiment(weights, model, pairs, objectives.MaskedToken(), steps, peak, unused=sentences)


def translation(
  weights: str, source="source.txt", target="target.txt", length=128, steps=1_000, peak=1e-4
):
  """An encoder-decoder: two line-aligned files."""
  model, words = described(weights)
  pairs = data.Translations(data.LineAligned(source, target), words, length)
  return _experiment(weights, model, pairs, objectives.TargetToken(), steps, peak)


def pairs(weights: str, table="pairs.tsv", folder="pictures", steps=1_000, peak=1e-5):
  """Two towers: a table with a line for each picture and its caption."""
  model, words = described(weights)
  captioned = data.ImageText(
    data.Captioned(table, folder),
    words,
    image_size=model.image_size,
    length=model.max_length,
    start=words.fit().begin if words.begin else None,
    pad=_padding(weights, words) if model.text_pool == "last" else 0,
  )
  loss = objectives.InfoNCE() if model.bias is None else objectives.SigmoidLoss()
  return _experiment(weights, model, captioned, loss, steps, peak)


def _padding(weights: str, words: data.HuggingFace) -> int:
  """The number of the token that its tokenizer pads with; end-of-text, as SigLIP does, else."""
  if not Path(words.path).is_dir():
    return 0  # it came without a tokenizer, so that there are no captions either
  about = Path(weights) / SOURCE / ABOUT
  named: Any = read_json(about).get("pad_token") if about.is_file() else None
  fitted = words.fit()
  return fitted.special.get(named.get("content") if isinstance(named, dict) else named, fitted.end)


def pictures(weights: str):
  """An image tower, which is applied and not trained: no dataset here has classes of pictures."""
  model, _ = described(weights)
  return _experiment(weights, model, Untrained(), Untrained(), 1, 1e-5)


@dataclasses.dataclass(frozen=True)
class Untrained:
  """In the place of a dataset and an objective, where there are none for a kind of model."""

  def source(self, split: str):
    raise UserError(
      f"nothing here trains a model of this kind, so that there is no {split!r}; read it with "
      "research.hf.read, or export it."
    )

  def __call__(self, model, batch):
    del model, batch
    self.source("loss")


def _experiment(weights, model, dataset, objective, steps, peak, unused=()):
  return Experiment(
    name="imported",
    data=dataset,
    model=model,
    objective=objective,
    optimizer=optim.AdamW(
      optim.Cosine(peak, warmup=max(1, steps // 20)), weight_decay=0.01, clip=1.0
    ),
    steps=steps,
    batch_size=16,
    init_from=InitFrom(weights, unused=unused),
    evals={"heldout": Eval(objective)},
  )
