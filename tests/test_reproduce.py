"""What a file claims is judged by the runs that are there; what is missing is run, or said."""

import contextlib
import dataclasses
import errno
import io
import json
import re
import textwrap

import made_runs
import numpy as np
import pytest

from research import cli, disk, entry, load
from research.errors import UserError
from research.reproduce import declared, outcomes

FILE = '''"""Wider is better.

More about it.
"""

from research import Claim, Trend
from research.arms import arms
from tiny_experiment import experiment as tiny

SAID = {{"paper": "Kaplan <et al.>, 2020", "where": "figure 1", "metric": "{metric}"}}


def experiment(seeds=3):
  base = tiny("{text}")
  variants = {{"wide": {{"model.width": 64}}, "narrow": {{}}, "twin": {{"batch_size": 16}}}}
  variants |= {{"least": {{"model.width": 4}}, "alone": {{"steps": 3}}}}
  yield from arms(base, variants, seeds)


def few(seeds=3):
  yield from arms(tiny("{text}"), {{"wide": {{"model.width": 64}}}}, seeds)


CLAIMS = (
  Claim("width", sentence="Wide is better.", better="wide", worse="least", numbers=(2, 3), **SAID),
  Claim(
    "thin",
    sentence="Narrow is better.",
    better="least",
    worse="wide",
    numbers=(30, 20),
    unit="BLEU",
    **SAID,
  ),
  Claim("twins", sentence="It helps.", better="twin", worse="narrow", **SAID),
  Trend("widths", sentence="Always.", ordered=("least", "narrow", "wide"), **SAID),
  Claim("other", sentence="Elsewhere.", better="narrow", worse="nowhere", **SAID),
)
'''
LOSSES = {"wide": 1.0, "narrow": 1.3, "twin": 1.3, "least": 1.6}


def written(folder, **changed):
  """The file above in a folder, with a text to train on."""
  (folder / "text.txt").write_text("".join(f"line {i} of so many.\n" for i in range(400)))
  given = {"text": folder / "text.txt", "metric": "heldout.loss", **changed}
  path = folder / "claimed.py"
  path.write_text(textwrap.dedent(FILE.format(**given)))
  return path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  """The file, and the folder of its runs, in which all that its claims need has run."""
  tmp_path = tmp_path_factory.mktemp("done")
  path = written(tmp_path)
  random = np.random.default_rng(3)
  shared = random.normal(size=3)
  for experiment in load.recipe(str(path)).experiments():
    _, arm, seed = experiment.name.split("/")
    if arm in LOSSES:
      loss = LOSSES[arm] + 0.1 * shared[int(seed[-1])] + 0.01 * random.normal()
      folder = tmp_path / "runs" / experiment.name
      made_runs.make(folder, experiment, path, loss, cost=experiment.model.width / 16)
  return path, tmp_path / "runs"


@pytest.fixture(scope="module")
def judged(done):
  """The folder, and what the command printed."""
  path, runs = done
  with contextlib.redirect_stdout(io.StringIO()) as told:
    assert cli.main(["reproduce", str(path), "--workdir", str(runs)]) == 0
  return runs, told.getvalue()


def test_every_claim_gets_its_verdict(judged):
  runs, told = judged
  text = (runs / "verdicts.json").read_text()
  told_in_json = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
  assert {claim["paper"] for claim in told_in_json["claims"]} == {"Kaplan <et al.>, 2020"}
  found = {claim["name"]: claim["verdict"] for claim in told_in_json["claims"]}
  assert {name: verdict["outcome"] for name, verdict in found.items()} == {
    "width": "REPRODUCED",
    "thin": "NOT REPRODUCED",
    "twins": "INCONCLUSIVE",
    "widths": "REPRODUCED",
    "other": "INCONCLUSIVE",
  }
  assert found["width"]["effect"]["low"] < 0.6 < found["width"]["effect"]["high"]
  assert (
    found["width"]["paper"] == 1
    and found["thin"]["unit"] == "BLEU"
    and found["thin"]["paper"] == 10
  )
  assert "no arm 'nowhere'" in found["other"]["reason"]
  assert re.search(r"width +REPRODUCED", told) and "Kaplan <et al.>" in told
  assert "* In the paper: +10 (BLEU)" in told
  assert "2 reproduced, 1 not reproduced, 2 inconclusive" in " ".join(told.split())


