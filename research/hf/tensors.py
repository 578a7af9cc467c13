"""The tensors of a folder in the safetensors format: read with suspicion, written whole or not.

Headers are checked before a tensor is read: whatever a file claims, it is told in one line. Nothing
but this format is read, for pickles (.bin, .pt) run the code that they contain.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from research.errors import UserError

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
HEADER = 100_000_000  # bytes of a header, at most, as in the format's own reader
SHARD = 5_000_000_000  # bytes of a file, as transformers writes them
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
BYTES |= {"U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
FLOATS = ("F64", "F32", "F16", "BF16")


class Entry(NamedTuple):
  """Where a tensor lies, and what its header says of it."""

  file: Path
  dtype: str
  shape: tuple[int, ...]


def entries(folder: Path) -> dict[str, Entry]:
  """Name -> entry of all tensors of a folder, their headers checked.

  Raises:
    UserError: no tensors in this format, a shard that is missing, or a damaged file.
  """
  if (folder / INDEX).is_file():
    return _sharded(folder)
  if (folder / FILE).is_file():
    return _file(folder / FILE)
  others = sorted(path.name for kind in PICKLES for path in folder.glob(kind))
  if others:
    raise UserError(
      f"{folder} holds its weights as {others[0]}, which is not read: such files can run code. "
      "Convert them where transformers and torch are: AutoModel.from_pretrained(FOLDER)"
      ".save_pretrained(NEW_FOLDER) writes model.safetensors (with the class that config.json "
      "names under architectures in the place of AutoModel)."
    )
  raise UserError(f"{folder} has no weights: neither {FILE} nor {INDEX}; give a folder with one.")


def _sharded(folder: Path) -> dict[str, Entry]:
  index = read_json(folder / INDEX)
  places = index.get("weight_map")
  if not isinstance(places, dict) or not all(isinstance(p, str) for p in places.values()):
    raise UserError(f"{folder / INDEX} has no weight_map of tensors to files; fetch it again.")
  found: dict[str, Entry] = {}
  for name in sorted(set(places.values())):
    if Path(name).name != name or not name.endswith(".safetensors"):
      raise UserError(f"{folder / INDEX} names {name!r}, which is no .safetensors file beside it.")
    if not (folder / name).is_file():
      raise UserError(f"{folder / name} is missing, which {INDEX} names; fetch it again.")
    for tensor, entry in _file(folder / name).items():
      if places.get(tensor) != name:
        raise UserError(
          f"{folder / name} holds {tensor}, which {INDEX} says is in {places.get(tensor)}."
        )
      found[tensor] = entry
  absent = [tensor for tensor in places if tensor not in found]
  if absent:
    raise UserError(
      f"{folder / places[absent[0]]} lacks {absent[0]}, which {INDEX} says it has; fetch it again."
    )
  return found


def _file(path: Path) -> dict[str, Entry]:
  """The entries of one file.

  Raises:
    UserError: it is cut off, or its header does not describe it.
  """
  try:
    size = path.stat().st_size
    with path.open("rb") as file:
      length = int.from_bytes(file.read(8), "little")
      if size < 8 or length > min(HEADER, size - 8):
        raise ValueError(f"its header would be {length:,} bytes long")
      header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_once)
    if not isinstance(header, dict):
      raise ValueError("its header is no JSON object")
    header.pop("__metadata__", None)
    found, spans = {}, []
    for name, about in header.items():
      dtype, shape, span = _described(name, about)
      found[name] = Entry(path, dtype, shape)
      spans.append((*span, name))
    _check_spans(sorted(spans), size - 8 - length)
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error.strerror}.") from error
  except (ValueError, RecursionError) as error:
    reason = str(error) or "its header is nested too deeply"
    raise UserError(f"{path} is no whole safetensors file: {reason}; fetch it again.") from error
  return found


def _described(name: str, about: Any) -> tuple[str, tuple[int, ...], tuple[int, int]]:
  if not isinstance(about, dict) or not {"dtype", "shape", "data_offsets"} <= set(about):
    raise ValueError(f"{name} has no dtype, shape and data_offsets")
  dtype, shape, span = about["dtype"], about["shape"], about["data_offsets"]
  if not isinstance(dtype, str) or dtype not in BYTES:
    raise ValueError(f"{name} has the unknown dtype {dtype!r}")
  if not _numbers(shape) or len(shape) > 32:
    raise ValueError(f"{name} has the shape {str(shape)[:80]}")
  if not _numbers(span) or len(span) != 2 or span[0] > span[1]:
    raise ValueError(f"{name} lies at {str(span)[:80]}")
  if math.prod(shape) * BYTES[dtype] != span[1] - span[0]:
    raise ValueError(f"{name}, {dtype} {shape}, does not fit the {span[1] - span[0]} bytes it has")
  return dtype, tuple(shape), tuple(span)


def _check_spans(spans: list[tuple[int, int, str]], size: int) -> None:
  """The tensors lie side by side, without overlap or holes, and fill the file."""
  for before, after in itertools.pairwise([(0, 0, ""), *spans]):
    if before[1] != after[0]:
      kind = "overlaps" if after[0] < before[1] else "leaves a hole after"
      raise ValueError(f"{after[2]} {kind} {before[2] or 'the header'}")
  end = spans[-1][1] if spans else 0
  if end != size:
    raise ValueError(f"its tensors take {end:,} bytes, and it has {size:,}")


def _numbers(values: Any) -> bool:
  return isinstance(values, list) and all(type(n) is int and 0 <= n < 2**63 for n in values)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  values = dict(pairs)
  if len(values) < len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f"it names {twice} twice")
  return values


def read(name: str, entry: Entry) -> np.ndarray:
  """The tensor as float32."""
  if entry.dtype not in FLOATS:
    raise UserError(
      f"{entry.file}: {name} is {entry.dtype}; weights are {', '.join(FLOATS)} (quantized "
      "checkpoints are not read)."
    )
  try:
    with safe_open(entry.file, framework="numpy") as file:
      return file.get_tensor(name).astype(np.float32)
  except (SafetensorError, OSError) as error:
    raise UserError(f"{entry.file}: {name} cannot be read: {error}.") from error


def write(folder: Path, tensors: Mapping[str, np.ndarray], shard: int = SHARD) -> None:
  """Writes tensors into `folder` as transformers does: one file, or shards with their index."""
  shards: list[dict[str, np.ndarray]] = [{}]
  room = shard
  for name, array in tensors.items():
    if array.nbytes > room and shards[-1]:
      shards.append({})
      room = shard
    shards[-1][name] = array
    room -= array.nbytes
  about = {"format": "pt"}  # of which framework the tensors are; transformers asks for it
  if len(shards) == 1:
    save_file(shards[0], folder / FILE, metadata=about)
    return
  places = {}
  for i, part in enumerate(shards, 1):
    name = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
    save_file(part, folder / name, metadata=about)
    places |= dict.fromkeys(part, name)
  size = sum(array.nbytes for array in tensors.values())
  index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
  (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
  """A JSON object.

  Raises:
    UserError: it is missing, or is none.
  """
  try:
    found = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise UserError(f"{path} is missing; give a folder that has it.") from None
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f"{path} cannot be read ({error}); fetch it again.") from None
  if not isinstance(found, dict):
    raise UserError(f"{path} is no JSON object; fetch it again.")
  return found
