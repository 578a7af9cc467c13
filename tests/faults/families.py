"""One tiny experiment for each family of models, with all that a run may carry from step to step.

Dropout, a learning rate that changes, a moving average, microbatches, the guard's statistics; an
epoch ends within a batch. Runs may be stopped after a step of this stretch, see `stops`.

research run tests/faults/families.py:gpt folder=FOLDER after=7 how=term
"""

import dataclasses
from pathlib import Path

from research import Eval, Experiment, Guard, data, models, objectives, optim
from research.overrides import override
from tests.faults import stops, tiny_clip

STEPS = 20
SIZES = {"width": 16, "depth": 2, "heads": 2, "dropout": 0.1}


def write(folder: Path) -> None:
  """The texts that the experiments read."""
  lines = [
    f"{a} to be or not to be {b}. It ends, and {a * b} ends." for a in range(11) for b in range(2)
  ]
  (folder / "text.txt").write_text("\n".join(lines))
  (folder / "back.txt").write_text("\n".join(line[::-1] for line in lines))


def _run(experiment: Experiment, after: int, how: str) -> Experiment:
  return dataclasses.replace(
    experiment,
    steps=STEPS,
    batch_size=8,
    microbatches=2,
    average=0.9,
    guard=Guard(spike=20.0, window=4),
    evals={"heldout": Eval(experiment.objective, batches=1, every=3, batch_size=8)},
    samples=stops.After(after, how),
    save_every=6,
    log_every=1,
  )


def _language(name: str, dataset, model, objective, after: int, how: str) -> Experiment:
  made = Experiment(
    name=name,
    data=dataset,
    model=model,
    objective=objective,
    optimizer=optim.AdamW(optim.Cosine(1e-2, warmup=4), weight_decay=0.1, clip=1.0),
  )
  return _run(made, after, how)


def gpt(folder: str, after=0, how="term"):
  dataset = data.Text(
    data.Files(f"{folder}/text.txt", separator="\n"), data.Bytes(), 32, split=data.Tail(0.3)
  )
  model = models.GPT(vocab_size=264, max_length=32, **SIZES)
  return _language("gpt", dataset, model, objectives.NextToken(), after, how)


def bert(folder: str, after=0, how="term"):
  words = data.SentencePiece(300, special=data.MARKS)
  dataset = data.SentencePairs(
    data.Files(f"{folder}/text.txt", separator="\n"),
    words,
    32,
    rate=0.15,
    short=0.1,
    split=data.ByHash(0.3),
  )
  model = models.BERT(vocab_size=320, max_length=32, **SIZES)
  both = objectives.MaskedTokenAndNextSentence()
  return _language("bert", dataset, model, both, after, how)


def encoder_decoder(folder: str, after=0, how="term"):
  pairs = data.LineAligned(f"{folder}/text.txt", f"{folder}/back.txt")
  dataset = data.Translations(pairs, data.Bytes(), 64, split=data.ByHash(0.3))
  model = models.Transformer(vocab_size=264, max_length=64, **SIZES)
  return _language("encoder_decoder", dataset, model, objectives.TargetToken(), after, how)


def clip(folder: str, after=0, how="term"):
  made = override(tiny_clip.experiment(STEPS), {"data.examples": 61})
  return dataclasses.replace(_run(made, after, how), name="clip")


def ngram(folder: str, after=0, how="term"):
  """It is counted in one go; there is nothing to stop after."""
  made = gpt(folder)
  return Experiment(
    name="ngram",
    data=made.data,
    model=models.NGram(order=3),
    evals={"heldout": Eval(made.objective)},
  )
