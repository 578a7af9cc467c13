"""YAML for people and engines: plain values in the order given, scripts as blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
  """Writes text of several lines as a block, and nothing by reference."""

  def ignore_aliases(self, data: Any) -> bool:
    return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
  style = "|" if "\n" in value else None
  return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dump(documents: Iterable[Any]) -> str:
  """The text of the documents; what YAML would read as something else is quoted."""
  return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
