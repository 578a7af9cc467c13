"""Arrays in a folder: Orbax writes them in the background, and reads them onto their devices."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict

METADATA = "_CHECKPOINT_METADATA"


class ArrayFiles:
  """Writes one folder of arrays at a time; names are "a/b/c"."""

  def __init__(self):
    self._orbax = _open()
    for name in ("absl", "asyncio"):  # they print, over pages, what Orbax raises too
      logging.getLogger(name).setLevel(logging.CRITICAL)

  def write(self, folder: Path, arrays: Mapping[str, Any], words: Mapping[str, Any]) -> None:
    """Begins to make `folder`; donating the arrays is safe once this returns.

    Args:
      folder: which is not there yet; it appears when all is in it.
      arrays: by name.
      words: JSON, kept beside them.
    """
    tree = ocp.args.PyTreeSave(_nested(arrays))
    self._orbax.save(folder, args=tree, custom_metadata=dict(words))

  def check(self) -> None:
    """Raises what went wrong with the last write so far, without waiting for its end."""
    self._orbax.check_for_errors()

  def wait(self) -> None:
    """Waits for the end of the last write, and raises what went wrong."""
    self._orbax.wait_until_finished()

  def renew(self) -> None:
    """Forgets a write that failed: it can go wrong in several threads, one after another."""
    with contextlib.suppress(Exception):
      self._orbax.close()
    self._orbax = _open()

  def close(self) -> None:
    """Waits as `wait` does; nothing can be written any more."""
    self._orbax.close()

  def read(self, folder: Path, wanted: Mapping[str, Any], partial: bool) -> dict[str, Any]:
    """The arrays on the devices that `wanted` names.

    Args:
      folder: written before.
      wanted: `jax.ShapeDtypeStruct` with shardings, by name.
      partial: whether there may be others.
    """
    places = {
      name: ocp.ArrayRestoreArgs(sharding=x.sharding, global_shape=x.shape, dtype=x.dtype)
      for name, x in wanted.items()
    }
    args = ocp.args.PyTreeRestore(
      item=_nested(wanted), restore_args=_nested(places), partial_restore=partial
    )
    with _quiet():
      return flatten_dict(self._orbax.restore(folder, args=args), sep="/")


def words_of(folder: Path) -> Any:
  """What was kept beside the arrays; OSError, ValueError or KeyError where it is damaged."""
  return json.loads((folder / METADATA).read_text(encoding="utf-8"))["custom_metadata"]


def reason(error: Any) -> str:
  """The cause in at most 200 letters; TensorStore tells it by number, after much else."""
  if number := re.search(r"os_error_code='(\d+)'", str(error)):
    return os.strerror(int(number.group(1)))
  line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
  return line if len(line) <= 200 else f"{line[:120]} ... {line[-75:]}"


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
  return unflatten_dict(dict(flat), sep="/")


def _open() -> ocp.AsyncCheckpointer:
  # A folder that Orbax makes in the background, and the disk refuses, is waited for 300 seconds.
  options = ocp.options.AsyncOptions(create_directories_asynchronously=False)
  # Weights hardly compress (by 8 %), and what is compressed is read at a third of the speed.
  handler = ocp.PyTreeCheckpointHandler(use_compression=False)
  return ocp.AsyncCheckpointer(handler, async_options=options)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Of many arrays that cannot be read, Orbax raises the first; the others come up as noise."""
  before = sys.unraisablehook
  sys.unraisablehook = lambda _: None
  try:
    yield
  except Exception:
    gc.collect()  # while nobody listens
    raise
  finally:
    sys.unraisablehook = before
