"""Rotary positions in a config.json: the base, and how it is stretched."""

from __future__ import annotations

from typing import Any

from research.errors import UserError
from research.hf.config import Config
from research.nn.rotary import Linear, Llama3, Scaling, Yarn

BASE, LENGTH = 10_000.0, 2048


def read(config: Config) -> tuple[float, Scaling | None]:
  """From `rope_scaling`, which stands above `rope_parameters` in transformers; or `rope_theta`."""
  found = config.part("rope_scaling" if config.values.get("rope_scaling") else "rope_parameters")
  base = float(found.number("rope_theta", config.number("rope_theta", BASE)))
  kind = found.values.get("rope_type", found.values.get("type", "default"))
  config.only("all values of a head are rotated here", partial_rotary_factor=1.0)
  found.only("all values of a head are rotated here", partial_rotary_factor=1.0)
  if kind == "default":
    return base, None
  length = config.size("max_position_embeddings", LENGTH)
  original = found.size("original_max_position_embeddings", length)
  if kind == "linear":
    return base, Linear(float(found.number("factor")))
  if kind == "llama3":
    low, high = (float(found.number(f"{name}_freq_factor")) for name in ("low", "high"))
    if low >= high:
      raise UserError(
        f"{found.where}: low_freq_factor={low} must be below high_freq_factor={high}."
      )
    return base, Llama3(float(found.number("factor")), low, high, original)
  if kind == "yarn":
    found.only("the scores' scale is the paper's", mscale=None, mscale_all_dim=None, truncate=True)
    return base, Yarn(
      factor=float(found.number("factor")),
      original_length=original,
      fast=float(found.number("beta_fast", 32.0)),
      slow=float(found.number("beta_slow", 1.0)),
      temperature=found.number("attention_factor", None),
    )
  raise UserError(
    f"{found.where}: rope_type={str(kind)[:40]!r} is not known here, which 'default', 'linear', "
    "'llama3' and 'yarn' are (those that depend on the length of a text are not)."
  )


def write(base: float, scaling: Scaling | None) -> dict[str, Any]:
  """The inverse, as transformers 5 has it and as version 4 has it."""
  about: dict[str, Any] = {"rope_type": "default"}
  if isinstance(scaling, Linear):
    about = {"rope_type": "linear", "factor": scaling.factor}
  if isinstance(scaling, Llama3):
    about = {
      "rope_type": "llama3",
      "factor": scaling.factor,
      "low_freq_factor": scaling.low,
      "high_freq_factor": scaling.high,
      "original_max_position_embeddings": scaling.original_length,
    }
  if isinstance(scaling, Yarn):
    about = {
      "rope_type": "yarn",
      "factor": scaling.factor,
      "beta_fast": scaling.fast,
      "beta_slow": scaling.slow,
      "original_max_position_embeddings": scaling.original_length,
    }
    if scaling.temperature is not None:
      about["attention_factor"] = scaling.temperature
  return {
    "rope_parameters": {**about, "rope_theta": base},
    "rope_theta": base,
    "rope_scaling": None if scaling is None else about,
  }
