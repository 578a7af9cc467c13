"""Problems that are put to a language model in words, with examples before them or without.

Brown et al., 2020, figure 2.1: k solved problems are written down, and one that is not; what the
model writes next is its answer, and nothing of the model changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from research.data import files, reading, tables
from research.data.bad_records import BadRecords, check_share
from research.data.task_rows import Records
from research.errors import UserError


class Problem(NamedTuple):
  """What is asked and what is right.

  Attributes:
    context: what the model reads: solved problems, then the question.
    answer: what should follow.
    others: wrong answers, where the model is to choose.
  """

  context: str
  answer: str
  others: tuple[str, ...] = ()


class Problems(Protocol):
  """Where problems come from: a frozen value that opens nothing when constructed."""

  def problems(self, shots: int) -> Iterator[Problem]:
    """The problems, each after `shots` solved ones, in an order that is always the same."""


@dataclasses.dataclass(frozen=True)
class ProblemFile:
  """Problems of one kind in a table: .jsonl, .csv or .tsv, plain or .gz.

  The fields of GPT-3's generated tasks are "context" and "completion". Each problem is shown after
  others of the file, drawn by its number.

  Attributes:
    path: of the file; "~" is the home folder.
    context, answer: names of columns, or of the fields of .jsonl objects.
    between: ends an answer: it stands behind each, also of the last one.
    skip: share of the rows that may be bad and are left out.
    seed: of which are drawn.
  """

  path: str
  context: str = "context"
  answer: str = "completion"
  between: str = "\n\n"
  skip: float = 0.0
  seed: int = 0

  def __post_init__(self):
    check_share(self.skip)

  def problems(self, shots: int) -> Iterator[Problem]:
    """As of `Problems`; the answer begins with a space, as it does in a text.

    Raises:
      UserError: names the file, the line, and the way out.
    """
    solved = [(problem.context + problem.answer, problem) for problem in self._solved()]
    return after_others(solved, shots, self.seed, self.path)

  def _solved(self) -> Iterator[Problem]:
    path, bad, count = reading.expanded(self.path), BadRecords(self.skip), 0
    needs = (self.context, self.answer)
    for row in tables.rows(path, files.table_kind(path), reading.text(path), needs):
      count += 1
      try:
        context, answer = (tables.text_of(row, name) for name in needs)
      except UserError as error:
        bad.leave_out(str(error))
      else:
        gap = "" if context.endswith("\n") else " "
        yield Problem(context.rstrip(" "), gap + answer.strip(" ") + self.between)
    bad.check(count)
    bad.tell(count)


@dataclasses.dataclass(frozen=True)
class WhichLabel:
  """Labelled texts as problems: which label makes the likeliest text?

  So a decoder is asked for labels that it was not trained to give (Radford et al., 2018, section 5:
  the answer is what makes the mean token likeliest).

  Attributes:
    records: labelled ones of one text, such as `LabelledFile(path)`.
    form: of a text with its label; it ends what is read.
    names: what stands for a label, where it is not its own name: (label, words), ...
    seed: of which solved ones are drawn.
  """

  records: Records
  form: str = "{text} {label}\n"
  names: tuple[tuple[str, str], ...] = ()
  seed: int = 0

  def __post_init__(self):
    if "{text}" not in self.form or "{label}" not in self.form:
      raise UserError(f"form={self.form!r} must have the places {{text}} and {{label}}.")

  def problems(self, shots: int) -> Iterator[Problem]:
    """As of `Problems`; all labels that occur are offered."""
    words, records = dict(self.names), list(self.records.read())
    labels = sorted({record["label"] for record in records})
    asked = []
    for record in records:
      said = [part.replace("{text}", record["texts"][0]) for part in self.form.split("{label}")]
      right, *others = (
        words.get(label, label).join(said)
        for label in sorted(labels, key=lambda label: label != record["label"])
      )
      asked.append((right, Problem("", right, tuple(others))))
    return after_others(asked, shots, self.seed, str(self.records))


def after_others(
  problems: Sequence[tuple[str, Problem]], shots: int, seed: int, where: str
) -> Iterator[Problem]:
  """Every problem after some of the others, solved; those of few shots are the first of more.

  Args:
    problems: each as it is shown, solved, and as it is asked.
    shots: how many are shown.
    seed: of which these are; they depend on the number of the problem as well.
    where: they come from, for the error.

  Raises:
    UserError: there are not as many others.
  """
  if len(problems) <= shots:
    raise UserError(
      f"{where} has {len(problems)} problems, too few to show {shots} and ask another; give more."
    )
  for number, (_, asked) in enumerate(problems):
    others = np.random.RandomState([seed, number]).permutation(len(problems) - 1)[:shots]
    shown = "".join(problems[i + (i >= number)][0] for i in others)
    yield asked._replace(context=shown + asked.context)
