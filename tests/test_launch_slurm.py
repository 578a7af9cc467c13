"""Our script under a real SLURM: it runs, stops ahead of the limit, and is tried again or not."""

import json
import sys
import time
from pathlib import Path

import pytest
import slurm_cluster

from launch import machines, slurm
from launch.spec import Spec
from research.errors import UserError

# Almost all of the time goes into compiling; what is compiled runs for milliseconds.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
TINY = Path(__file__).parent / "tiny_experiment.py"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
  try:
    with slurm_cluster.Cluster(tmp_path_factory.mktemp("slurm")) as cluster:
      yield cluster
  except slurm_cluster.Missing as reason:
    pytest.skip(str(reason))


def script(*commands, topology="cpu:1x2", **fields):
  """The text for shell commands, each a run."""
  runs = {f"run_{i}": ("sh", "-c", command) for i, command in enumerate(commands)}
  fields = {"grace": 5, "hours": 0.1, **fields}
  return slurm.render(Spec(name="test", runs=runs, topology=machines.parse(topology), **fields))


def test_sbatch_takes_every_option(cluster):
  text = script("true", "false", hours=1.5, queue="test", parallel=2, sbatch=("--nice=5",))
  cluster.call("sbatch", "--test-only", text=text)


def test_a_run_has_all_its_processes_and_their_environment(cluster):
  number = cluster.submit(
    script('echo "$SLURM_PROCID of $SLURM_NTASKS: $GREETING"', environment={"GREETING": "it's a"})
  )
  assert cluster.wait(number)["ExitCode"] == "0:0"
  log = (cluster.folder / f"test-{number}.log").read_text()
  assert "0: 0 of 2: it's a" in log and "1: 1 of 2: it's a" in log


def test_an_array_runs_each_run_of_a_sweep_by_itself(cluster):
  number = cluster.submit(script(*(f"echo run {i} of the sweep" for i in range(3))))
  for task in range(3):
    assert cluster.wait(f"{number}_{task}")["ExitCode"] == "0:0"
    log = (cluster.folder / f"test-{number}_{task}.log").read_text()
    assert f"0: run {task} of the sweep" in log


@pytest.mark.parametrize("code", [2, 3, 4])
def test_what_another_try_cannot_mend_gets_none(cluster, code):
  number = cluster.submit(script(f"exit {code}"))
  job = cluster.wait(number)
  assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("FAILED", f"{code}:0", "0")


def test_a_mistake_is_final_also_where_it_killed_the_others(cluster):
  command = '[ "$SLURM_PROCID" = 1 ] && exit 2; sleep 1; kill -9 $$'
  job = cluster.wait(cluster.submit(script(command)))
  assert (job["JobState"], job["Restarts"]) == ("FAILED", "0")


@pytest.mark.parametrize("end", ["exit 42", "kill -9 $$", "exit 1"])
def test_what_was_stopped_or_killed_is_requeued(cluster, end, tmp_path):
  once = f"[ -e {tmp_path}/$SLURM_PROCID ] && exit 0; touch {tmp_path}/$SLURM_PROCID; {end}"
  number = cluster.submit(script(once))
  job = cluster.wait(number)
  assert (job["JobState"], job["Restarts"]) == ("PENDING", "1"), cluster.logs()
  cluster.start_again(number)
  assert cluster.wait(number, restarts=1)["ExitCode"] == "0:0"


@pytest.mark.parametrize(
  ("words", "state", "restarts"),
  [(("scancel",), "CANCELLED", "0"), (("scontrol", "requeue"), "PENDING", "1")],
)
def test_a_job_that_slurm_ends_is_started_again_as_slurm_decides(
  cluster, tmp_path, words, state, restarts
):
  """Cancelled by its owner, or requeued, as after a preemption: the run saves, and ends with 42."""
  here = f"{tmp_path}/$SLURM_PROCID"
  command = f'trap "touch {here}-saved; exit 42" TERM; touch {here}; while :; do sleep 0.1; done'
  number = cluster.submit(script(command))
  wait_for(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists(), cluster, number)
  cluster.call(*words, number)
  job = cluster.wait(number)
  assert (job["JobState"], job["Restarts"]) == (state, restarts), cluster.logs()
  assert (tmp_path / "0-saved").exists() and (tmp_path / "1-saved").exists()


