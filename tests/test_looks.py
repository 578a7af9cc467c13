"""Evaluations and samples: each once for a step, however often the run is stopped on the way."""

import contextlib
import dataclasses
import itertools
import json
import signal
from collections import Counter

import jax
import pytest
import tiny_experiment

from research import Eval, Sharding, generate, objectives, train
from research.looks import Looks
from research.metrics import Mean

STEPS = 6


@pytest.fixture(scope="module", autouse=True)
def one_device():
  """Which compiles faster than eight."""
  with pytest.MonkeyPatch.context() as patch:
    mesh = Sharding(mesh={"data": 1}).make_mesh(jax.devices()[:1])
    patch.setattr(Sharding, "make_mesh", lambda self: mesh)
    yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
  """Evaluated twice and asked to write at steps 2, 4 and 6; no checkpoint is due before the end."""
  path = tmp_path_factory.mktemp("corpus") / "text.txt"
  path.write_text("\n".join(f"{a} to be or not to be {b}" for a in range(20) for b in range(20)))
  return dataclasses.replace(
    tiny_experiment.experiment(str(path), STEPS),
    evals={name: Eval(objectives.NextToken(), batches=2, every=2) for name in ("heldout", "again")},
    samples=generate.Samples(("to be",), tokens=24, every=2),
    save_every=STEPS,
  )


def lines(workdir, file="metrics.jsonl"):
  return [json.loads(line) for line in (workdir / file).read_text().splitlines()]


def looked(workdir):
  """(what, step) -> how often it stands in the files."""
  found = [(line["split"], line["step"]) for line in lines(workdir) if "step" in line]
  found += [(line["name"], line["step"]) for line in lines(workdir, "samples.jsonl")]
  return Counter(key for key in found if key[0] in ("heldout", "again", "samples"))


def scores(workdir):
  """All that the evaluations wrote, but for the time."""
  return [
    {name: value for name, value in line.items() if name != "time"}
    for line in lines(workdir)
    if line["split"] in ("heldout", "again")
  ]


ALL = Counter(
  {(name, step): 1 for name in ("heldout", "again", "samples") for step in range(2, STEPS + 1, 2)}
)


@pytest.fixture(scope="module")
def unbroken(tiny, tmp_path_factory):
  """(folder of a run that nothing disturbs, how it ended)."""
  workdir = tmp_path_factory.mktemp("unbroken")
  return workdir, train.train(tiny, workdir)


def test_every_look_is_written_once(unbroken):
  assert looked(unbroken[0]) == ALL


def struck(function, time):
  """The function; its so-manieth call comes with a signal to this process."""
  calls = itertools.count(1)

  def call(*args, **named):
    if next(calls) == time:
      signal.raise_signal(signal.SIGTERM)
    return function(*args, **named)

  return call


@pytest.mark.parametrize("what, step", [("evaluation", STEPS), ("sample", 2)])
def test_a_signal_amid_a_look_ends_in_a_checkpoint_and_the_look_is_done_anew(
  tiny, unbroken, tmp_path, monkeypatch, what, step
):
  if what == "evaluation":  # the second of the two at this step
    monkeypatch.setattr(train.evaluate, "total", struck(train.evaluate.total, step))
  else:
    write = struck(generate.Samples.write, step // 2)
    monkeypatch.setattr(generate.Samples, "write", write)
  finished = train.train(tiny, tmp_path)
  assert (finished.step, finished.complete) == (step, False)
  assert (tmp_path / "checkpoints" / str(step)).is_dir()
  cut = ("again" if what == "evaluation" else "samples", step)
  assert cut not in looked(tmp_path) and looked(tmp_path)["heldout", step] == 1
  monkeypatch.undo()
  finished = train.train(tiny, tmp_path)
  assert finished.complete
  assert looked(tmp_path) == ALL
  assert scores(tmp_path) == scores(unbroken[0])
  assert finished.evaluations == unbroken[1].evaluations


def test_a_complete_run_says_again_what_it_came_to_and_writes_it_once(tiny, unbroken):
  workdir, first = unbroken
  before = scores(workdir)
  again = train.train(tiny, workdir)
  assert again.complete and again.evaluations == first.evaluations
  assert looked(workdir) == ALL
  assert scores(workdir) == before


class Journal:
  """Remembers what it was told, and what an earlier stretch has written."""

  def __init__(self, *before):
    self.before, self.written = set(before), []

  def has(self, step, name):
    return (step, name) in self.before

  def pause(self, what):
    return contextlib.nullcontext()

  def evaluation(self, step, name, values, errors):
    self.written.append((step, name))

  def text(self, step, name, texts):
    self.written.append((step, name))


def looks(experiment, journal, stopped_at=None, scored=lambda step, values: None):
  """Looks that measure 1.5; the one named `stopped_at` is cut short."""
  measured = {"loss": Mean(3.0, 2.0)}
  return Looks(
    experiment,
    totals=lambda name, params: None if name == stopped_at else measured,
    write=lambda params: None if stopped_at == "samples" else [("", "text")],
    journal=journal,
    scored=scored,
  )


def test_what_is_due_is_what_its_interval_says_and_all_at_the_end(tiny):
  several = dataclasses.replace(
    tiny,
    evals={"a": Eval(objectives.NextToken(), every=2), "b": Eval(objectives.NextToken(), every=3)},
    samples=generate.Samples(("",), every=4),
    steps=7,
  )
  journal = Journal()
  made = looks(several, journal)
  assert all(made.after(step, None) for step in range(1, 8))
  assert journal.written == [
    (2, "a"), (3, "b"), (4, "a"), (4, "samples"), (6, "a"), (6, "b"),
    (7, "a"), (7, "b"), (7, "samples"),
  ]  # fmt: skip


def test_by_default_there_are_ten(tiny):
  default = dataclasses.replace(
    tiny, evals={"a": Eval(objectives.NextToken())}, samples=None, steps=45
  )
  journal = Journal()
  made = looks(default, journal)
  assert all(made.after(step, None) for step in range(1, 46))
  assert [step for step, _ in journal.written] == [*range(4, 45, 4), 45]


def test_after_one_that_was_cut_short_there_is_none(tiny):
  journal = Journal()
  assert not looks(tiny, journal, stopped_at="heldout").after(2, None)
  assert journal.written == []
  assert not looks(tiny, journal, stopped_at="again").after(2, None)
  assert journal.written == [(2, "heldout")]


def test_a_restart_does_what_was_due_and_is_not_written(tiny):
  journal = Journal((2, "heldout"))
  assert looks(tiny, journal).after_restart(2, None)
  assert journal.written == [(2, "again"), (2, "samples")]
  journal = Journal()
  assert looks(tiny, journal).after_restart(3, None)
  assert journal.written == []


def test_scores_are_told_by_evaluation_and_measure(tiny):
  told = []
  made = looks(tiny, Journal(), scored=lambda step, values: told.append((step, values)))
  assert made.after(2, None)
  assert told == [(2, {"heldout.loss": 1.5}), (2, {"again.loss": 1.5})]
  assert made.measured == {"heldout": {"loss": 1.5}, "again": {"loss": 1.5}}
