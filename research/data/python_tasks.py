"""Small tasks out of the Python library's source: every machine has it, and no label is missing.

They are for trying: what is asked follows from a line itself, and a model learns it in seconds.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import itertools
import keyword
import re
import sys
import tokenize
from collections.abc import Iterator

from research.data import stdlib
from research.data.labelled import LabelledFile
from research.data.squad import SQuAD
from research.data.stdlib import TESTS
from research.data.summaries import SummaryFile
from research.data.tagged import CoNLL
from research.data.task_rows import Entry, Record

FILES = 20  # modules that are read
DEFINES = re.compile(r"\s*def (\w+)\(.*\).*:$")


@dataclasses.dataclass(frozen=True)
class PythonLines:
  """Which kind of statement is a line: def, if, import, return, or another; labelled records."""

  kinds: tuple[str, ...] = ("def", "if", "import", "return")

  def fingerprint(self) -> str:
    """Of the interpreter's version."""
    return f"python lines {self.kinds} {sys.version_info[:3]}"

  def read(self) -> Iterator[Record]:
    """The first word says it, and goes: what follows has to."""
    for line in _lines():
      first, _, rest = line.strip().partition(" ")
      if first in self.kinds and rest.strip():
        yield {"texts": [rest], "label": first}

  def inputs(self, path: str) -> Iterator[Entry]:
    """A table with a column "text"."""
    return LabelledFile(path).inputs(path)


@dataclasses.dataclass(frozen=True)
class PythonWords:
  """Keywords, dotted names, numbers and texts among the words of a line: tagged records."""

  def fingerprint(self) -> str:
    """Of the interpreter's version."""
    return f"python words {sys.version_info[:3]}"

  def read(self) -> Iterator[Record]:
    """Lines that are whole by themselves."""
    for line in _lines():
      try:
        tokens = list(tokenize.generate_tokens(io.StringIO(line.strip() + "\n").readline))
      except (tokenize.TokenError, SyntaxError):
        continue
      words = [t.string for t in tokens if t.string.strip()]
      kinds = [_kind(t) for t in tokens if t.string.strip()]
      if words:
        yield {"words": words, "entities": list(_entities(words, kinds))}

  def inputs(self, path: str) -> Iterator[Entry]:
    """As of `CoNLL`."""
    return CoNLL(path).inputs(path)


@dataclasses.dataclass(frozen=True)
class PythonQuestions:
  """What does a line define? Its name, or nothing; records of questions."""

  def fingerprint(self) -> str:
    """Of the interpreter's version."""
    return f"python questions {sys.version_info[:3]}"

  def read(self) -> Iterator[Record]:
    """As many lines that define nothing as such that do."""
    others = 0
    for number, line in enumerate(_lines()):
      found = DEFINES.match(line)
      others += 1 if found else -1
      if found or others >= 0:
        answers = [list(found.span(1))] if found else []
        about = {"question": "What is defined?", "context": line, "answers": answers}
        yield {"id": str(number), **about}
      others = max(others, 0)

  def inputs(self, path: str) -> Iterator[Entry]:
    """As of `SQuAD`."""
    return SQuAD(path).inputs(path)


@dataclasses.dataclass(frozen=True)
class PythonSummaries:
  """The first line of a docstring, from what else it says; records of summaries."""

  def fingerprint(self) -> str:
    """Of the interpreter's version."""
    return f"python summaries {sys.version_info[:3]}"

  def read(self) -> Iterator[Record]:
    """Those of modules, classes and functions that say more than one line."""
    for _, text in itertools.islice(stdlib.sources(skip=TESTS), FILES):
      for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
          first, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
          if rest.strip() and "\n" not in first:
            yield {"source": rest, "lead": rest.split("\n")[0], "targets": [first]}

  def inputs(self, path: str) -> Iterator[Entry]:
    """As of `SummaryFile`."""
    return SummaryFile(path).inputs(path)


def _lines() -> Iterator[str]:
  known: set[str] = set()
  for _, text in itertools.islice(stdlib.sources(skip=TESTS), FILES):
    for line in text.split("\n"):
      if line.strip() and len(line) < 100 and line not in known:
        known.add(line)
        yield line


def _kind(token: tokenize.TokenInfo) -> str:
  if token.type == tokenize.NAME:
    return "keyword" if keyword.iskeyword(token.string) else "name"
  return {tokenize.NUMBER: "number", tokenize.STRING: "text"}.get(token.type, "")


def _entities(words: list[str], kinds: list[str]) -> Iterator[tuple[str, int, int]]:
  begin = 0
  while begin < len(words):
    end = begin + 1
    while (
      kinds[begin] == "name"
      and words[end : end + 1] == ["."]
      and kinds[end + 1 : end + 2] == ["name"]
    ):
      end += 2
    if kinds[begin]:
      yield kinds[begin], begin, end
    begin = end
