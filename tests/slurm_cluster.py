"""A SLURM of one node on this machine: Debian's packages, unpacked into a folder, not installed."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PACKAGES = [
  "slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins",
  "libhwloc15", "libjson-c5", "libmunge2",
]  # fmt: skip
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/none
CredType=cred/none
MpiDefault=none
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
SlurmUser={user}
SlurmdUser={user}
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
PluginDir={plugins}
ReturnToService=2
KillWait=5
MinJobAge=900
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=1000 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Missing(Exception):
  """SLURM cannot be had here; the message says why."""


class Cluster:
  """Starts on entry; on exit every job and both daemons are gone.

  Attributes:
    environment: of the commands, and so of the jobs.
  """

  def __init__(self, folder: Path):
    self.folder = folder
    self.environment = dict(os.environ)
    self._daemons = []

  def __enter__(self):
    root = _unpacked(self.folder / "packages")
    plugins = _one(root, "auth_none.so").parent
    libraries = [plugins, *{path.parent for path in root.rglob("libhwloc.so.*")}]
    self.environment |= {
      "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
      "PATH": f"{root / 'usr/bin'}:{os.environ['PATH']}",
      "SLURM_CONF": str(self.folder / "slurm.conf"),
    }
    for name in ("state", "spool"):
      (self.folder / name).mkdir()
    user = subprocess.run(["id", "-un"], text=True, capture_output=True, check=True).stdout.strip()
    configuration = CONFIGURATION.format(
      host=socket.gethostname().split(".")[0],
      ports=_ports(2),
      user=user,
      folder=self.folder,
      plugins=plugins,
    )
    (self.folder / "slurm.conf").write_text(configuration)
    try:
      self._start(_one(root, "slurmctld*"), "-c", "-D")
      self._start(_one(root, "slurmd*"), "-D", "-d", str(_one(root, "slurmstepd*")))
      self._wait_until_idle()
    except BaseException:
      self.__exit__()
      raise
    return self

  def __exit__(self, *_):
    subprocess.run(["scancel", "--full", "--signal=KILL", "--user", str(os.getuid())],
                   env=self.environment, capture_output=True, check=False)  # fmt: skip
    for daemon in reversed(self._daemons):
      daemon.terminate()
      try:
        daemon.wait(timeout=10)
      except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()

  def call(self, *words: str, text: str | None = None) -> str:
    """What a command of SLURM's says."""
    done = subprocess.run(
      words, input=text, env=self.environment, cwd=self.folder, text=True, capture_output=True
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout

  def submit(self, script: str) -> str:
    """The number of the job."""
    return self.call("sbatch", "--parsable", text=script).strip()

  def job(self, number: str) -> dict[str, str]:
    """What SLURM knows of a job."""
    words = self.call("scontrol", "--oneliner", "show", "job", number).split()
    return dict(word.split("=", 1) for word in words if "=" in word)

  def wait(self, number: str, *, restarts: int = 0, seconds: float = 120) -> dict[str, str]:
    """Until the job has ended, or is to be started again more often than `restarts`."""
    end = time.monotonic() + seconds
    while True:
      job = self.job(number)
      if job["JobState"] in ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"):
        return job
      if job["JobState"] == "PENDING" and int(job["Restarts"]) > restarts:
        return job
      assert time.monotonic() < end, f"{job}\n{self.logs()}"
      time.sleep(0.1)

  def start_again(self, number: str) -> None:
    """SLURM waits two minutes before it starts a requeued job; tests do not."""
    time.sleep(2)  # the right to start was withdrawn with the old one's, to the second
    self.call("scontrol", "update", f"JobId={number}", "StartTime=now")

  def logs(self) -> str:
    """What all jobs have printed."""
    return "\n".join(path.read_text() for path in sorted(self.folder.glob("*-*.log")))

  def _start(self, program: Path, *arguments: str) -> None:
    with (self.folder / f"{program.name}.out").open("w") as out:
      self._daemons.append(
        subprocess.Popen([program, *arguments], env=self.environment, stdout=out, stderr=out)
      )

  def _wait_until_idle(self) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
      state = subprocess.run(["sinfo", "--noheader", "--format=%T"], env=self.environment,
                             text=True, capture_output=True)  # fmt: skip
      if state.stdout.strip() == "idle":
        return
      time.sleep(0.2)
    said = [path.read_text()[-800:] for path in self.folder.glob("slurm*.out")]
    raise Missing(f"SLURM's node does not come up within 30 seconds: {said}")


def _unpacked(folder: Path) -> Path:
  """Debian's packages in a folder of ours."""
  for tool in ("apt-get", "dpkg-deb"):
    if not shutil.which(tool):
      raise Missing(f"no {tool}: SLURM is taken from Debian's packages")
  folder.mkdir()
  for package in PACKAGES:
    done = subprocess.run(
      ["apt-get", "download", "--quiet", package], cwd=folder, text=True, capture_output=True
    )
    if done.returncode:
      raise Missing(f"{package} cannot be downloaded: {done.stderr.strip()[-200:]}")
  for archive in folder.glob("*.deb"):
    subprocess.run(["dpkg-deb", "--extract", archive, folder / "root"], check=True)
  return folder / "root"


def _one(root: Path, pattern: str) -> Path:
  found = [path for path in root.rglob(pattern) if path.is_file() and "/usr/" in str(path)]
  found = [path for path in found if "share" not in path.parts and "etc" not in path.parts]
  if not found:
    raise Missing(f"the packages have no {pattern}")
  return found[0]


def _ports(count: int) -> list[int]:
  sockets = [socket.socket() for _ in range(count)]
  for one in sockets:
    one.bind(("127.0.0.1", 0))
  ports = [one.getsockname()[1] for one in sockets]
  for one in sockets:
    one.close()
  return ports
