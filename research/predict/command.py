"""`research predict`: a run's model on a file, or on what stands on the command line.

What a result is depends on the run's dataset. Each kind is a class made of an `Opened` run, with

  inputs(path)    -> Entry of every line of a file, also of those that cannot be read
  one(texts)      -> the record of what stands on the command line
  __call__(some)  -> a result for every record, a dict that JSON can hold; how many were too long
  too_long        what is said of these
  columns         of a result as a row of a table, or None
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from research import data, memory
from research.data import reading, task_rows
from research.errors import UserError
from research.predict.entities import EntitiesOf
from research.predict.labels import LabelsOf
from research.predict.opened import Opened
from research.predict.spans import AnswersTo
from research.predict.targets import TargetsOf
from research.predict.written import Output

PART = 256  # inputs between two times that results are written
TOLD = 5  # lines that cannot be read, one by one

KINDS = {
  data.Labelled: LabelsOf,
  data.Tagged: EntitiesOf,
  data.Questions: AnswersTo,
  data.Translations: TargetsOf,
  data.Summaries: TargetsOf,
}


def predict(options: argparse.Namespace) -> int:
  """Does what the options of the command say; see `cli`.

  Raises:
    UserError: options that do not go together, no run, no checkpoint, or a file of no use.
  """
  if bool(options.texts) == (options.input is not None):
    raise UserError("give a text, or --input FILE with --output FILE.")
  if (options.input is None) != (options.output is None):
    raise UserError("--input and --output go together: give both.")
  memory.keep()
  run = Opened(options.workdir, options.step)
  kind = KINDS.get(type(run.dataset))
  if kind is None:
    known = ", ".join(f"data.{dataset.__name__}" for dataset in KINDS)
    raise UserError(
      f"{options.workdir} was trained on data.{type(run.dataset).__name__}, and this predicts for "
      f"runs on {known}; a model of text writes with `research sample`."
    )
  predictor = kind(run)
  if options.texts:
    (result,), long = predictor([predictor.one(options.texts)])
    print(_written(result))
    _tell(long, predictor)
    return 0
  return _file(predictor, run, options)


def _file(predictor: Any, run: Opened, options: argparse.Namespace) -> int:
  path = reading.expanded(str(options.input))
  about = {
    "run": str(Path(options.workdir).resolve()),
    "step": run.step,
    "input": task_rows.contents(path),
  }
  entries = predictor.inputs(str(path))
  first = list(
    itertools.islice(entries, 1)
  )  # a file that is none is told before anything is written
  output = Output(options.output, about, predictor.columns)
  if output.done:
    print(f"going on behind the first {output.done:,} results", file=sys.stderr)
  entries = itertools.islice(itertools.chain(first, entries), output.done, None)
  while part := list(itertools.islice(entries, PART)):
    readable = [entry.record for entry in part if not entry.problem]
    found, long = predictor(readable) if readable else ((), 0)
    for problem in [entry.problem for entry in part if entry.problem][: max(0, TOLD - output.bad)]:
      print(f"left out: {problem}", file=sys.stderr)
    results = iter(found)
    output.add([{"error": e.problem} if e.problem else next(results) for e in part], long=long)
  output.finish()
  said = f", {output.bad:,} of them could not be read and hold an error" if output.bad else ""
  print(f"{output.done:,} results in {options.output}{said}")
  _tell(output.long, predictor)
  return 0


def _written(result: dict[str, Any]) -> str:
  """JSON with the letters that the screen has, or else, as of bytes that are no text, escapes."""
  text = json.dumps(result, ensure_ascii=False, indent=1)
  try:
    text.encode(sys.stdout.encoding or "utf-8")
  except UnicodeEncodeError:
    return json.dumps(result, indent=1)
  return text


def _tell(long: int, predictor: Any) -> None:
  if long:
    print(f"note: {long:,} of the texts {predictor.too_long}", file=sys.stderr)
