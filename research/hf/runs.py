"""`research import hf` and `research export hf`: folders of Hugging Face's as runs, and back.

A run that was imported keeps the files of the folder beside its checkpoint, under `SOURCE`, but for
the weights: what it is follows from them, and what we do not understand of them goes out again.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research import checkpoint, disk, record, sample, secrets
from research.data import HuggingFace, vocabulary
from research.errors import UserError, shown
from research.hf import folder, tensors
from research.hf import vocabulary as tokenizers
from research.load import Recipe
from research.models import BERT, CLIP, GPT, Transformer, ViT
from research.parameters import under
from research.retention import Keep

SOURCE, NAMES, FIELDS, WORDS = "hugging_face", "tensors.json", "fields.json", "vocabulary"
EXPERIMENT = Path(__file__).with_name("imported.py")
FUNCTIONS = {
  GPT: "text",
  BERT: "masked",
  Transformer: "translation",
  CLIP: "pairs",
  ViT: "pictures",
}
KEPT = (
  *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
  *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
  *("vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja", "tokenizer.model"),
  *("spiece.model", "source.spm", "target.spm", "sentencepiece.bpe.model"),
)
DROPOUT = re.compile(r"(?!classifier|summary)\w*(dropout|pdrop)(_prob|_rate)?")
LARGEST = 200_000_000  # bytes of a file that is kept


def import_run(path: Path, workdir: Path) -> None:
  """Makes a run of a folder: experiment, vocabulary, and a checkpoint of step 0.

  Raises:
    UserError: the folder cannot be used (see `folder.read`), or there is something at `workdir`.
  """
  imported = folder.read(path)
  words = tokenizers.read(Path(path), imported.config)
  if words is not None and hasattr(imported.model, "vocab_size"):
    tokenizers.check(words, imported.model)
  with folder.appearing(workdir.absolute()) as temporary:
    (temporary / SOURCE).mkdir()
    for name in KEPT:
      file = Path(path) / name
      if file.is_file() and file.stat().st_size <= LARGEST:
        (temporary / SOURCE / name).write_bytes(file.read_bytes())
    (temporary / SOURCE / NAMES).write_text(json.dumps(imported.names), encoding="utf-8")
    if isinstance(imported.model, CLIP):  # whose bound follows from a tensor's value
      fields = {"largest_scale": imported.model.largest_scale}
      (temporary / SOURCE / FIELDS).write_text(json.dumps(fields), encoding="utf-8")
    if words is not None:
      words.save(temporary / WORDS)
    state = {"params": jax.tree.map(jnp.asarray, imported.params)}
    with checkpoint.Checkpoints(temporary / "checkpoints", keep=Keep()) as checkpoints:
      checkpoints.save(0, state)
    words = ["research", "import", "hf", str(path), "--workdir", str(workdir)]
    _remember(temporary, FUNCTIONS[type(imported.model)], secrets.command(words))
  _note_dropout(imported)


def _note_dropout(imported: folder.Imported) -> None:
  """Says which dropouts fine-tuning would not have: a model of ours has one for all its places."""
  ours = getattr(imported.model, "dropout", 0.0)
  theirs = [
    f"{name}={shown(x)}"
    for name, x in imported.config.items()
    if DROPOUT.fullmatch(name) and x not in (None, ours)
  ]
  if theirs:
    print(
      f"note: fine-tuning has dropout={ours} in all places here, where {folder.CONFIG} has "
      f"{', '.join(theirs)}; predictions are the same.",
      file=sys.stderr,
    )


def _remember(folder: Path, function: str, command: str) -> None:
  """Writes experiment.json, in which the run's own folder is `record.OWN`."""
  experiment = Recipe(EXPERIMENT, function, {"weights": str(folder)}, {}).experiment()
  record.remember(folder, Recipe(EXPERIMENT, function, {"weights": record.OWN}, {}), experiment)
  description = {
    name: record.replaced(text, str(folder), record.OWN)
    for name, text in experiment.describe().items()
  }
  path = folder / "experiment.json"
  kept = json.loads(path.read_text(encoding="utf-8"))
  kept |= {"description": secrets.describe(description), "command": command}
  disk.replace(path, json.dumps(kept, indent=1))


def described(weights: str) -> tuple[Any, HuggingFace]:
  """The model of an imported run, and its tokenizer; no array is read."""
  source = Path(weights) / SOURCE
  if not source.is_dir():
    raise UserError(
      f"weights={weights} is no imported run (it has no {SOURCE}); make one: research import hf "
      "FOLDER --workdir DIR."
    )
  config = tensors.read_json(source / folder.CONFIG)
  names = tensors.read_json(source / NAMES)
  model = folder.model(source, config, names)[1]
  if (source / FIELDS).is_file():
    model = model.clone(**tensors.read_json(source / FIELDS))
  place = Path(weights) / WORDS
  about = vocabulary.read(place) if (place / vocabulary.FILE).is_file() else {}
  return model, HuggingFace(str(place), about.get("end"), about.get("begin"))


def export_run(workdir: Path, path: Path) -> None:
  """Writes the newest checkpoint of a run as a folder that `transformers` loads.

  Raises:
    UserError: no such run or checkpoint, no such model in transformers, or something at `path`.
  """
  experiment, _ = record.open_run(workdir)
  source, model = Path(workdir) / SOURCE, experiment.model
  config: dict[str, Any] = {}
  kept: dict[str, bytes] = {}
  if source.is_dir():
    config = tensors.read_json(source / folder.CONFIG)
    kept = {
      file.name: file.read_bytes()
      for file in sorted(source.iterdir())
      if file.name not in (folder.CONFIG, NAMES, FIELDS)
    }
  elif hasattr(experiment.data, "prepare") or _has_words(workdir):
    words = sample.open_vocabulary(experiment, workdir)
    config, kept = _tokens(model, words), tokenizers.files(words, model.max_length)
  folder.write(path, model, _params(experiment, workdir), config=config, files=kept)


def _has_words(workdir: Path) -> bool:
  return (Path(workdir) / WORDS / vocabulary.FILE).is_file()


def _tokens(model: Any, words: Any) -> dict[str, Any]:
  """Numbers of special tokens, as a config has them."""
  numbers = {"bos_token_id": words.begin, "eos_token_id": words.end}
  if isinstance(model, Transformer):
    # Targets are led by end-of-text wherever they are trained on here, whatever begins a text.
    numbers |= {"decoder_start_token_id": words.end, "pad_token_id": words.end}
  if "[PAD]" in words.special:
    numbers["pad_token_id"] = pad = words.special["[PAD]"]
    if isinstance(model, BERT) and model.position_offset not in (None, pad + 1):
      raise UserError(
        f"model.position_offset={model.position_offset} cannot be exported: RoBERTa's positions "
        f"begin one behind the number of its padding, which is [PAD]={pad} in the vocabulary; "
        f"train with model.position_offset={pad + 1}."
      )
  return {"text_config": numbers} if isinstance(model, CLIP) else numbers


def _params(experiment: Any, workdir: Path) -> dict[str, np.ndarray]:
  """ "a/b/c" -> array of all parameters in the newest checkpoint; averaged ones first."""
  with checkpoint.of_run(workdir) as checkpoints:
    flat = checkpoints.arrays(checkpoints.latest(), under(experiment))
  return {name: np.asarray(x) for name, x in flat.items()}
