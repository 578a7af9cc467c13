"""A sweep runs each experiment once, in a process of its own, whatever becomes of processes."""

import argparse
import dataclasses
import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from launch import cli as launch_cli
from research import UserError, entry, load, lock
from research.ledger import Ledger, conditions
from research.sweep import clusters, command, display, dry_run, probe, processes, row, runner
from research.sweep.shares import shares

FILE = Path(__file__).parent / "counted_runs.py"
TINY = Path(__file__).parent / "tiny_experiment.py"


@pytest.fixture
def here(tmp_path):
  text = "\n".join(f"{a} to be or not to be {b}" for a in range(20) for b in range(20))
  (tmp_path / "text.txt").write_text(text)
  return tmp_path


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
  monkeypatch.setattr(runner, "LONGEST", 0.05)
  monkeypatch.setattr(processes, "TURN", 0.05)
  monkeypatch.setattr(runner, "HELD_SECONDS", 0.05)


def swept(here, deeds="end,end,end", workers=2, file=FILE):
  recipe = load.recipe(str(file), [f"folder={here}", f"deeds={deeds}"])
  return runner.sweep(recipe, recipe.experiments(), here / "runs", workers=workers)


def starts(here):
  """(name, process, cores) of every start."""
  return [line.split() for line in (here / "starts").read_text().splitlines()]


def until(so):
  end = time.monotonic() + 300  # the machine may be busy
  while not so():
    assert time.monotonic() < end
    time.sleep(0.02)


def states(found):
  return [each.state for each in found.rows]


def test_each_run_has_a_process_a_folder_and_a_share_of_the_machine(here, capfd):
  found = swept(here, "end,end,end")
  assert states(found) == ["done"] * 3 and found.exit_code == 0
  begun = starts(here)
  assert len({process for _, process, _ in begun}) == 3
  parts = {",".join(map(str, part.cores)) for part in shares(2, 3)}
  assert {cores for _, _, cores in begun} <= parts
  for each in found.rows:
    assert entry.read(each.workdir).state == "done"
    assert lock.holder(each.workdir) is None
  with Ledger(here / "runs") as ledger:
    assert len(ledger.find([conditions.parse("state=done")])) == 3
  assert "run/2 done" in capfd.readouterr().err


def test_what_is_done_is_not_run_again_nor_overwritten_by_another_experiment(here):
  swept(here, "end,end", workers=1)
  again = swept(here, "end,crash,end", workers=1)
  assert [name for name, *_ in starts(here)] == ["run/0", "run/1", "run/2"]
  assert states(again) == ["done", "failed", "done"] and again.exit_code == 2
  assert again.summary() == "2 of 3 runs done (1 of them before), 1 failed"
  assert "holds the run of another experiment" in again.rows[1].error
  assert entry.read(here / "runs/run/1").state == "done"
  assert row.by_other_code(again.rows, entry.code(FILE)) == 0
  assert row.by_other_code(again.rows, "another") == 1


def test_a_failure_is_kept_and_ends_no_other_run(here, monkeypatch, capfd):
  monkeypatch.setattr(runner, "TRIES", 1)
  found = swept(here, "refuse,end,crash,die")
  assert states(found) == ["failed", "done", "failed", "failed"] and found.exit_code == 2
  refused, _, crashed, died = found.rows
  assert refused.error == "nothing pleases it; give it up."
  assert crashed.error.startswith("KeyError: 'crashed'; 2 tries in a row")
  assert died.error.startswith("ended by SIGKILL; where memory was short")
  assert found.summary() == "1 of 4 runs done, 3 failed"
  assert [name for name, *_ in starts(here)].count("run/0") == 1  # no repetition helps
  assert [name for name, *_ in starts(here)].count("run/3") == 2
  for each in found.failed:
    assert each.error.startswith(entry.read(each.workdir).error)
  assert "about to die" in (died.workdir / "output.log").read_text()
  with Ledger(here / "runs") as ledger:
    failed = ledger.find([conditions.parse("state=failed"), conditions.parse("error~sigkill")])
  assert [each.folder for each in failed] == ["run/3"]


def test_what_fails_before_it_begins_is_kept_too(here):
  text = here / "text.txt"
  words = [f"text={text}", "model.heads=3"]
  recipe = load.recipe(str(TINY), words)
  found = runner.sweep(recipe, recipe.experiments(), here / "runs")
  assert "heads=3 does not divide width=16" in found.rows[0].error
  with Ledger(here / "runs") as ledger:
    ledger.refresh()
    (told,) = ledger.find()
  assert told.run["error"] == found.rows[0].error and told.fields["name"] == "tiny"


