"""Records that cannot be used: left out, counted and named; too many of them are an error."""

from __future__ import annotations

import sys

from research.errors import UserError

NAMED = 5


class BadRecords:
  """Those of one source.

  Attributes:
    share: of all records that may be bad. At 0 the first bad one is an error at once.
    count: how many there were.
    named: what is wrong with the first of them.
  """

  def __init__(self, share: float):
    self.share, self.count = share, 0
    self.named: list[str] = []

  def leave_out(self, reason: str) -> None:
    """Counts one, of which `reason` says where it stands and what is wrong with it."""
    if not self.share:
      raise UserError(reason)
    self.count += 1
    if len(self.named) < NAMED:
      self.named.append(reason)

  def check(self, records: int) -> None:
    """Raises a UserError where more than the share of so many `records` were bad."""
    if self.count > self.share * records:
      raise UserError(
        f"{self.count:,} of {records:,} records cannot be used, more than skip={self.share:g} "
        f"allows; mend them, or allow more. {self._first()}"
      )

  def tell(self, records: int) -> None:
    """One line on how many of so many `records` were left out, if any."""
    if self.count:
      print(
        f"{self.count:,} of {records:,} records cannot be used and are left out. {self._first()}",
        file=sys.stderr,
      )

  def _first(self) -> str:
    more = "" if self.count == len(self.named) else "; ..."
    return f"The first: {'; '.join(self.named)}{more}"


def check_share(skip: float) -> None:
  """Raises a UserError for what is no share of the records."""
  if not 0 <= skip < 1:
    raise UserError(f"skip={skip} is a share of the records: choose one from 0 to below 1.")
