"""A folder of Hugging Face's, whole: config.json and tensors in, or out."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import unflatten_dict

from research.errors import UserError, nearest
from research.hf import tensors
from research.hf.bart import BART, MARIAN
from research.hf.bert import BERT_FAMILY, ROBERTA_FAMILY
from research.hf.clip import CLIP_FAMILY, SIGLIP_FAMILY, bounded, colours, unbounded
from research.hf.config import Config
from research.hf.family import Family
from research.hf.gpt2 import GPT1, GPT2
from research.hf.llama import LLAMA, MISTRAL, QWEN2, QWEN3
from research.hf.t5 import MT5, T5
from research.hf.table import REPEATED
from research.hf.vit import VIT_FAMILY
from research.models import BERT, CLIP, GPT, Transformer, ViT

CONFIG, PICTURES = "config.json", "preprocessor_config.json"
FAMILIES = {
  family.model_type: family
  for family in (
    *(GPT2, GPT1, LLAMA, MISTRAL, QWEN2, QWEN3, BERT_FAMILY, ROBERTA_FAMILY),
    *(T5, MT5, BART, MARIAN, CLIP_FAMILY, SIGLIP_FAMILY, VIT_FAMILY),
  )
}
# Those that a model of ours may be, the likeliest first.
KINDS = {
  GPT: (GPT2, GPT1, LLAMA, QWEN2, QWEN3, MISTRAL),
  BERT: (BERT_FAMILY, ROBERTA_FAMILY),
  Transformer: (T5, MT5, BART, MARIAN),
  CLIP: (CLIP_FAMILY, SIGLIP_FAMILY),
  ViT: (VIT_FAMILY,),
}


class Imported(NamedTuple):
  """What a folder holds.

  Attributes:
    model: ours.
    params: its parameters, nested, one entry for each layer; only the heads that the folder has.
    config: its config.json.
    family: of the model.
    names: of its tensors, as they are spelled today, with their shapes.
  """

  model: Any
  params: dict[str, Any]
  config: dict[str, Any]
  family: Family
  names: dict[str, list[int]]


def read(path: Path | str) -> Imported:
  """Reads a model with its parameters, every tensor accounted for.

  Raises:
    UserError: not such a folder, a model that has no counterpart here, or a tensor that is missing,
      unexpected, misshapen or damaged; the line names it.
  """
  folder = Path(path)
  if not folder.is_dir():
    raise UserError(f"{folder} is no folder; give one with {CONFIG} and {tensors.FILE}.")
  config = tensors.read_json(folder / CONFIG)
  family = _family(folder / CONFIG, config)
  entries = {}
  for name, entry in tensors.entries(folder).items():
    if (spelled := family.spelled(name)) is not None:
      entries[spelled] = (name, entry)
  family, of_ours = model(folder, config, entries)
  names = {name: list(entry.shape) for name, (_, entry) in entries.items()}
  params = _params(folder, family, of_ours, entries)
  if isinstance(of_ours, CLIP):
    of_ours = unbounded(of_ours, params)
  return Imported(of_ours, params, config, family, names)


def model(folder: Path, config: Mapping[str, Any], names: Collection[str]) -> tuple[Family, Any]:
  """The family and our model of a config, given the names of the tensors."""
  family = _family(folder / CONFIG, config)
  of_ours = family.read(Config(folder / CONFIG, config), names)
  if isinstance(of_ours, CLIP | ViT) and (folder / PICTURES).is_file():
    of_ours = of_ours.clone(**colours(tensors.read_json(folder / PICTURES)))
  return family, of_ours


def _family(where: Path, config: Mapping[str, Any]) -> Family:
  if "auto_map" in config:
    raise UserError(
      f"{where} asks for code of its own (auto_map); none from elsewhere is run here."
    )
  if "quantization_config" in config:
    raise UserError(f"{where} describes quantized weights, which are not read; give the others.")
  Config(where, config).names("architectures")  # what export asks is no surprise then
  kind = config.get("model_type")
  if not isinstance(kind, str) or kind not in FAMILIES:
    raise UserError(
      f"{where}: model_type={str(kind)[:40]!r} is not known here.{nearest(str(kind), FAMILIES)} "
      f"Known are {', '.join(FAMILIES)}."
    )
  return FAMILIES[kind]


def _params(folder: Path, family: Family, model: Any, entries: Mapping[str, Any]) -> dict[str, Any]:
  """The parameters, after all names and shapes were compared."""
  left, found = dict(entries), []
  parts: dict[str, list[str]] = {}
  missing: dict[str, list[str]] = {}
  for tensor in family.tensors(model):
    names = (tensor.theirs, tensor.theirs.removeprefix(family.prefix))
    name = next((name for name in names if name in left), None)
    if name is None:
      missing.setdefault(tensor.row.part, []).append(tensor.theirs)
      continue
    parts.setdefault(tensor.row.part, []).append(name)
    given, entry = left.pop(name)
    if entry.shape != tensor.shape:
      raise UserError(
        f"{entry.file}: {given} is {list(entry.shape)}, and {CONFIG} makes it {list(tensor.shape)}."
      )
    found.append((tensor, given, entry))
  for part, names in missing.items():
    # A head that is not there at all is none; of one that is there, nothing may lack.
    if part == "" or (part != REPEATED and part in parts):
      raise UserError(f"{folder} lacks {names[0]}{_more(names)}, which {CONFIG} asks for.")
  if left:
    names = [given for given, _ in left.values()]
    raise UserError(
      f"{folder} holds {names[0]}{_more(names)}, which no {family.model_type} model here has."
    )
  flat: dict[str, np.ndarray] = {}
  for tensor, given, entry in found:
    for path, array in tensor.read(tensors.read(given, entry)).items():
      if path in flat and not np.array_equal(flat[path], array):
        raise UserError(
          f"{entry.file}: {given} differs from what it should repeat (see tie_word_embeddings in "
          f"{CONFIG})."
        )
      flat[path] = array
  return unflatten_dict(flat, sep="/")


def _more(names: list[str]) -> str:
  return f" and {len(names) - 1} more" if len(names) > 1 else ""


def write(
  path: Path | str,
  model: Any,
  params: Mapping[str, np.ndarray],
  *,
  config: Mapping[str, Any] | None = None,
  files: Mapping[str, bytes] | None = None,
) -> Family:
  """Writes a folder that `transformers` loads; it appears under its name once it is whole.

  Args:
    path: of the folder, which must not exist.
    model: ours.
    params: "a/b/c" -> array, one for each layer.
    config: of what the model was imported from, for what ours does not know.
    files: what else lies in the folder, by name.

  Raises:
    UserError: there is something at `path`, or transformers has no such model.
  """
  folder = Path(path)
  _check_free(folder)
  family, values = described(model, config or {})
  if isinstance(model, CLIP):
    params = bounded(model, params)
  known = {tensor.theirs: tensor for tensor in family.tensors(model)}
  written = {
    name: tensor
    for name, tensor in known.items()
    if tensor.row.part != REPEATED and all(ours in params for ours in tensor.ours)
  }
  lost = {*params} - {ours for tensor in written.values() for ours in tensor.ours}
  absent = [name for name, t in known.items() if t.row.part == "" and name not in written]
  if lost or absent:
    what = f"{min(lost)} has no name there" if lost else f"it lacks {absent[0]}"
    raise UserError(f"{folder}: the model cannot be exported as {family.model_type}: {what}.")
  parts = {tensor.row.part for tensor in written.values()} - {""}
  imported = Config(CONFIG, config or {}).names("architectures") or ()
  architecture = family.architecture(parts, imported)
  bare = architecture == family.bare
  arrays = {
    name.removeprefix(family.prefix) if bare else name: tensor.write(params)
    for name, tensor in written.items()
  }
  about = {"model_type": family.model_type, "architectures": [architecture], "dtype": "float32"}
  with appearing(folder) as temporary:
    text = json.dumps({**values, **about}, indent=2, sort_keys=True)
    (temporary / CONFIG).write_text(text + "\n", encoding="utf-8")
    tensors.write(temporary, arrays)
    for name, contents in (files or {}).items():
      (temporary / name).write_bytes(contents)
  return family


def described(model: Any, config: Mapping[str, Any]) -> tuple[Family, dict[str, Any]]:
  """The family of a model of ours and its config, over the one that it was imported with.

  Raises:
    UserError: transformers has no such model.
  """
  families = KINDS.get(type(model), ())
  if not families:
    raise UserError(f"a {type(model).__name__} has no counterpart in transformers.")
  imported = FAMILIES.get(config.get("model_type"))
  reasons = []
  for family in sorted(families, key=lambda family: family is not imported):
    try:
      values = family.write(model)
    except UserError as error:
      reasons.append(error)
      continue
    base = config if imported in (family, None) else {}
    if family is imported and _says(family, base, model):
      return family, dict(base)
    merged = {**base, **values}
    for name in ("text_config", "vision_config"):  # a config within the config
      if name in values:
        merged[name] = {**(base.get(name) or {}), **values[name]}
        merged.pop(f"{name}_dict", None)  # which would stand above it
    return family, merged
  raise reasons[0]


def _says(family: Family, config: Mapping[str, Any], model: Any) -> bool:
  """Whether a config describes the model already, in its own words."""
  names = {tensor.theirs for tensor in family.tensors(model) if tensor.row.part != REPEATED}
  try:
    return family.read(Config(CONFIG, config), names) == model
  except UserError:
    return False


@contextlib.contextmanager
def appearing(folder: Path) -> Iterator[Path]:
  """A temporary folder beside `folder`, which gets its name once the block is through.

  Raises:
    UserError: there is something already, or it cannot be written.
  """
  _check_free(folder)
  temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
  try:
    temporary.mkdir(parents=True)
    yield temporary
    temporary.rename(folder)
  except OSError as error:
    raise UserError(f"{folder} cannot be written: {error.strerror or error}.") from error
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _check_free(folder: Path) -> None:
  if folder.exists() or folder.is_symlink():
    raise UserError(f"{folder} exists already; give a path where nothing is.")
