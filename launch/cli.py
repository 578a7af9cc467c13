"""The `launch` command: `launch TARGET FILE [same arguments as research run]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from launch import jobset, local, machines, skypilot, slurm, tpu_vm
from launch.spec import JOIN, Spec, label
from research import load, secrets
from research.errors import RunError, UserError, nearest

DOCTOR = "doctor"
ENGINES = {"jobset": jobset, "slurm": slurm, "skypilot": skypilot, "tpu_vm": tpu_vm}
TARGETS = ("local", *ENGINES)
EVERYWHERE = ("target", "file", "words", "workdir", "only", "submit", "name")
WITH_IMAGE = ("jobset", "tpu_vm", "skypilot")  # the experiment file is a copy, elsewhere
ABOUT = """\
Run an experiment file on several processes or machines. Without --submit nothing happens but that
the job is printed. A file that yields several experiments becomes a job for each of them.

targets:
  local     processes on this machine, supervised
  jobset    Kubernetes: GKE, with Kueue or as XPK sets a cluster up
  slurm     sbatch; an array where there are several runs
  skypilot  machines of any cloud, for those who have no cluster
  tpu_vm    queued resources of Cloud TPU

`launch TARGET doctor` has the job examine the machines instead, and `launch doctor` does it here.
"""
SYNOPSIS = """\
launch TARGET FILE [name=value ...] [--topology KIND:SHAPE] [options] [--submit]
       launch TARGET doctor [options] [--submit]
       launch doctor [--topology KIND:SHAPE]"""


def main(arguments: list[str] | None = None) -> int:
  """Prints or submits a job, or examines one; returns the exit code."""
  parser = _parser()
  try:
    options = parser.parse_intermixed_args(arguments)
    if options.target is None:
      parser.print_help()
      return 0
    if options.target == DOCTOR:
      _refuse(options, parser, ("topology", "slices", "seconds"))
      return _examine(options)
    if options.target not in TARGETS:
      raise UserError(
        f"no target is called {options.target!r}.{nearest(options.target, TARGETS)} "
        f"Targets: {', '.join(TARGETS)}; and doctor."
      )
    if options.file is None:
      raise UserError(f"launch {options.target} needs an experiment file, or `doctor`.")
    engine = ENGINES.get(options.target, local)
    _refuse(options, parser, engine.TAKES)
    return _local(options) if engine is local else _engine(options)
  except RunError as error:
    print(f"error: {secrets.redact(str(error))}", file=sys.stderr)
    return error.exit_code


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="launch",
    usage=SYNOPSIS,
    description=ABOUT,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("target", nargs="?", metavar="TARGET", help=argparse.SUPPRESS)
  parser.add_argument(
    "file", nargs="?", metavar="FILE", help="experiment file, or file.py:function"
  )
  parser.add_argument("words", nargs="*", metavar="name=value", help="as for `research run`")
  add = parser.add_argument
  add("--workdir", help="folder of the run, or of the runs of a sweep")
  add("--only", action="append", metavar="NAME", help="of several, this one; may be repeated")
  add("--submit", action="store_true", help="hand the job over instead of printing it")

  add = parser.add_argument_group("the machines").add_argument
  add("--topology", metavar="KIND:SHAPE", help="v5e:16x16, 2xv5p:4x4x8, h100:8x8, cpu:2")
  add("--slices", type=int, metavar="N", help="of TPUs, joined over the network")
  add("--processes", type=int, metavar="N", help="local: how many (default: 1)")
  add("--port", type=int, help="local: of the coordinator (default: a free one)")
  add("--spot", action="store_true", help="machines that can be taken away")
  add("--zone", help="of the cloud")

  add = parser.add_argument_group("the job").add_argument
  add("--name", help="of the job (default: the experiment's)")
  add("--image", help="container with this folder in it")
  add("--volume", metavar="SOURCE:PATH", help="jobset: CLAIM:PATH; tpu_vm: a host's folder")
  add("--setup", default="", help="line of shell before the run, on the host")
  add("--env", action="append", default=[], metavar="NAME=VALUE", help="variable of the processes")
  add("--secret", metavar="NAME", help="jobset: the Secret whose entries become variables")
  add("--grace", type=int, default=120, metavar="SECONDS", help="to save before the end (120)")
  add(
    "--retries",
    type=int,
    default=10,
    metavar="N",
    help="restarts at most (10); on this machine, without a newer checkpoint",
  )
  add("--hours", type=float, help="the longest that one start may take")
  add("--queue", help="jobset: Kueue's local queue; slurm: the partition")
  add("--account", help="slurm: that pays")
  add("--sbatch", action="append", default=[], metavar="OPTION", help="slurm: --sbatch=--qos=high")
  add("--parallel", type=int, metavar="N", help="slurm: runs of a sweep at the same time")

  add = parser.add_argument_group("doctor").add_argument
  add("--seconds", type=float, help="to wait for the other processes")
  return parser


def _refuse(
  options: argparse.Namespace, parser: argparse.ArgumentParser, taken: tuple[str, ...]
) -> None:
  """UserError for an option that the target would not heed."""
  for name, value in vars(options).items():
    if name not in (*EVERYWHERE, *taken) and value != parser.get_default(name):
      raise UserError(
        f"{options.target}: --{name} means nothing to it; "
        f"it takes {', '.join(f'--{word}' for word in taken)}."
      )


def _local(options: argparse.Namespace) -> int:
  processes = 1 if options.processes is None else options.processes
  if processes < 1:
    raise UserError(f"--processes {processes}: there must be at least 1.")
  spec = _spec(options, machines.Topology("cpu", (1, processes)))
  if options.submit:
    return local.submit(spec, options.port)
  print(local.render(spec, options.port), end="")
  return 0


def _engine(options: argparse.Namespace) -> int:
  spec = _spec(options, _topology(options), {"RESEARCH_JOIN_SECONDS": str(JOIN)})
  engine = ENGINES[options.target]
  if options.submit:
    return engine.submit(spec)
  print(engine.render(spec), end="")
  return 0


def _examine(options: argparse.Namespace) -> int:
  from launch import doctor  # it alone wakes JAX

  if options.file:
    raise UserError(f"launch doctor takes no file; {options.file} is one too many.")
  topology = _topology(options) if options.topology else None
  return doctor.examine(topology, options.seconds)


def _topology(options: argparse.Namespace) -> machines.Topology:
  text, slices = options.topology, options.slices
  if text is None:
    raise UserError(
      f"--topology is needed, for example v5e:4x4 or h100:2x8. "
      f"Known are {', '.join(machines.MACHINES)}."
    )
  topology = machines.parse(text)
  if slices is None:
    return topology
  if topology.slices > 1:
    raise UserError(f"--slices {slices} and --topology {text} both say how many; drop one.")
  return machines.parse(f"{slices}x{text}") if slices >= 0 else machines.parse(f"0x{text}")


def _spec(
  options: argparse.Namespace,
  topology: machines.Topology,
  environment: dict[str, str] | None = None,
) -> Spec:
  runs = _runs(options, topology)
  name = options.name or (next(iter(runs)) if len(runs) == 1 else Path(options.file).stem)
  return Spec(
    name=label(name),
    runs=runs,
    topology=topology,
    image=options.image,
    volume=options.volume,
    setup=options.setup,
    environment={**(environment or {}), **_environment(options.env)},
    secret=options.secret,
    grace=options.grace,
    retries=options.retries,
    hours=options.hours,
    queue=options.queue,
    account=options.account,
    sbatch=tuple(options.sbatch),
    zone=options.zone,
    spot=options.spot,
    parallel=options.parallel,
  )


def _runs(options: argparse.Namespace, topology: machines.Topology) -> dict[str, tuple[str, ...]]:
  """The command of every experiment that the file names."""
  if options.file == DOCTOR:
    shape = () if options.target == "local" else ("--topology", str(topology))
    return {DOCTOR: ("launch", DOCTOR, *shape)}
  names = [e.name for e in load.recipe(options.file, options.words).experiments()]
  if options.target in WITH_IMAGE and Path(options.file.partition(":")[0]).is_absolute():
    raise UserError(
      f"{options.file}: the job has a copy of this folder and not of this machine; "
      "give the file's path from here."
    )
  command = ("research", "run", options.file, *options.words)
  workdir = options.workdir
  if workdir and "://" in workdir:
    raise UserError(
      f"--workdir {workdir} is no folder, and a run writes into one; mount it where the job runs, "
      "and give the path that it has there."
    )
  if len(names) == 1:
    return {names[0]: (*command, *(("--workdir", workdir) if workdir else ()))}
  for name in options.only or ():
    if name not in names:
      raise UserError(
        f"--only {name}: {options.file} names no such experiment.{nearest(name, names)} "
        f"It names {', '.join(names)}."
      )
  if len(set(names)) < len(names):
    raise UserError(f"{options.file} gives two experiments the same name: {', '.join(names)}.")
  return {
    name: (*command, "--only", name, *(("--workdir", f"{workdir}/{name}") if workdir else ()))
    for name in options.only or names
  }


def _environment(pairs: list[str]) -> dict[str, str]:
  for pair in pairs:
    if "=" not in pair:
      raise UserError(f"--env {pair} is not NAME=VALUE.")
  return dict(pair.split("=", 1) for pair in pairs)


if __name__ == "__main__":
  sys.exit(main())
