"""What the engines' own tools say of our jobs, where they are installed."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from launch import jobset, machines
from launch.spec import FINAL, STOPPED, Spec

GOLDEN = Path(__file__).parent / "golden" / "launch"
READ = """
import json, sys, sky
for task in json.load(sys.stdin):
  made = sky.Task.from_yaml_config(task)
  (resources,) = made.resources
  print(json.dumps([made.name, made.num_nodes, made.run, resources.job_recovery]))
"""


def interpreter_of(tool):
  """The Python that an installed tool runs in, or a skipped test."""
  path = shutil.which(tool)
  if not path:
    pytest.skip(f"{tool} is not installed")
  return Path(path).parent / "python"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("skypilot_*.yaml")), ids=lambda path: path.stem)
def test_skypilot_reads_what_we_wrote(path):
  tasks = [
    {name: value for name, value in task.items() if name != "workdir"}  # which must be there
    for task in yaml.safe_load_all(path.read_text())
  ]
  done = subprocess.run([interpreter_of("sky"), "-c", READ], input=json.dumps(tasks), text=True,
                        capture_output=True, cwd=path.parent)  # fmt: skip
  if "Failed to fetch" in done.stdout + done.stderr:
    pytest.skip("SkyPilot wants its catalog of this cloud, and the network does not have it")
  assert done.returncode == 0, done.stderr
  read = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
  assert len(read) == len(tasks)
  for task, (name, nodes, run, recovery) in zip(tasks, read):
    assert (name, nodes, run) == (task["name"], task["num_nodes"], task["run"])
    assert STOPPED in recovery["recover_on_exit_codes"]
    assert not set(FINAL) & set(recovery["recover_on_exit_codes"])
    assert recovery["max_restarts_on_errors"] == 0


def test_skypilot_finds_a_planted_typo():
  (task,) = yaml.safe_load_all((GOLDEN / "skypilot_h100.yaml").read_text())
  task["resources"]["accelerator"] = task["resources"].pop("accelerators")
  done = subprocess.run([interpreter_of("sky"), "-c", READ], input=json.dumps([task]), text=True,
                        capture_output=True)  # fmt: skip
  assert done.returncode != 0 and "accelerators" in done.stderr


@pytest.mark.parametrize(
  ("topology", "words"),
  [
    ("v4:4x4x4", ["--tpu-type=v4-128"]),
    ("v5e:16x16", ["--tpu-type=v5litepod-256"]),
    ("2xv5p:4x4x8", ["--tpu-type=v5p-256", "--num-slices=2"]),
    ("v6e:4x8", ["--tpu-type=v6e-32"]),
    ("a100-40gb:4x8", ["--device-type=a100-40gb-8", "--num-nodes=4"]),
  ],
)
def test_xpk_writes_the_same_where_it_matters(topology, words, tmp_path):
  """Shapes, machines, placement and what is tried again, as XPK itself asks for them."""
  xpk = interpreter_of("xpk").parent / "xpk"
  path = tmp_path / "manifest.yaml"
  done = subprocess.run(
    [xpk, "workload", "create", "--cluster=c", "--workload=tiny", "--command=true", *words,
     "--docker-image=i", "--project=p", "--zone=us-east5-a", "--dry-run", "--skip-validation",
     "--max-restarts=10", "--termination-grace-period-seconds=120",
     f"--output-manifest-file={path}"],
    cwd=tmp_path, text=True, capture_output=True, stdin=subprocess.DEVNULL,
  )  # fmt: skip
  assert path.exists(), done.stdout + done.stderr
  spec = Spec(name="tiny", runs={"t": ("true",)}, topology=machines.parse(topology), image="i")
  (ours,) = jobset.manifests(spec)
  ours, theirs = essence(ours), essence(yaml.safe_load(path.read_text()))
  retried = theirs.pop("retried"), ours.pop("retried")
  if spec.topology.machine.platform == "gpu":  # XPK leaves them to its cluster's queue
    assert (ours.pop("machine"), theirs.pop("machine")) != ({}, {})
  assert ours == theirs
  for codes in retried:
    assert {STOPPED, *range(128, 160)} <= codes and not codes & set(FINAL)


def essence(manifest):
  (replicated,) = manifest["spec"]["replicatedJobs"]
  job = replicated["template"]["spec"]
  pod = job["template"]["spec"]
  (rule,) = job["podFailurePolicy"]["rules"]
  codes = set(rule["onExitCodes"]["values"])
  every = set(range(1, 256))
  selector = pod.get("nodeSelector") or {}
  limits = [c["resources"]["limits"] for c in pod["containers"] if c.get("resources")]
  return {
    "placement": (manifest["metadata"].get("annotations") or {}).get(
      "alpha.jobset.sigs.k8s.io/exclusive-topology"
    ),
    "restarts": manifest["spec"]["failurePolicy"]["maxRestarts"],
    "never": manifest["spec"]["failurePolicy"]["rules"][0]["action"],
    "replicas": replicated["replicas"],
    "pods": (job["parallelism"], job["completions"], job["backoffLimit"]),
    "machine": {k: v for k, v in selector.items() if re.search("accelerator|topology", k)},
    "limits": limits,
    "network": (pod.get("hostNetwork"), pod.get("dnsPolicy"), pod["restartPolicy"]),
    "grace": pod["terminationGracePeriodSeconds"],
    "retried": every - codes if rule["onExitCodes"]["operator"] == "In" else codes,
  }


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("tpu_vm_*.sh")), ids=lambda path: path.stem)
def test_gcloud_knows_every_flag(path):
  if not shutil.which("gcloud"):
    pytest.skip("gcloud is not installed")
  command = path.read_text().rsplit("\ngcloud ", 1)[1]
  words = re.match(r"[\w \-]+?(?= create)", command)[0].split()
  asked = set(re.findall(r"^  (--[a-z-]+)", command, re.MULTILINE))
  done = subprocess.run(["gcloud", *words, "create", "--help"], text=True, capture_output=True,
                        stdin=subprocess.DEVNULL)  # fmt: skip
  known = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
  assert asked and not [flag for flag in asked if f"{flag}" not in known]