@pytest.mark.slow
def test_each_run_of_a_sweep_ends_in_its_own_way(cluster, tmp_path):
  once = f"[ -e {tmp_path}/$SLURM_ARRAY_TASK_ID-$SLURM_PROCID ] && exit 0; "
  once += f"touch {tmp_path}/$SLURM_ARRAY_TASK_ID-$SLURM_PROCID; sleep 1; exit 42"
  number = cluster.submit(script("exit 2", once, "sleep 5", "exit 3", once))
  states = [cluster.wait(f"{number}_{task}") for task in range(5)]
  assert [(job["JobState"], job["Restarts"]) for job in states] == [
    ("FAILED", "0"),
    ("PENDING", "1"),
    ("COMPLETED", "0"),
    ("FAILED", "0"),
    ("PENDING", "1"),
  ]
  for task in (1, 4):
    cluster.start_again(f"{number}_{task}")
    assert cluster.wait(f"{number}_{task}", restarts=1)["JobState"] == "COMPLETED"


def test_the_tries_have_an_end(cluster):
  number = cluster.submit(script("kill -9 $$", retries=1))
  assert cluster.wait(number)["JobState"] == "PENDING"
  cluster.start_again(number)
  job = cluster.wait(number, restarts=1)
  assert (job["Restarts"], job["ExitCode"]) == ("1", "137:0")


def test_the_doctor_finds_all_processes(cluster):
  launch = str(Path(sys.executable).parent / "launch")
  spec = Spec(
    name="doctor",
    runs={"doctor": (launch, "doctor", "--topology=cpu:1x2")},
    topology=machines.parse("cpu:1x2"),
    environment={"XLA_FLAGS": QUICK, "JAX_PLATFORMS": "cpu"},
  )
  number = cluster.submit(slurm.render(spec))
  assert cluster.wait(number)["ExitCode"] == "0:0", cluster.logs()
  lines = [
    line.split() for line in (cluster.folder / f"doctor-{number}.log").read_text().split("\n")
  ]
  assert ["0:", "devices", "2", "2"] in lines


@pytest.mark.slow
def test_the_signal_comes_ahead_of_the_limit(cluster):
  begun = time.monotonic()
  command = 'trap "echo told; exit 42" TERM; while :; do sleep 0.2; done'
  number = cluster.submit(script(command, hours=2 / 60, grace=60))
  job = cluster.wait(number, seconds=180)
  assert job["JobState"] == "PENDING" and job["Restarts"] == "1"
  assert time.monotonic() - begun < 120
  assert cluster.logs().count("told") == 2
  cluster.call("scancel", number)


@pytest.mark.slow
def test_a_real_run_is_told_to_stop_requeued_and_resumes(cluster, tmp_path):
  """JAX finds the two processes by itself, from what SLURM tells them."""
  text = tmp_path / "text.txt"
  text.write_text("\n".join(f"{a} to be or not to be {b}" for a in range(20) for b in range(20)))
  workdir = tmp_path / "run"
  words = (f"text={text}", "steps=60", "--workdir", str(workdir))
  research = str(Path(sys.executable).parent / "research")
  spec = Spec(
    name="tiny",
    runs={"tiny": (research, "run", str(TINY), *words)},
    topology=machines.parse("cpu:1x2"),
    environment={"XLA_FLAGS": QUICK, "JAX_PLATFORMS": "cpu"},
    hours=1,
  )
  number = cluster.submit(slurm.render(spec))
  wait_for((workdir / "checkpoints" / "10").exists, cluster, number)
  cluster.call("scancel", "--batch", "--signal=USR1", number)
  job = cluster.wait(number)
  assert (job["JobState"], job["Restarts"]) == ("PENDING", "1"), cluster.logs()
  cluster.start_again(number)
  again = cluster.wait(number, restarts=1)
  assert again["ExitCode"] == "0:0", (again, cluster.logs())
  log = (cluster.folder / f"tiny-{number}.log").read_text()
  assert "2 cpu devices in 2 processes" in log
  assert "stopped at step" in log and "resumed at step" in log
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  assert max(line.get("step", 0) for line in lines) == 60


def wait_for(condition, cluster, number, seconds=120):
  end = time.monotonic() + seconds
  while not condition():
    assert cluster.job(number)["Restarts"] == "0" and time.monotonic() < end, cluster.logs()
    time.sleep(0.2)


@pytest.mark.parametrize(
  ("topology", "fields", "complaint"),
  [
    ("v5e:4x4", {}, "are TPUs; use jobset, tpu_vm or skypilot"),
    ("h100:2x8", {"sbatch": ("--qos high",)}, "is not --option or --option=value"),
  ],
)
def test_what_slurm_cannot_have_is_said(topology, fields, complaint):
  with pytest.raises(UserError, match=complaint):
    script("true", topology=topology, **fields)
