"""Processes on this machine: all or none of them run, and what is worth another try gets one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import local
from launch.machines import Topology
from launch.spec import Spec
from research.errors import UserError

# Almost all of the time goes into compiling; what is compiled runs for milliseconds.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
TINY = Path(__file__).parent / "tiny_experiment.py"


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
  monkeypatch.setattr(local, "LONGEST", 0.05)
  monkeypatch.setattr(local, "SETTLE", 0.5)


def supervise(script, processes=2, retries=3, grace=5, words=(), **environment):
  """The exit code of so many `sh` processes; `$tries` counts the tries of each, from 0."""
  count = 'mine="$here/${RESEARCH_PROCESS-0}"; tries=$(cat "$mine" 2>/dev/null || echo 0); '
  count += 'echo $((tries + 1)) >"$mine"; '
  spec = Spec(
    name="test",
    runs={},
    topology=Topology("cpu", (1, processes)),
    environment=environment,
    retries=retries,
    grace=grace,
  )
  return local.supervise(spec, ["sh", "-c", count + script, *words])


def tries(folder, process=0):
  return int((folder / str(process)).read_text())


def test_when_one_dies_all_start_again(tmp_path, capfd):
  script = (
    '[ $tries -gt 0 ] && exit 0; [ "$RESEARCH_PROCESS" = 0 ] && exec sleep 60; '
    'until [ -s "$here/0" ]; do sleep 0.05; done; kill -9 $$'
  )
  assert supervise(script, here=str(tmp_path)) == 0
  assert (tries(tmp_path, 0), tries(tmp_path, 1)) == (2, 2)
  assert "process 1 was ended by SIGKILL; all start again" in capfd.readouterr().err


@pytest.mark.parametrize("code", [2, 3, 4])
def test_what_another_try_cannot_mend_gets_none(tmp_path, code):
  assert supervise(f"exit {code}", here=str(tmp_path)) == code
  # One may be gone before the other has begun.
  assert {path.read_text() for path in tmp_path.iterdir()} == {"1\n"}


def test_a_mistake_counts_more_than_the_deaths_it_causes(tmp_path):
  script = (
    'if [ "$RESEARCH_PROCESS" = 0 ]; then until [ -e "$here/ready" ]; do sleep 0.05; done; '
    'kill -6 $$; fi; trap "exit 2" TERM; touch "$here/ready"; sleep 60 & wait'
  )
  assert supervise(script, here=str(tmp_path)) == 2
  assert tries(tmp_path) == 1


def test_a_stop_with_a_checkpoint_goes_on_and_the_others_may_finish_saving(tmp_path):
  script = (
    '[ $tries -gt 0 ] && exit 0; [ "$RESEARCH_PROCESS" = 1 ] && exit 42; '
    'sleep 1; touch "$here/saved"; exit 42'
  )
  assert supervise(script, here=str(tmp_path)) == 0
  assert (tmp_path / "saved").exists()


def test_the_tries_have_an_end(tmp_path, capfd):
  script = '[ "$RESEARCH_PROCESS" = 0 ] || exec sleep 60; kill -9 $$'
  assert supervise(script, retries=2, here=str(tmp_path)) == 137
  assert tries(tmp_path) == 3
  assert "3 tries in a row brought no newer checkpoint" in capfd.readouterr().err


def test_tries_that_bring_newer_checkpoints_have_no_end(tmp_path):
  script = 'mkdir -p "$1/checkpoints/$tries"; [ $tries -lt 6 ] || exit 0; kill -9 $$'
  words = ("--workdir", str(tmp_path / "run"))
  assert supervise(script, processes=1, retries=1, words=words, here=str(tmp_path)) == 0
  assert tries(tmp_path) == 7


def test_what_a_process_left_behind_ends_with_it(tmp_path):
  assert supervise('sleep 1000 & echo $! >"$here/orphan$RESEARCH_PROCESS"', here=str(tmp_path)) == 0
  for process in (0, 1):
    orphan = int((tmp_path / f"orphan{process}").read_text())
    end = time.monotonic() + 30  # a signal has been sent; when it acts is the system's affair
    while alive(orphan) and time.monotonic() < end:
      time.sleep(0.01)
    assert not alive(orphan)


def test_a_process_that_ignores_the_end_of_another_is_ended(tmp_path):
  begun = time.monotonic()
  script = '[ "$RESEARCH_PROCESS" = 1 ] && exit 2; trap "" TERM; while :; do sleep 0.1; done'
  assert supervise(script, here=str(tmp_path)) == 2
  assert time.monotonic() - begun < 10


def test_every_line_says_whose_it_is(tmp_path, capfd):
  assert (
    supervise('echo "here is $RESEARCH_PROCESS of $RESEARCH_PROCESSES"', here=str(tmp_path)) == 0
  )
  lines = sorted(capfd.readouterr().out.splitlines())
  assert lines == ["[0] here is 0 of 2", "[1] here is 1 of 2"]


def test_a_lone_process_joins_nobody(tmp_path, capfd):
  script = 'echo "${RESEARCH_COORDINATOR-none}"'
  assert supervise(script, processes=1, here=str(tmp_path)) == 0
  assert capfd.readouterr().out == "none\n"


def test_a_taken_port_is_one_clear_line():
  with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    spec = Spec(name="test", runs={}, topology=Topology("cpu", (1, 2)))
    with pytest.raises(UserError, match=f"--port {port}: another program has that port"):
      local.supervise(spec, ["true"], port)


def test_processes_share_the_gpus_of_a_machine(monkeypatch):
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  monkeypatch.setattr(Path, "glob", lambda self, _: map(Path, ["/dev/nvidia0", "/dev/nvidia1",
                                                               "/dev/nvidiactl"]))  # fmt: skip
  assert local._share_of_gpus(1, 2, {}) == {"CUDA_VISIBLE_DEVICES": "1"}
  with pytest.raises(UserError, match="3 processes cannot share 2 GPUs evenly"):
    local._share_of_gpus(0, 3, {})


def test_processes_share_only_the_gpus_that_they_may_have(monkeypatch):
  monkeypatch.setattr(Path, "glob", lambda self, _: [Path(f"/dev/nvidia{i}") for i in range(8)])
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)

  def seen(**environment):
    spec = Spec(name="s", runs={}, topology=Topology("cpu", (1, 2)), environment=environment)
    return [local._variables(spec, i, 1).get("CUDA_VISIBLE_DEVICES") for i in range(2)]

  assert seen() == ["4,5", "6,7"]
  assert seen(CUDA_VISIBLE_DEVICES="GPU-a,GPU-b") == ["GPU-a", "GPU-b"]
  assert seen(CUDA_VISIBLE_DEVICES="") == ["", ""]
  assert seen(JAX_PLATFORMS="cpu") == [None, None]


def test_an_exit_code_that_is_no_signal_is_said(tmp_path, capfd):
  assert supervise("exit 255", processes=1, retries=0, here=str(tmp_path)) == 255
  assert "process 0 ended with exit code 255" in capfd.readouterr().err


def test_a_second_run_that_is_behind_the_first_is_progress(tmp_path):
  script = 'mkdir -p "$1/b/checkpoints/$tries"; [ $tries -lt 4 ] || exit 0; kill -9 $$'
  (tmp_path / "runs" / "a" / "checkpoints" / "600").mkdir(parents=True)
  words = ("--workdir", str(tmp_path / "runs"))
  assert supervise(script, processes=1, retries=1, words=words, here=str(tmp_path)) == 0


def launcher(*arguments):
  """`launch local ... --submit` as a process of its own."""
  words = [sys.executable, "-m", "launch.cli", "local", *arguments, "--submit"]
  environment = {**os.environ, "XLA_FLAGS": QUICK, "PYTHONUNBUFFERED": "1"}
  return subprocess.Popen(
    words, cwd=TINY.parent.parent, env=environment, text=True,
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
  )  # fmt: skip


def children(pid):
  """Ranks of the processes that a launcher has started -> their pids."""
  found = {}
  for folder in Path("/proc").glob("[0-9]*"):
    try:
      parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
      words = (folder / "environ").read_bytes().split(b"\0")
    except (OSError, IndexError):
      continue
    if parent == pid:
      rank = [word[17:] for word in words if word.startswith(b"RESEARCH_PROCESS=")]
      found[int(rank[0]) if rank else 0] = int(folder.name)
  return found


def alive(pid):
  try:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
  except OSError:
    return False


def wait_for(condition, process, seconds=120):
  end = time.monotonic() + seconds
  while not condition():
    assert process.poll() is None and time.monotonic() < end, process.stdout.read()
    time.sleep(0.02)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  path = tmp_path_factory.mktemp("text") / "text.txt"
  path.write_text("\n".join(f"{a} to be or not to be {b}" for a in range(20) for b in range(20)))
  return path


def final(workdir):
  """The numbers of the last evaluation."""
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  last = [line for line in lines if line["split"] == "heldout"][-1]
  return {name: last[name] for name in ("step", "loss", "accuracy")}


def run(text, workdir, processes):
  return launcher(
    str(TINY), f"text={text}", "steps=60", f"--processes={processes}", f"--workdir={workdir}"
  )


@pytest.fixture(scope="module")
def unbroken(text, tmp_path_factory):
  """What two processes come to that nobody disturbs."""
  workdir = tmp_path_factory.mktemp("unbroken") / "run"
  process = run(text, workdir, processes=2)
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  return final(workdir)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_with_a_killed_process_comes_to_the_same(text, tmp_path, unbroken, processes):
  workdir = tmp_path / "run"
  process = run(text, workdir, processes)
  try:
    wait_for((workdir / "checkpoints" / "10").exists, process)
    before = children(process.pid)
    assert sorted(before) == list(range(processes))
    os.kill(before[processes - 1], signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
  finally:
    process.terminate()
  assert process.returncode == 0, output
  assert f"process {processes - 1} was ended by SIGKILL" in output
  assert "resumed at step" in output
  assert final(workdir) == pytest.approx(unbroken, rel=1e-5 if processes != 2 else 0)
  assert not any(map(alive, before.values()))


@pytest.mark.slow
def test_sigterm_stops_all_with_a_checkpoint_and_the_same_command_goes_on(text, tmp_path, unbroken):
  workdir = tmp_path / "run"
  process = run(text, workdir, processes=2)
  wait_for((workdir / "checkpoints" / "10").exists, process)
  process.send_signal(signal.SIGTERM)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 42, output
  assert "start again" not in output
  again = run(text, workdir, processes=2)
  output, _ = again.communicate(timeout=300)
  assert again.returncode == 0, output
  assert final(workdir) == unbroken