def test_a_failure_is_told_as_it_was_the_last_time(here, monkeypatch):
  first = swept(here, "refuse").rows[0]
  monkeypatch.setattr(runner, "TRIES", 0)
  (here / "text.txt").unlink()  # of which the process says so before its entry is written
  again = swept(here, "refuse").rows[0]
  assert first.error == "nothing pleases it; give it up."
  assert "text.txt" in again.error and "pleases" not in again.error
  assert entry.read(again.workdir).error == again.error


def test_a_run_whose_process_was_killed_is_started_again(here, capfd):
  found = swept(here, "die once,end")
  assert states(found) == ["done", "done"]
  assert [name for name, *_ in starts(here)].count("run/0") == 2
  assert entry.read(here / "runs/run/0").starts == 2
  assert "run/0 waiting: ended by SIGKILL; it is started again" in capfd.readouterr().err


def test_a_run_that_another_process_is_at_work_on_is_waited_for(here, capfd):
  begun = threading.Event()

  def hold():
    with lock.alone_in(here / "runs/run/0"):
      begun.set()
      until(lambda: (here / "starts").exists())  # the other one has begun

  holder = threading.Thread(target=hold)
  holder.start()
  begun.wait(60)
  found = swept(here, "end,end")
  holder.join()
  assert states(found) == ["done", "done"]
  assert [name for name, *_ in starts(here)] == ["run/1", "run/0"]
  assert f"run/0 in use: process {os.getpid()}" in capfd.readouterr().err


@pytest.mark.parametrize(("deed", "begun"), [("end", False), ("refuse", True)])
def test_a_run_that_another_process_ends_meanwhile_is_done(here, monkeypatch, deed, begun):
  (made,) = load.recipe(str(FILE), [f"folder={here}", f"deeds={deed}"]).experiments()
  done = dataclasses.replace(entry.first(made, FILE), state=entry.DONE)

  def holder(workdir):  # it ends just before it is asked for
    if (here / "starts").exists() == begun:
      entry.write(workdir, done)

  monkeypatch.setattr(lock, "holder", holder)
  assert states(swept(here, deed)) == ["done"]
  assert (here / "starts").exists() == begun
  assert entry.read(here / "runs/run/0").state == entry.DONE


def test_a_folder_that_cannot_be_made_ends_no_other_run(here):
  (here / "runs/run").mkdir(parents=True)
  (here / "runs/run/0").touch()
  found = swept(here, "end,end")
  assert states(found) == ["failed", "done"] and found.exit_code == 2
  assert "run/0 cannot be made: " in found.rows[0].error


@pytest.mark.parametrize(("old", "new"), [("run/{i}", "arm/of/{i}"), ("length=8", "length=16")])
def test_a_file_that_is_edited_meanwhile_runs_nothing_else(here, old, new):
  file = here / "edited.py"
  file.write_text(FILE.read_text())
  recipe = load.recipe(str(file), [f"folder={here}", "deeds=end"])
  made = recipe.experiments()
  file.write_text(file.read_text().replace(old, new))
  (told,) = runner.sweep(recipe, made, here / "runs").rows
  assert told.error.startswith(f"{file} has changed since this sweep began, and run/0 with it")
  assert not (here / "starts").exists()


@pytest.mark.parametrize(
  "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_stops_all_and_the_same_sweep_goes_on(here, number):
  def send():
    until(lambda: (here / "starts").exists() and len(starts(here)) == 2)
    os.kill(os.getpid(), number)

  threading.Thread(target=send).start()
  stopped = swept(here, "wait,wait,wait")
  assert states(stopped) == ["stopped"] * 3 and stopped.exit_code == 42
  assert not any(alive(process) for _, process, _ in starts(here))
  (here / "go on").touch()
  assert states(swept(here, "wait,wait,wait")) == ["done"] * 3


def alive(pid):
  try:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
  except OSError:
    return False


@pytest.mark.slow
def test_a_killed_runner_leaves_nobody_behind_and_the_next_one_goes_on(here):
  words = ["sweep", str(FILE), f"folder={here}", "deeds=end,wait,wait", "--workers=2"]
  start = [sys.executable, "-m", "research.cli", *words, f"--workdir={here / 'runs'}"]
  with subprocess.Popen(start, cwd=FILE.parent.parent, stderr=subprocess.DEVNULL) as first:
    try:
      until(lambda: (here / "starts").exists() and len(starts(here)) == 3)
    finally:
      first.kill()
  (here / "go on").touch()
  # It does not wait for those of the first to end: they may be at work still.
  again = subprocess.run(start, cwd=FILE.parent.parent, capture_output=True, text=True, check=False)
  assert again.returncode == 0, again.stderr
  assert again.stdout.startswith("3 of 3 runs done (1 of them before)")
  assert [name for name, *_ in starts(here)].count("run/0") == 1
  until(lambda: not any(alive(process) for _, process, _ in starts(here)))


@pytest.mark.slow
def test_a_dry_run_measures_and_writes_nothing(here, capsys):
  recipe = load.recipe(f"{TINY}:widths", [f"text={here / 'text.txt'}"])
  assert dry_run.show(recipe, recipe.experiments(), here / "runs", 2) == 0
  told = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in told[1:4]] == [f"tiny/width_{n}" for n in (8, 16, 32)]
  assert told[4].startswith("3 runs, 3 to do, 2 at once: about ")
  assert not (here / "runs").exists()


