"""Which runs are meant: `heldout.loss<2`, `model.width=64`, `name~deep`.

A condition is a name, a comparison and a value. It becomes a line of SQL with places for name and
value: neither is ever part of the text that the database reads.
"""

from __future__ import annotations

import dataclasses
import math
import re

from research.errors import UserError, shown

# The comparison as it is typed -> what a fact has to meet; `?` are the value as number or as text.
NUMBERS = {"<": "number < ?", "<=": "number <= ?", ">": "number > ?", ">=": "number >= ?"}
TEXTS = {
  "=": "(text = ? OR coalesce(number = ?, 0))",
  "!=": "NOT (text = ? OR coalesce(number = ?, 0))",
  "~": "instr(lower(text), lower(?)) > 0",
}
FORM = re.compile(r"\s*([^\s<>=!~]+)\s*(<=|>=|!=|<|>|=|~)\s*(.*?)\s*")


@dataclasses.dataclass(frozen=True)
class Condition:
  """What a run has to meet; one that has no fact of the name does not.

  Attributes:
    name: of a fact: a figure, a dotted field, "state", ...
    comparison: one of < <= > >= = != ~ (the last: contains, whatever the case).
    value: as it was typed.
  """

  name: str
  comparison: str
  value: str

  def sql(self) -> tuple[str, list[str | float | None]]:
    """An expression on `runs.folder`, and what stands in its places."""
    number = _number(self.value)
    if self.comparison in NUMBERS:
      test, values = NUMBERS[self.comparison], [number]
    else:
      test = TEXTS[self.comparison]
      values = [self.value, number][: test.count("?")]
    same_run = "facts.folder = runs.folder AND facts.name = ?"
    return f"EXISTS (SELECT 1 FROM facts WHERE {same_run} AND {test})", [self.name, *values]  # noqa: S608 (no part of it is typed)


def parse(text: str) -> Condition:
  """The condition that was typed.

  Raises:
    UserError: it is none, or compares the order of what is no number.
  """
  found = FORM.fullmatch(text)
  if not found or not found[3]:
    raise UserError(
      f"--where {shown(text)} is not NAME, comparison, VALUE; write for example 'heldout.loss<2', "
      "'state=failed' or 'name~deep'. Comparisons: < <= > >= = != ~ (contains)."
    )
  name, comparison, value = found.groups()
  if comparison in NUMBERS and _number(value) is None:
    raise UserError(f"--where {shown(text)}: {comparison} compares numbers, {value!r} is none.")
  return Condition(name, comparison, value)


def _number(text: str) -> float | None:
  try:
    value = float(text)
  except ValueError:
    return None
  return None if math.isnan(value) else value
