"""Several runs are one page and two tables: arms over seeds, quality against cost, fields."""

import csv
import io
import itertools
import json
import math
import re
import shutil

import made_runs
import numpy as np
import pytest
from test_report import Tags
from tiny_experiment import experiment as tiny

from research import cli, optim, report
from research.arms import arms
from research.errors import UserError
from research.report import arm_plots, groups, importance, several, table_files


def ablation(folder, losses, seeds=3, samples=()):
  """Runs of arms whose widths differ, with losses around these."""
  random = np.random.default_rng(0)
  variants = {name: {"model.width": 4 * i + 2} for i, name in enumerate(losses)}
  for experiment in arms(tiny("text.txt"), variants, seeds):
    arm = experiment.name.split("/")[1]
    loss = losses[arm] + 0.01 * random.normal()
    cost = experiment.model.width
    at = folder / experiment.name
    texts = [(prompt, f"{arm} {text}") for prompt, text in samples]
    made_runs.make(at, experiment, __file__, loss, cost=cost, samples=texts)
  return folder


@pytest.fixture
def runs(tmp_path):
  samples = [("Once <b>", "upon a time"), ("Two", "three")]
  return ablation(tmp_path / "sweep", {"narrow": 1.4, "wide": 1.0}, samples=samples)


def written(runs, *more):
  assert cli.main(["report", str(runs), *more]) == 0
  return (runs / "report.html").read_text(encoding="utf-8")


def test_the_page_of_several_runs(runs):
  text = written(runs)
  tags = Tags(text)
  assert tags.open == [] and not {"script", "b>"} & {tag for tag, _ in tags.tags}
  ids = [attrs["id"] for _, attrs in tags.tags if "id" in attrs]
  assert len(ids) == len(set(ids))
  assert "http:" not in text and "https:" not in text and "default-src 'none'" in text
  assert "6 runs · 2 arms" in text
  assert "<b>wide</b> has the best heldout.nats: 1.0" in text and "over 3 seeds" in text
  assert text.index("<td>wide</td>") < text.index("<td>narrow</td>")  # the best first
  for heading in ("heldout.nats by step", "Quality against cost", "What they wrote"):
    assert f"<h2>{heading}</h2>" in text
  assert "What the fields do" not in text  # one field, few runs


def test_nothing_is_better_inside_of_the_noise(tmp_path):
  text = written(ablation(tmp_path, {"one": 1.0, "same": 1.001, "worse": 2.0}))
  assert re.search("Within the noise of it: (one|same).</p>", text)


def test_what_diverged_is_not_within_the_noise(tmp_path):
  text = written(ablation(tmp_path, {"good": 1.0, "diverged": math.nan}))
  assert "over 3 seeds" in text and "Within the noise" not in text
  assert "No arm has a finite" in written(ablation(tmp_path / "all", {"diverged": math.nan}))


def test_a_seed_alone_tells_nothing(tmp_path):
  ablation(tmp_path, {"good": 1.0, "one": 2.0})
  for seed in (1, 2):
    shutil.rmtree(next(tmp_path.rglob(f"one/seed_{seed}")))
  assert "Too few seeds to tell: one." in written(tmp_path)


def test_arms_can_differ_in_what_they_are_asked(tmp_path):
  base = tiny("text.txt")
  for experiment in arms(base, {"few": {}, "many": {"evals.heldout.batches": 3}}, seeds=2):
    made_runs.make(tmp_path / experiment.name, experiment, __file__, loss=1.0)
  assert "4 runs · 2 arms" in written(tmp_path)


def test_the_same_seed_again_is_no_further_seed(runs, tmp_path):
  shutil.copytree(runs, tmp_path / "again")
  assert "12 runs · 4 arms" in written(tmp_path)
  assert "over 3 seeds" in written(tmp_path)


def test_samples_stand_side_by_side_under_the_same_prompt(runs):
  pieces = written(runs).split('<div class="panels beside">')[1:]
  assert len(pieces) == 2
  assert "<mark>Once &lt;b&gt;</mark>wide upon" in pieces[0] and "narrow upon" in pieces[0]


def test_tables_for_others(runs):
  written(runs)
  rows = list(csv.DictReader(io.StringIO((runs / "runs.csv").read_text())))
  assert len(rows) == 6 and {row["arm"] for row in rows} == {"wide", "narrow"}
  first = rows[0]
  assert first["run"] == "tiny/narrow/seed_0" and first["seed"] == "0"
  assert float(first["heldout.loss"]) == pytest.approx(1.4, abs=0.05)
  assert first["model.width"] == "2" and float(first["flops"]) == 2e6 * made_runs.STEPS
  markdown = (runs / "runs.md").read_text().splitlines()
  assert markdown[1].startswith("| --- |") and len(markdown) == 4
  assert re.search(r"\| narrow \| 3 \| 1\.4\d* ± 0\.0.*\| 2 \|$", markdown[2])


def test_cells_cannot_break_a_table():
  assert table_files.as_markdown(["a|b"], [["c\nd"]]).splitlines()[::2] == ["| a\\|b |", "| c d |"]


def test_one_run_is_what_it_was(runs):
  one = runs / "tiny" / "wide" / "seed_0"
  assert "finished" in written(one)
  assert not (one / "runs.csv").exists()