def test_a_dry_run_measures_one_of_those_that_differ_in_their_seeds(here):
  first, *others = load.recipe(f"{TINY}:widths", ["text=t"]).experiments()
  seeds = [dataclasses.replace(first, name=f"tiny/w/seed_{i}", seed=i) for i in range(3)]
  found = dry_run.kinds([*seeds, *others], here)
  assert [(kind.label, len(kind.experiments), kind.todo) for kind in found] == [
    ("tiny/w/*", 3, 3),
    ("tiny/width_16", 1, 1),
    ("tiny/width_32", 1, 1),
  ]


def test_the_time_of_a_sweep_is_that_of_the_worker_who_ends_last():
  assert dry_run.together([3, 1, 1, 1], workers=2) == 3
  assert dry_run.together([1, 1, 3], workers=2) == 4
  assert math.isnan(dry_run.together([1, math.nan], workers=1))
  assert math.isnan(dry_run.together([1, math.nan], workers=2))


def test_a_dry_run_adds_up_the_runs_that_there_are_to_do(here, monkeypatch, capsys):
  first, other, _ = load.recipe(f"{TINY}:widths", ["text=t"]).experiments()
  seeds = [dataclasses.replace(first, name=f"tiny/w/seed_{i}", seed=i) for i in range(10)]
  entry.write(here / other.name, dataclasses.replace(entry.first(other, TINY), state="done"))
  known = probe.Cost(flops=1e6, memory=3e6, compile_seconds=1, train_seconds=2)
  costs = [known, dataclasses.replace(known, flops=math.nan, memory=9e9)]
  monkeypatch.setattr(dry_run, "measure", lambda *_: costs)
  dry_run.show(None, [*seeds, other], here, workers=4)
  told = capsys.readouterr().out.splitlines()[-1]
  assert "11 runs, 10 to do, 4 at once" in told
  assert "10M FLOPs; at most 12MB of the machine's" in told


@pytest.mark.parametrize(
  ("cores", "workers", "parts"),
  [
    (4, 2, [(0, 1), (2, 3)]),
    (4, 3, [(0,), (1,), (2, 3)]),
    (2, 3, [(0,), (1,), (0,)]),
    (3, None, [(0,), (1,), (2,)]),
  ],
)
def test_workers_share_the_cores(monkeypatch, cores, workers, parts):
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
  cpu = {"JAX_PLATFORMS": "cpu"}
  assert [share.cores for share in shares(workers, 9, cpu)] == parts
  assert len(shares(workers, 1, cpu)) == 1


@pytest.mark.parametrize(
  ("gpus", "workers", "seen", "fraction"),
  [
    ("0,1", None, ["0", "1"], [None, None]),
    ("0,1,2,3", 2, ["0,1", "2,3"], [None, None]),
    ("3,5", 3, ["3", "5", "3"], ["0.450", None, "0.450"]),
    ("0,-1,1", None, ["0"], [None]),
    ("GPU-1a,GPU-1b", None, ["GPU-1a", "GPU-1b"], [None, None]),
  ],
)
def test_workers_share_the_gpus(gpus, workers, seen, fraction):
  found = [share.environment for share in shares(workers, 9, {"CUDA_VISIBLE_DEVICES": gpus})]
  assert [part["CUDA_VISIBLE_DEVICES"] for part in found] == seen
  assert [part.get("XLA_PYTHON_CLIENT_MEM_FRACTION") for part in found] == fraction


@pytest.mark.parametrize(
  ("platforms", "gpus", "seen"),
  [("cuda,cpu", "0", {"0"}), ("cpu,cuda", "0", {None}), ("cuda", "-1", {None})],
)
def test_gpus_count_where_jax_computes_on_them(platforms, gpus, seen):
  found = shares(None, 9, {"JAX_PLATFORMS": platforms, "CUDA_VISIBLE_DEVICES": gpus})
  assert {share.environment.get("CUDA_VISIBLE_DEVICES") for share in found} == seen


def test_tpus_belong_to_one_process(monkeypatch):
  monkeypatch.setattr("research.cluster.on_tpu_machine", lambda _: True)
  monkeypatch.setattr("research.sweep.shares._gpus", lambda _: [])
  assert len(shares(None, 9, {})) == 1
  with pytest.raises(UserError, match="--workers 2: the TPUs"):
    shares(2, 9, {})


