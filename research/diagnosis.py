"""What the figures of an evaluation say is wrong, in words.

They are those of `objectives.PairHealth`; the figures of another evaluation say nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

PLATEAU = 0.98  # of the loss of chance
COLLAPSED = 0.95  # mean cosine of two different pictures, or captions
MATTERS = 0.02  # of the loss with the captions of others
REPEATED = 0.05  # of the captions


def diagnoses(values: Mapping[str, Any]) -> list[str]:
  """A sentence for each thing that is wrong, with the way out; none where all is well."""
  if "shuffled_loss" not in values:
    return []

  def of(name: str) -> float:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) else math.nan

  loss, shuffled = of("loss"), of("shuffled_loss")
  told = []
  if of("of_chance") > PLATEAU:
    told.append(
      f"plateau: the loss {loss:.3g} is what guessing has, {loss / of('of_chance'):.3g}. If it "
      "stays there, pictures and captions may not belong together, or the learning rate is too "
      "high or its warmup too short."
    )
  for tower, other in (("image", "pictures"), ("text", "captions")):
    if of(f"{tower}_likeness") > COLLAPSED:
      told.append(
        f"the {tower} tower has collapsed: two {other} have a cosine of "
        f"{of(f'{tower}_likeness'):.3f} on average, so that they cannot be told apart. "
        "Look at what it is given, and lower the learning rate."
      )
  if shuffled - loss < MATTERS * abs(shuffled):
    told.append(
      f"captions do not matter: with the captions of other pictures the loss is {shuffled:.3g}, "
      f"with their own {loss:.3g}. Look at the captions (research data), their lengths and ends."
    )
  if of("at_bound") > 0.5:
    told.append(
      f"the temperature is at its bound (scale {of('scale'):.3g}): the model would sharpen its "
      "scores further. That is usual late in training; early, it says that the pairs are too easy, "
      "or repeat."
    )
  if of("repeated_captions") > REPEATED:
    told.append(
      f"{100 * of('repeated_captions'):.0f} % of the captions are said of more than one picture of "
      "a batch and count as wrong for one another; give the objective alike=('caption',)."
    )
  return told
