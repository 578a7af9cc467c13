"""Questions on texts with their answers: SQuAD's JSON, versions 1.1 and 2.0, and lines of JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from research.data import reading, tables, task_rows
from research.data.bad_records import check_share
from research.data.clean import SURROGATE
from research.data.task_rows import Entry, Record
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class SQuAD:
  """A file of questions; a source of records.

  .json    as SQuAD is published (Rajpurkar et al., 2016 and 2018)
  .jsonl   {"question", "context", "id", and the answer: "answers": [{"text", "answer_start"}], or
           "start" and "end" in characters, the end not included; neither or null says none}

  Attributes:
    path: of the file, plain or .gz; "~" is the home folder.
    skip: share of the questions that may be bad and are left out.
  """

  path: str
  skip: float = 0.0

  def __post_init__(self):
    check_share(self.skip)

  def fingerprint(self) -> str:
    """Of the contents."""
    return f"squad {self.skip} {task_rows.contents(reading.expanded(self.path))}"

  def read(self) -> Iterator[Record]:
    """Records {"id", "question", "context", "answers": [[begin, end], ...]}; none is no answer.

    Raises:
      UserError: names the file, the line or question, and the way out.
    """
    return task_rows.usable(_entries(self.path, answered=True), self.skip)

  def inputs(self, path: str) -> Iterator[Entry]:
    """Records {"id", "question", "context"} of a file of the same kind; answers are not read."""
    return _entries(path, answered=False)


def _entries(path: str, answered: bool) -> Iterator[Entry]:
  whole = reading.expanded(path)
  text = reading.text(whole)
  lines = path.lower().removesuffix(".gz").endswith(".jsonl")
  if lines:
    found = (
      (row.where, {"id": row.where.rpartition(" ")[2], **row.cells}, row.problem)
      for row in tables.rows(whole, ".jsonl", text, ())
    )
  else:
    found = ((where, cells, "") for where, cells in _published(path, text))
  for where, cells, problem in found:
    try:
      if problem:
        raise UserError(problem)
      yield Entry(where, _record(where, cells, answered))
    except UserError as error:
      yield Entry(where, {}, str(error))


def _published(path: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
  """Every question of SQuAD's nested lists with its context."""
  try:
    whole = json.loads(text)
    articles = whole["data"]
    nested = [
      (part["context"], question)
      for article in articles
      for part in article["paragraphs"]
      for question in part["qas"]
    ]
  except (ValueError, RecursionError, KeyError, TypeError) as error:
    said = f"{type(error).__name__}: {error}".splitlines()[0][:120]
    raise UserError(
      f"{path} is not SQuAD's JSON ({said}): it has data, paragraphs, context and qas; a file with "
      "a question a line is named .jsonl"
    ) from None
  for number, (context, question) in enumerate(nested, 1):
    cells = question if isinstance(question, dict) else {}
    yield f"{path}, question {cells.get('id', number)}", {"id": number, **cells, "context": context}


def _record(where: str, cells: dict[str, Any], answered: bool) -> Record:
  record = {"id": str(cells["id"])}
  for name in ("question", "context"):
    value = cells.get(name)
    if not isinstance(value, str) or not value.strip():
      raise UserError(f"{where}: {name}={_shown(value)} is no text; write one, or remove it")
    # One character for one, so that answers keep their places.
    record[name] = SURROGATE.sub("\ufffd", value)
  if answered:
    record["answers"] = _answers(where, cells["context"], cells)
    record["where"] = where
  return record


def _answers(where: str, context: str, cells: dict[str, Any]) -> list[list[int]]:
  """The spans of the answers, each looked at."""
  if cells.get("is_impossible") is True:
    return []
  if cells.get("start") is not None or cells.get("end") is not None:
    spans = [(cells.get("start"), cells.get("end"), None)]
  else:
    given = cells.get("answers") or []
    if not isinstance(given, list) or not all(isinstance(answer, dict) for answer in given):
      raise UserError(f"{where}: answers={_shown(given)} is no list of objects; correct it")
    spans = [_span(where, answer) for answer in given]
  for begin, end, text in spans:
    numbers = all(type(x) is int for x in (begin, end))
    if not numbers or not 0 <= begin < end <= len(context):
      raise UserError(
        f"{where}: the answer lies at characters {_shown(begin)} to {_shown(end)}, and the context "
        f"has {len(context)}; count them from 0, the end not included"
      )
    if text is not None and context[begin:end] != text:
      raise UserError(
        f"{where}: the answer {_shown(text)} should begin at character {begin}, where the context "
        f"has {_shown(context[begin:end])}; count characters, not bytes"
      )
  return [_bare(where, context, begin, end) for begin, end, _ in spans]


def _bare(where: str, context: str, begin: int, end: int) -> list[int]:
  """A span without the white space at its edges, which many vocabularies have no tokens for."""
  text = context[begin:end]
  if not text.strip():
    raise UserError(f"{where}: the answer {_shown(text)} is white space; correct its place")
  return [begin + len(text) - len(text.lstrip()), begin + len(text.rstrip())]


def _span(where: str, answer: dict[str, Any]) -> tuple[int, int, str]:
  text, begin = answer.get("text"), answer.get("answer_start")
  if not isinstance(text, str) or type(begin) is not int:
    raise UserError(f"{where}: the answer {_shown(answer)} needs a text and an answer_start")
  return begin, begin + len(text), text


def _shown(value: Any) -> str:
  return repr(value)[:80]