def test_the_pace_of_a_run_is_that_of_its_last_lines(tmp_path):
  lines = [{"split": "train", "step": s, "time": 0.5 * s, "loss": 9 - s} for s in (2, 4, 6)]
  text = "\n".join(map(json.dumps, [*lines, {"split": "heldout", "step": 6, "loss": 1}]))
  (tmp_path / "metrics.jsonl").write_text('ut"}\n' + text + '\n{"split": "tra')
  assert display.pace(tmp_path) == (6, 0.5, 3)
  assert display.pace(tmp_path / "nowhere").step == 0


def rows(*states, steps=10):
  return [row.Row(f"r/{i}", Path(), "", steps, state) for i, state in enumerate(states)]


def test_the_time_left_counts_what_runs_and_what_has_not_begun():
  found = rows("done", "running", "waiting", "failed")
  paces = {"r/1": display.Pace(6, 0.5)}
  assert display.left(found, paces, workers=2) == (4 * 0.5 + 10 * 0.5) / 2
  assert display.left(found, {}, workers=2) is None


@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_shown_says_how_all_stand(terminal, monkeypatch):
  stream = io.StringIO()
  monkeypatch.setattr(stream, "isatty", lambda: terminal)
  monkeypatch.setattr(display, "EVERY", {True: 0, False: 0})
  found = rows("running", "waiting", "failed")
  found[2].error = "too hot"
  with display.display(found, 1, stream) as shown:
    shown.tell(found[2])
    shown.update()
  told = stream.getvalue()
  assert "r/2 failed: too hot\n" in told
  assert "1 failed, 1 running, 1 waiting" in told
  assert ("0/10" in told) == terminal


def test_folders_do_not_lie_in_one_another(here):
  first, *_ = load.recipe(str(FILE), [f"folder={here}", "deeds=end,end,end"]).experiments()
  inside = dataclasses.replace(first, name="run/0/more")
  with pytest.raises(UserError, match="run/0/more would lie within that of run/0"):
    row.rows([first, inside], here)
  (here / "experiment.json").touch()
  with pytest.raises(UserError, match="is the folder of a run"):
    row.rows([first], here)


@pytest.mark.parametrize(("only", "count"), [(None, 3), ("run", 3), ("run/1", 1), ("run/", 3)])
def test_only_takes_what_is_below_a_name(here, only, count):
  made = load.recipe(str(FILE), [f"folder={here}", "deeds=end,end,end"]).experiments()
  assert len(command.chosen(made, only)) == count
  with pytest.raises(UserError, match="Did you mean 'run/1'"):
    command.chosen(made, "rnu/1")


def options(here, **named):
  given = {
    "file": f"{TINY}:widths", "words": ["text=t"], "workdir": here, "only": None, "workers": None,
    "dry_run": False, "launcher": "slurm", "topology": "cpu:1", "launch": ["--queue=short"],
    "submit": False, **named,
  }  # fmt: skip
  return argparse.Namespace(**given)


def test_a_cluster_gets_what_is_not_done(here, monkeypatch):
  made = load.recipe(f"{TINY}:widths", ["text=t"]).experiments()
  done = entry.first(made[1], TINY)
  entry.write(here / made[1].name, dataclasses.replace(done, state="done"))
  called = []
  monkeypatch.setattr(
    clusters.subprocess,
    "run",
    lambda words, check: called.append(words) or subprocess.CompletedProcess(words, 5),
  )
  assert clusters.hand_over(options(here), made, alone=False) == 5
  assert called[0][1:] == [
    "slurm", f"{TINY}:widths", "text=t", "--only=tiny/width_8", "--only=tiny/width_32",
    f"--workdir={here}", "--topology=cpu:1", "--queue=short",
  ]  # fmt: skip
  assert clusters.words(options(here, launcher="gke"), ["tiny"], alone=True)[0] == "jobset"
  assert f"--workdir={here}/tiny" in clusters.words(options(here), ["tiny"], alone=True)


@pytest.mark.parametrize(
  ("named", "told"),
  [
    ({"workers": 2}, "--workers means nothing to a cluster"),
    ({"dry_run": True}, "--dry-run means nothing to a cluster"),
    ({"launcher": "local"}, "--topology is for --launcher slurm or gke"),
  ],
)
def test_an_option_that_would_do_nothing_is_refused(here, named, told):
  with pytest.raises(UserError, match=told):
    command.run(options(here, **named))


def test_slurm_gets_an_array_of_the_runs(here, monkeypatch, capsys):
  def launch(words, check):
    return subprocess.CompletedProcess(words, launch_cli.main(words[1:]))

  monkeypatch.setattr(clusters.subprocess, "run", launch)
  assert command.run(options(here)) == 0
  script = capsys.readouterr().out
  assert "#SBATCH --array=0-2\n" in script and "#SBATCH --partition=short\n" in script
  assert f"--only tiny/width_16 --workdir {here}/tiny/width_16" in script
