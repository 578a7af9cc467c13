"""What is done with an experiment."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
from pathlib import Path

from research.errors import UserError, nearest

PREEMPTED = 42


def run(options) -> int:
  from research import cluster, distributed, load

  recipe = load.recipe(options.file, options.words)
  programs = recipe.programs()
  several = len([item for program in programs for item in program]) > 1 and not options.only
  if options.only:
    programs = [(item,) for item in _named(recipe.experiments(), options.only)]
  codes = []
  job = cluster.job(options.coordinator, options.processes, options.process)
  with distributed.joined(job):
    for program in programs:
      folder = None if several else options.workdir
      above = options.workdir or Path("runs")
      folders = {folder or above / experiment.name: experiment for experiment in program}
      codes.append(_run(recipe, folders))
      if codes[-1] == PREEMPTED:
        break
  return max(codes)


def _named(experiments: list, name: str) -> list:
  """Those of this name."""
  found = [experiment for experiment in experiments if name == experiment.name]
  if not found:
    names = [experiment.name for experiment in experiments]
    raise UserError(
      f"--only {name}: the file names no such experiment.{nearest(name, names)} "
      f"It names {', '.join(names)}."
    )
  return found


def _run(recipe, folders: dict) -> int:
  """The experiments of one program, one of which may fail by itself."""
  from research import distributed, report
  from research.attempt import attempt_together

  ended = attempt_together(recipe, folders)
  with distributed.together("writing the report"):
    for (workdir, experiment), finished in zip(folders.items(), ended, strict=True):
      if distributed.first():
        if finished.complete:
          _gallery(experiment, workdir)
        page = report.write(workdir)
        for name, values in finished.evaluations.items():
          shown = ", ".join(f"{key} {value:.4f}" for key, value in values.items())
          print(f"{experiment.name} {name} at step {finished.step}: {shown}")
        print(f"report: {page}")
  for experiment, finished in zip(folders.values(), ended, strict=True):
    if finished.error is not None:
      who = f"{experiment.name}: " if len(folders) > 1 else ""
      raise type(finished.error)(f"{who}{finished.error}") from finished.error
  return 0 if all(finished.complete for finished in ended) else PREEMPTED


def _gallery(experiment, workdir: Path) -> None:
  """What the model finds, for the report, where pictures and texts are to find one another."""
  from research import distributed
  from research.matching import Retrieval

  alone = not distributed.several()
  if alone and any(isinstance(item, Retrieval) for item in experiment.evals.values()):
    from research import retrieve

    retrieve.write_gallery(workdir)


def explain_file(target: str, parser) -> int:
  """`research run FILE --help`: the file's contract, its knobs, and what can be overridden."""
  from research import load

  recipe = load.recipe(target)
  function = load.functions(recipe.path)[recipe.function]
  module = inspect.getmodule(function) or sys.modules[function.__module__]
  print(inspect.cleandoc(module.__doc__ or f"{target}: no description"))
  print(f"\nusage: {parser.format_usage().removeprefix('usage: ').strip()}")
  print(f"\nfunctions: {', '.join(load.functions(recipe.path))}")
  print(f"\nknobs of {recipe.function} (name=value):")
  parameters = inspect.signature(function).parameters.values()
  for knob in parameters:
    default = "needed" if knob.default is knob.empty else repr(knob.default)
    print(f"  {knob.name:<28} {default}")
  needed = [knob for knob in parameters if knob.default is knob.empty]
  if any(knob.annotation not in (str, "str") for knob in needed):
    return 0
  recipe = dataclasses.replace(recipe, knobs={knob.name: knob.name.upper() for knob in needed})
  print("\nfields that dotted names override (path=value), as the defaults make them:")
  for path, text in recipe.experiments()[0].describe().items():
    print(f"  {path:<36} {text}")
  return 0


def describe(options) -> int:
  from research import load, secrets

  for experiment in load.recipe(options.file, options.words).experiments():
    for path, text in secrets.describe(experiment.describe()).items():
      print(f"{path}: {text}")
  return 0


def explain(options) -> int:
  from research import explain, load
  from research.mesh import Sharding

  experiment = load.recipe(options.file, options.words).experiment()
  if options.mesh:
    mesh = Sharding.parse(options.mesh).mesh
    sharding = dataclasses.replace(experiment.sharding, mesh=mesh)
    experiment = dataclasses.replace(experiment, sharding=sharding)
  return explain.show(experiment, options.devices)


def data(options) -> int:
  from research import data, load

  experiment = load.recipe(options.file, options.words).experiment()
  told = data.preview(experiment.data, rows=options.rows)
  example = experiment.data.example()
  if "caption" in example and example["image"].ndim == 4:
    from research.report import contact_sheet

    page = Path("runs") / "data" / f"{experiment.name}.html"
    sections = contact_sheet.of_dataset(experiment.data)
    contact_sheet.write(page, experiment.name, told["facts"], sections)
    print(f"pictures: {page}")
  return 0


def verify(options) -> int:
  if "jax" not in sys.modules:
    _fake_devices(8)
  from research import verify

  return verify.exit_code(
    verify.verify(options.file, options.words, only=options.only, meshes=options.mesh)
  )


def _fake_devices(count: int) -> None:
  """Tells a JAX that has not started to make devices of this CPU, and to compile in a hurry."""
  os.environ.setdefault("JAX_PLATFORMS", "cpu")
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # how it partitions is not our subject
  flags = [
    f"--xla_force_host_platform_device_count={count}",
    # Almost all of the time goes into compiling; what is compiled runs for milliseconds.
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
  ]
  os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")]).strip()


def plan(options) -> int:
  os.environ.setdefault("JAX_PLATFORMS", "cpu")  # planning wakes no accelerator that is here
  from research import plan

  return plan.run(
    options.file,
    options.words,
    topologies=options.topology,
    tokens=options.tokens,
    search=options.search,
    estimate=options.estimate,
    price=options.price,
    options=options.option,
    timeout=options.timeout,
    out=options.out,
  )


def bench(options) -> int:
  from research import bench

  return bench.run(options)
