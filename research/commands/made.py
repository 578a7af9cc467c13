"""What is done with a run."""

from __future__ import annotations

from research.errors import UserError


def sample(options) -> int:
  from research.sample import sample

  return sample(options)


def predict(options) -> int:
  from research.predict import predict

  return predict(options)


def embed(options) -> int:
  from research.retrieve import embed

  return embed(options)


def search(options) -> int:
  from research.retrieve import search

  return search(options)


def classify(options) -> int:
  from research.retrieve import classify

  return classify(options)


def import_(options) -> int:
  from research.hf import runs

  runs.import_run(options.path, options.workdir)
  print(f"{options.workdir} holds it now; research sample, report and export read it")
  return 0


def merge(options) -> int:
  from research.merge import merge_run

  merge_run(options.run, options.workdir, options.step)
  print(f"{options.workdir} holds the plain model; research sample, predict and export read it")
  return 0


def export(options) -> int:
  from research.hf import runs

  runs.export_run(options.workdir, options.path)
  print(f"{options.path} is what transformers loads")
  return 0


def replay(options) -> int:
  from research.replay import replay

  return replay(options.workdir, options.step, options.most)


def pin(options) -> int:
  from research.retention import Keep
  from research.steps import Steps

  steps = Steps(options.workdir / "checkpoints", Keep())
  if not steps.folder.is_dir():
    raise UserError(f"{options.workdir} holds no checkpoints; give the --workdir of a run.")
  if options.release and options.step is None:
    raise UserError("--release lets one checkpoint go; name its step, too.")
  if options.step is None:
    for step in steps.all():
      print(f"{step}{'  pinned' if steps.pinned(step) else ''}")
    return 0
  if options.step not in steps.all():
    raise UserError(
      f"{options.workdir} has no checkpoint of step {options.step}; it has "
      f"{', '.join(map(str, steps.all())) or 'none'}."
    )
  steps.pin(options.step, pinned=not options.release)
  print(f"step {options.step} {'may go again' if options.release else 'stays for good'}")
  return 0