def test_the_page_says_what_was_found_and_loads_nothing(judged):
  runs, _ = judged
  text = (runs / "reproduce.html").read_text(encoding="utf-8")
  assert "Kaplan &lt;et al.&gt;" in text and "<et" not in text and "<script" not in text
  assert "http:" not in text and "https:" not in text and "default-src 'none'" in text
  assert "Wider is better." in text and "More about it" not in text
  ids = re.findall(r'\bid="([^"]*)"', text)
  assert len(ids) == len(set(ids))
  for said in ("3 of 3", "model.width", "Reproduced</b> at this scale", "10.2k"):
    assert said in text


def test_failed_and_missing_runs_decide_nothing(done):
  path, runs = done
  recipe = load.recipe(str(path))
  claims, experiments = declared.claims(recipe), recipe.experiments()
  rows = rows_of(declared.needed(claims, experiments), runs)
  rows[0].state, rows[0].error = entry.FAILED, "the loss was NaN."
  results, found = outcomes.results(rows)
  verdict = claims[0].judge(results)
  assert verdict.outcome == "INCONCLUSIVE"
  assert "2 of 3 seeds are complete: wide failed (the loss was NaN) with seed 0" in verdict.reason
  assert set(found) == set(LOSSES)


def rows_of(experiments, runs):
  from research.sweep import row

  rows = row.rows(experiments, runs)
  for each in rows:
    each.state = entry.DONE
  return rows


def test_only_arms_of_claims_are_run(tmp_path):
  recipe = load.recipe(str(written(tmp_path)))
  needed = declared.needed(declared.claims(recipe), recipe.experiments())
  assert {experiment.name.split("/")[1] for experiment in needed} == set(LOSSES)


def test_what_cannot_be_judged_is_said_before_anything_runs(tmp_path):
  path = written(tmp_path)
  few = load.recipe(f"{path}:few")
  with pytest.raises(UserError, match="no claim has all of its arms: width needs 'least'"):
    declared.needed(declared.claims(few), few.experiments())
  (tmp_path / "other").mkdir()
  other = load.recipe(str(written(tmp_path / "other", metric="heldot.loss")))
  with pytest.raises(UserError, match="Did you mean 'heldout'"):
    declared.needed(declared.claims(other), other.experiments())
  with pytest.raises(UserError, match="declares no claims"):
    declared.claims(load.recipe("tests/tiny_experiment.py", ["text=x"]))


@pytest.mark.parametrize(
  ("change", "told"),
  [
    ({"seed": 5}, "wide/seed_0 has seed=5: runs of one seed .* leave seed=... out"),
    ({"name": "other/wide/seed_0", "steps": 3}, "of one arm and seed, so that a claim cannot"),
  ],
)
def test_no_run_stands_for_several(tmp_path, change, told):
  recipe = load.recipe(str(written(tmp_path)))
  experiments = recipe.experiments()
  wrong = dataclasses.replace(experiments[0], **change)
  others = experiments if "name" in change else experiments[1:]
  with pytest.raises(UserError, match=told):
    declared.needed(declared.claims(recipe), [wrong, *others])


@pytest.mark.parametrize(
  ("override", "told"),
  [
    ("evals.heldout.batches=3", r"is done, and was evaluated with \S+batches=\d+, for which"),
    ("evals.heldout.every=2", None),  # how often changes no figure
  ],
)
def test_figures_of_other_evaluations_are_not_taken(done, override, told):
  path, runs = done
  recipe = load.recipe(str(path), [override])
  claims = declared.claims(recipe)
  experiments = declared.needed(claims, recipe.experiments())
  with pytest.raises(UserError, match=told) if told else contextlib.nullcontext():
    declared.check_evaluated(claims, experiments, runs)


def test_verdicts_that_cannot_be_written_are_printed_and_told(done, tmp_path, monkeypatch, capsys):
  path, runs = done

  def refuse(path, contents):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(disk, "replace", refuse)
  assert cli.main(["reproduce", str(path), "--workdir", str(runs)]) == 2
  said = capsys.readouterr()
  assert "REPRODUCED" in said.out
  assert "cannot be written: No space left on device; make room" in said.err


@pytest.mark.slow
def test_what_is_missing_is_run(tmp_path):
  path = written(tmp_path)
  runs = tmp_path / "runs"
  words = ["seeds=2", "steps=4"]
  code = cli.main(["reproduce", str(path), *words, "--workdir", str(runs), "--workers", "2"])
  assert code == 0
  found = json.loads((runs / "verdicts.json").read_text())
  assert found["outcomes"]["wide"]["1"]["values"]["heldout.loss"] > 0
  # Two seeds are fewer than the claims ask for.
  assert "2 of 3 seeds are complete" in found["claims"][0]["verdict"]["reason"]
