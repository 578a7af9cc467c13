"""Processes of one job compute what one process does, write once, and end together.

Real processes on 127.0.0.1, each with one device of the CPU, started by the command line.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from research import cluster, distributed, load, train
from research.data import pipeline
from research.errors import RunError, UserError
from research.mesh import Sharding
from research.stacking import unstack

FILE = '''
"""A tiny GPT, of which every read of the data leaves a file that says which process read what."""
import dataclasses, os, pathlib
from research import Eval, Experiment, Keep, Sharding, data, generate, models, objectives, optim

HERE = pathlib.Path(__file__).parent

@dataclasses.dataclass(frozen=True)
class Seen:
  text: data.Text

  def prepare(self):
    return self.text.prepare()

  def source(self, split):
    return Recorded(self.text.source(split), split)

class Recorded:
  def __init__(self, source, split):
    self.source, self.split = source, split

  def __len__(self):
    return len(self.source)

  def take(self, indices, epoch):
    if self.split == "train" and "RESEARCH_PROCESS" in os.environ:
      folder = HERE / "seen" / os.environ["RESEARCH_PROCESS"]
      folder.mkdir(parents=True, exist_ok=True)
      (folder / "-".join(map(str, [epoch, *indices]))).touch()
    return self.source.take(indices, epoch)

def experiment(name="data", data_size=-1, fsdp=1, tensor=1, steps=4, save_every=2):
  next_token = objectives.NextToken()
  text = data.Text(data.Files(str(HERE / "text.txt"), separator="\\n"), data.Bytes(), length=32,
                   split=data.ByHash(heldout=0.1))
  return Experiment(
    name=name,
    data=Seen(text),
    model=models.GPT(vocab_size=264, max_length=32, width=16, depth=1, heads=2),
    objective=next_token,
    optimizer=optim.SGD(optim.Constant(0.1), clip=1.0),
    steps=steps,
    batch_size=8,
    save_every=save_every,
    keep=Keep(9),
    log_every=1,
    # The last batch of the first is not full; the second leaves nothing to one of the processes.
    evals={"heldout": Eval(next_token, every=4), "few": Eval(next_token, every=4, batch_size=512)},
    samples=generate.Samples(("to be",), tokens=4, every=4) if name == "fsdp" else None,
    baselines={"bigram": models.NGram(order=2)} if name == "fsdp" else {},
    sharding=Sharding({"data": data_size, "fsdp": fsdp, "tensor": tensor}),
  )

def all_meshes():
  yield experiment()
  yield experiment("fsdp", data_size=1, fsdp=-1)
  yield experiment("tensor", data_size=1, tensor=-1)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("job")
  words = np.random.RandomState(0).choice(["to", "be", "or", "not", "that", "is"], 4_000)
  lines = [" ".join(words[i : i + 10]) for i in range(0, 4_000, 10)]
  (folder / "text.txt").write_text("\n".join(lines))
  (folder / "tiny.py").write_text(FILE)
  return folder


@contextlib.contextmanager
def started(folder, count, *words, **environment):
  """`count` processes of `research run`, ended when the block is left."""
  with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    port = taken.getsockname()[1]
  flags = re.sub(r"device_count=\d+", "device_count=1", os.environ["XLA_FLAGS"])
  processes = []
  try:
    for i in range(count):
      shared = {
        **os.environ,
        "XLA_FLAGS": flags,
        "RESEARCH_COORDINATOR": f"127.0.0.1:{port}",
        "RESEARCH_PROCESSES": str(count),
        "RESEARCH_PROCESS": str(i),
        **environment,
      }
      processes.append(
        subprocess.Popen(
          [sys.executable, "-m", "research.cli", "run", *words],
          cwd=folder,
          env=shared,
          stdout=subprocess.PIPE,
          stderr=subprocess.STDOUT,
          text=True,
        )
      )
    yield processes
  finally:
    for process in processes:
      process.kill()
      process.communicate()


def ended(processes, seconds=120):
  """The exit codes and what was printed, without the lines of the libraries underneath."""
  texts = [process.communicate(timeout=seconds)[0] for process in processes]
  quiet = [
    [line for line in text.splitlines() if not re.match(r"\[Gloo\]|[IWE]\d{4} ", line)]
    for text in texts
  ]
  return [process.returncode for process in processes], quiet


def alone(folder, workdir, devices, *words):
  """The same experiment in this process, on so many of its devices."""
  experiments = load.recipe(str(folder / "tiny.py"), words).experiments()
  mesh = experiments[0].sharding.make_mesh(jax.devices()[:devices])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Sharding, "make_mesh", lambda self: mesh)
    train.train(experiments[0], workdir)
  return arrays(workdir)


def arrays(workdir, step=None):
  import orbax.checkpoint as ocp

  path = workdir / "checkpoints" / str(step or max(saved(workdir)))
  reader = ocp.PyTreeCheckpointer()
  plain = ocp.RestoreArgs(restore_type=np.ndarray)  # its devices are not here
  wanted = jax.tree.map(lambda _: plain, reader.metadata(path).item_metadata.tree)
  return unstack(reader.restore(path, restore_args=wanted))


def saved(workdir):
  return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def lines(workdir, split):
  text = (workdir / "metrics.jsonl").read_text()
  found = [json.loads(line) for line in text.splitlines()]
  return [line for line in found if line["split"] == split]


def assert_same(a, b, **tolerance):
  assert sorted(a) == sorted(b)
  for name in a:
    np.testing.assert_allclose(a[name], b[name], err_msg=name, **tolerance)


def assert_same_numbers(one, other, rtol):
  for split in ("train", "heldout", "few"):
    for a, b in zip(lines(one, split), lines(other, split), strict=True):
      for name in {"loss", "accuracy", "bits_per_byte", "gradient_norm"} & set(a):
        assert a[name] == pytest.approx(b[name], rel=rtol), (split, name)


@pytest.fixture(scope="module")
def two(folder):
  """What two processes print and leave that run all three meshes."""
  with started(folder, 2, "tiny.py:all_meshes", "--workdir", "two") as processes:
    codes, printed = ended(processes)
  assert codes == [0, 0], printed
  return printed


@pytest.mark.parametrize(
  "name", ["data", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fsdp", "tensor"))]
)
def test_two_processes_give_the_very_bits_of_one_with_two_devices(folder, two, name, tmp_path):
  mesh = {"data": (), "fsdp": ("name=fsdp", "data_size=1", "fsdp=2")}
  mesh["tensor"] = ("name=tensor", "data_size=1", "tensor=2")
  one = alone(folder, tmp_path, 2, *mesh[name])
  assert_same(one, arrays(folder / "two" / name), rtol=0, atol=0)
  assert_same_numbers(tmp_path, folder / "two" / name, rtol=0)


def test_two_processes_match_one_device(folder, two, tmp_path):
  one = alone(folder, tmp_path, 1)
  assert_same(one, arrays(folder / "two" / "data"), rtol=1e-5, atol=1e-7)
  assert_same_numbers(tmp_path, folder / "two" / "data", rtol=1e-6)


def test_the_reads_of_the_processes_are_the_global_batches(folder, two):
  experiment = load.recipe(str(folder / "tiny.py")).experiment()
  source = dataclasses.replace(experiment.data.text).source("train")
  order = pipeline._Steps(source, 8, None, experiment.seed).order(0)
  for step in range(experiment.steps):
    rows = order[8 * step : 8 * step + 8]
    for process in range(2):
      seen = "-".join(map(str, [0, *rows[4 * process : 4 * process + 4]]))
      assert (folder / "seen" / str(process) / seen).exists(), (step, process)
    # Under tensor parallelism both hold, and read, the whole batch.
    whole = "-".join(map(str, [0, *rows]))
    assert all((folder / "seen" / str(process) / whole).exists() for process in range(2))


def test_only_process_0_prints_and_writes(folder, two):
  assert two[1] == []
  assert sum(line.startswith("report: ") for line in two[0]) == 3
  for name in ("data", "fsdp", "tensor"):
    run = folder / "two" / name
    assert [line["step"] for line in lines(run, "train")] == [1, 2, 3, 4]
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert not list(run.glob(".seen*"))
  assert len(lines(folder / "two" / "fsdp", "baseline")) == 1
  samples = (folder / "two" / "fsdp" / "samples.jsonl").read_text().splitlines()
  assert len(samples) == 1


@pytest.mark.slow
def test_four_processes_and_one_go_on_from_what_two_saved(folder, two, tmp_path):
  for name in ("four", "one"):
    shutil.copytree(folder / "two" / "data", folder / name)
    shutil.rmtree(folder / name / "checkpoints" / "4")
  before = arrays(folder / "two" / "data", 2)
  assert_same(before, arrays(folder / "four", 2), rtol=0, atol=0)
  with started(folder, 4, "tiny.py", "--workdir", "four") as processes:
    codes, printed = ended(processes)
  assert codes == [0] * 4, printed
  assert "resumed at step 2 of 4" in printed[0]
  alone(folder, folder / "one", 1)
  whole = arrays(folder / "two" / "data")
  for name in ("four", "one"):
    assert_same(whole, arrays(folder / name), rtol=1e-5, atol=1e-7)
    assert_same_numbers(folder / "two" / "data", folder / name, rtol=1e-6)


def until_step(workdir, step, processes):
  end = time.monotonic() + 60
  while time.monotonic() < end:
    assert all(p.poll() is None for p in processes), [p.communicate()[0] for p in processes]
    with contextlib.suppress(FileNotFoundError, ValueError):
      if any(line["step"] >= step for line in lines(workdir, "train")):
        return
    time.sleep(0.1)
  raise AssertionError(f"{workdir} did not come to step {step}")


def test_a_signal_to_one_stops_all_and_a_death_ends_all(folder, two):
  words = ("tiny.py", "steps=100000", "save_every=100000", "--workdir", "long")
  long = folder / "long"
  with started(folder, 2, *words) as processes:
    until_step(long, 3, processes)
    processes[1].send_signal(signal.SIGTERM)
    codes, printed = ended(processes, 30)
  assert codes == [42, 42], printed
  (stopped,) = saved(long)
  assert lines(long, "train")[-1]["step"] == stopped
  assert any(f"stopped at step {stopped} with a checkpoint" in line for line in printed[0])

  with started(folder, 2, *words) as processes:
    until_step(long, stopped + 3, processes)
    processes[1].kill()
    began = time.monotonic()
    codes, printed = ended(processes[:1], 30)
    assert time.monotonic() - began < 20
  assert codes == [1], printed
  assert f"resumed at step {stopped} of 100000" in printed[0]
  assert printed[0][-1].startswith("error: process 0 has lost another process of the job")
  assert not any("Traceback" in line for line in printed[0])


def test_the_mistake_of_one_ends_all_with_its_code(folder, two):
  with started(folder, 2, "tiny.py", "steps=5", "--workdir", "two/tensor") as processes:
    codes, printed = ended(processes, 60)
  assert codes == [2, 2]
  assert "holds the run of another experiment" in printed[0][-1]
  assert "process 0 failed at opening the run folder" in printed[1][-1]


@pytest.mark.parametrize(
  ("process", "told"),
  [
    ("1", "process 1 of 2 could not reach the coordinator 127.0.0.1:"),
    ("0", "not all of the 2 processes came to the coordinator 127.0.0.1:"),
  ],
)
def test_who_does_not_come_is_told_in_one_line(folder, process, told):
  with started(
    folder,
    1,
    "tiny.py",
    RESEARCH_PROCESSES="2",
    RESEARCH_PROCESS=process,
    RESEARCH_JOIN_SECONDS="2",
  ) as processes:
    codes, printed = ended(processes, 60)
  assert codes == [1]
  assert len(printed[0]) == 1 and told in printed[0][0] and "within 2 seconds" in printed[0][0]


def test_a_port_that_is_taken_is_told(folder):
  with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    address = f"127.0.0.1:{port}"
    with started(folder, 1, "tiny.py", RESEARCH_PROCESSES="2", RESEARCH_COORDINATOR=address) as one:
      codes, printed = ended(one, 60)
  assert codes == [1]
  assert len(printed[0]) == 1 and f"cannot listen at the coordinator's port {port}" in printed[0][0]


NAMED = {
  "RESEARCH_COORDINATOR": "10.0.0.1:1234",
  "RESEARCH_PROCESSES": "4",
  "RESEARCH_PROCESS": "3",
}
SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_LOCALID": "0"}
FOUND = cluster.Job()


@pytest.mark.parametrize(
  ("environment", "expected"),
  [
    ({}, None),
    (NAMED, cluster.Job("10.0.0.1:1234", 4, 3)),
    ({**NAMED, "RESEARCH_JOIN_SECONDS": "600"}, cluster.Job("10.0.0.1:1234", 4, 3, 600)),
    ({"RESEARCH_PROCESSES": "1"}, None),
    ({**SLURM, "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, FOUND),
    ({**SLURM, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, None),
    ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, None),  # no srun
    ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:3"}, FOUND),
    ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, FOUND),
    ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
    ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}, FOUND),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ({"MEGASCALE_COORDINATOR_ADDRESS": "a"}, FOUND),
  ],
  ids=str,
)
def test_a_job_is_known_by_the_environment(environment, expected):
  assert cluster.job(environment={"JAX_PLATFORMS": "cpu", **environment}) == expected


def test_flags_come_before_the_environment():
  assert cluster.job("b:2", 2, 0, environment=NAMED) == cluster.Job("b:2", 2, 0)


@pytest.mark.parametrize(
  ("environment", "told"),
  [
    ({**NAMED, "RESEARCH_COORDINATOR": "10.0.0.1"}, "'10.0.0.1' is not host:port"),
    ({**NAMED, "RESEARCH_COORDINATOR": "a:99999"}, "'a:99999' is not host:port"),
    ({**NAMED, "RESEARCH_PROCESS": "4"}, "process 4 of 4 processes does not exist"),
    ({**NAMED, "RESEARCH_PROCESSES": "many"}, "RESEARCH_PROCESSES='many' is no number"),
    ({"RESEARCH_PROCESSES": "2"}, "needs --coordinator and --process as well"),
    ({"OMPI_COMM_WORLD_SIZE": "2"}, "RESEARCH_COORDINATOR=host:port"),
  ],
  ids=str,
)
def test_half_a_job_says_what_is_missing(environment, told):
  with pytest.raises(UserError, match=told):
    cluster.job(environment=environment)


def test_a_process_on_its_own_does_not_load_jax():
  code = "import sys; from research import cluster; cluster.job(); print('jax' in sys.modules)"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "False"


@pytest.mark.parametrize("answer", [7, 0, -1, True, False])
def test_what_is_agreed_on_is_of_the_kind_that_was_asked(monkeypatch, answer):
  monkeypatch.setattr(distributed, "several", lambda: True)  # here the first of one
  agreed = distributed.agreed(answer)
  assert (agreed, type(agreed)) == (answer, type(answer))


def test_an_error_alone_stays_what_it_is():
  with pytest.raises(RunError, match="as it was"), distributed.together("anything"):
    raise RunError("as it was")
