"""What every model asks of its numbers before it is built."""

from collections.abc import Collection, Mapping
from typing import Any

from research.errors import UserError, nearest

DTYPES = ("float32", "bfloat16", "float16")


def one_of(model: Any, choices: Mapping[str, Collection[str]]) -> None:
  """Raises a UserError unless each field has one of its choices."""
  for field, known in choices.items():
    value = getattr(model, field)
    if value not in known:
      raise UserError(
        f"{field}={value!r} is not one of {', '.join(known)}.{nearest(str(value), known)}"
      )


def positive(model: Any, *fields: str) -> None:
  """Raises a UserError unless each field is at least 1."""
  for field in fields:
    if getattr(model, field) < 1:
      raise UserError(f"{field}={getattr(model, field)} must be at least 1.")


def divides(part: str, size: int, whole: str, total: int) -> None:
  """Raises a UserError naming the sizes that would do, unless `size` divides `total`."""
  if size < 1 or total % size:
    choices = ", ".join(str(n) for n in range(1, min(total, 128) + 1) if total % n == 0)
    raise UserError(f"{part}={size} does not divide {whole}={total}; choose one of {choices}.")