def test_a_run_on_its_way_stands_beside_none_that_has_ended(tmp_path):
  runs = ablation(tmp_path / "sweep", {"narrow": 1.4, "wide": 1.0})
  path = runs / "tiny/wide/seed_2/metrics.jsonl"
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  early = [line for line in lines if line.get("step", 0) <= 10]
  path.write_text("".join(json.dumps(line) + "\n" for line in early))
  text = written(runs)
  assert "1 unfinished" in text and "<td>2 of 3</td>" in text
  assert "<b>wide</b> has the best heldout.nats: " in text and "over 2 seeds" in text
  assert "Within the noise" not in text
  rows = list(csv.DictReader(io.StringIO((runs / "runs.csv").read_text())))
  assert [row["step"] for row in rows if row["seed"] == "2"].count("10") == 1


def test_where_none_has_ended_all_are_shown(tmp_path):
  runs = ablation(tmp_path / "sweep", {"narrow": 1.4, "wide": 1.0})
  for path in runs.glob("*/*/*/metrics.jsonl"):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(x) + "\n" for x in lines if x.get("step", 0) <= 30))
  assert "<b>wide</b> has the best heldout.nats" in written(runs)


def test_a_run_that_failed_before_it_began_is_counted_and_hides_no_other(runs):
  folder = runs / "tiny/wide/seed_0"
  for name in ("metrics.jsonl", "experiment.json"):
    (folder / name).unlink()
  assert "5 runs · 2 arms" in (text := written(runs)) and "1 more failed before" in text


def test_runs_from_several_folders(runs, tmp_path):
  two = [str(runs / "tiny" / arm / "seed_0") for arm in ("wide", "narrow")]
  assert cli.main(["report", *two]) == 0
  assert (runs / "tiny" / "report.html").exists()
  assert cli.main(["report", *two, "--output", str(tmp_path)]) == 0
  assert "which cannot tell it from noise" in (tmp_path / "report.html").read_text()


def test_a_folder_without_runs_is_told(tmp_path, capsys):
  with pytest.raises(UserError, match="holds no runs"):
    report.write_several([], tmp_path)
  assert cli.main(["report", str(tmp_path)]) == 2
  assert "Traceback" not in capsys.readouterr().err


def test_each_folder_has_to_hold_runs(runs, tmp_path, capsys):
  one = str(runs / "tiny" / "wide" / "seed_0")
  assert cli.main(["report", one, str(tmp_path / "typo"), "--output", str(tmp_path)]) == 2
  assert "typo holds no runs" in capsys.readouterr().err


def test_a_sweep_shows_what_its_fields_do(tmp_path):
  random = np.random.default_rng(0)
  grid = itertools.product((1e-3, 1e-2, 1e-1), (8, 32), (4, 8))
  for i, (rate, width, batch) in enumerate(grid):
    fields = {"optimizer.learning_rate.peak": rate, "model.width": width, "batch_size": batch}
    base = tiny("text.txt", steps=39, width=2)
    kept = {k: v for k, v in fields.items() if base.describe().get(k) != repr(v)}
    loss = 2 + abs(np.log10(rate) + 2) - 0.01 * width + 0.02 * random.normal()
    made_runs.make(tmp_path / f"run_{i}", base.vary(f"run_{i}", kept), __file__, loss)
  text = written(tmp_path)
  part = text[text.index("What the fields do") :]
  names = re.findall(r"<tr class=\"\"><td>([\w.]+)</td><td>\d</td><td>(\d+) %", part)
  assert [name for name, _ in names][:2] == ["optimizer.learning_rate.peak", "model.width"]
  shares = {name: int(share) for name, share in names}
  assert shares["optimizer.learning_rate.peak"] > 80 and shares["batch_size"] <= 5


def test_what_a_field_explains():
  outcomes = np.random.default_rng(0).normal(size=200)
  assert importance.explained(np.arange(200) % 2, outcomes) < 0.05
  assert importance.explained(outcomes > 0, np.sign(outcomes)) == pytest.approx(1)
  assert 0.5 < importance.explained(outcomes, outcomes) < 0.95  # by quartile
  assert np.isnan(importance.explained(["a"] * 3, np.arange(3.0)))
  assert np.isnan(importance.explained(["a", "b", "c"], np.arange(3.0)))


def test_the_frontier_is_what_nothing_cheaper_beats():
  points = [("a", 1.0, 3.0), ("b", 2.0, 3.5), ("c", 3.0, 1.0), ("d", 3.0, 2.0)]
  assert arm_plots.frontier(points, lower=True) == [0, 2]
  assert arm_plots.frontier(points, lower=False) == [0, 1]


def test_seeds_are_one_group_and_other_fields_another(runs):
  found = groups.grouped(report.read(run) for run in sorted(runs.glob("tiny/*/*")))
  assert [(group.name, len(group.runs)) for group in found] == [("narrow", 3), ("wide", 3)]
  steps, values = found[0].curve("heldout", "nats")
  assert steps[-1] == made_runs.STEPS and values.shape == (3, 8)


def test_another_kind_of_part_is_told_once(tmp_path):
  variants = {"adam": {}, "slow": {"optimizer": optim.SGD(optim.Constant(1.0))}}
  variants["fast"] = {"optimizer": optim.SGD(optim.Constant(2.0))}
  for experiment in arms(tiny("text.txt"), variants, seeds=1):
    made_runs.make(tmp_path / experiment.name, experiment, __file__, loss=1.0)
  found = groups.differing([report.read(run) for run in sorted(tmp_path.glob("tiny/*/*"))])
  assert "optimizer" in found and not {"optimizer.b1", "optimizer.b2"} & set(found)
  assert any(path.startswith("optimizer.learning_rate") for path in found)


def test_more_of_a_share_is_better():
  assert not several.lower_is_better("heldout.accuracy") and several.lower_is_better("heldout.loss")
  assert not several.lower_is_better("retrieval.image_to_text_at_1")
  assert not several.lower_is_better("few.shots_5") and not several.lower_is_better(
    "in_context.gain"
  )
