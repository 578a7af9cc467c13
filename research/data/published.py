"""The files in which vocabularies are published, made into the text of a tokenizer.json."""

from __future__ import annotations

import json
import pathlib
import re

from research.data import reading
from research.errors import UserError

JSON = "tokenizer.json"
CLIP = "bpe_simple_vocab_16e6.txt.gz"
# Names of a vocabulary and its merges, as GPT-2's authors and Hugging Face publish them.
PIECES = ("tokenizer.model", "sentencepiece.model")  # theirs, and that of a run
PAIRS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
ENDS = ("<|endoftext|>", "</s>", "[SEP]", "<|end_of_text|>", "<eos>", "<|im_end|>")

CLIP_LINES = 49_152 - 256 - 2 + 1  # the file has more merges than the published model used
# The words of CLIP (openai/CLIP, simple_tokenizer.py): contractions, letters, digits, the rest.
CLIP_WORDS = (
  r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def find(path: str) -> tuple[pathlib.Path, ...]:
  """The file or pair of files that `path` means."""
  given = reading.expanded(path)
  if not given.exists():
    raise UserError(f"there is no {path}; give a tokenizer.json or a folder with a vocabulary")
  folder = given if given.is_dir() else given.parent
  wanted = None if given.is_dir() else given.name
  for names in ((JSON,), *PAIRS, (CLIP,), *((name,) for name in PIECES)):
    if (wanted is None or wanted in names) and all((folder / name).is_file() for name in names):
      return tuple(folder / name for name in names)
  if wanted is None:
    found = sorted(folder.glob("*vocab.txt"))
    if len(found) == 1:
      return (found[0],)
    if found:
      names = ", ".join(file.name for file in found)
      raise UserError(f"{path} holds several vocabularies: {names}; give the path of one")
  elif given.suffix in (".json", ".txt") and wanted not in sum(PAIRS, ()):
    return (given,)
  raise UserError(
    f"{path} holds no vocabulary; it takes {JSON}, {CLIP}, vocab.txt, tokenizer.model, or the pair "
    + " or ".join(" and ".join(names) for names in PAIRS)
  )


def build(paths: tuple[pathlib.Path, ...]) -> str:
  """The text of a tokenizer.json for the files."""
  from tokenizers import Tokenizer

  first = paths[0]
  if len(paths) == 2:
    return _gpt2(*paths).to_str()
  if first.name == CLIP:
    return _clip(first).to_str()
  if first.suffix == ".txt":
    return _bert(first).to_str()
  text = first.read_text(encoding="utf-8")
  Tokenizer.from_str(text)
  return text


def _gpt2(encoder: pathlib.Path, merges: pathlib.Path):
  from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

  lines = merges.read_text(encoding="utf-8").split("\n")
  pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
  ids = json.loads(encoder.read_text(encoding="utf-8"))
  tokenizer = Tokenizer(models.BPE(vocab=ids, merges=pairs))
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ENDS if name in ids])
  return tokenizer


def _clip(path: pathlib.Path):
  from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
  from tokenizers import pre_tokenizers as pre

  lines = reading.text(path).split("\n")
  merges = [tuple(line.split()) for line in lines[1:CLIP_LINES] if line]
  letters = list(letters_of_bytes().values())
  pieces = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
  specials = ["<|startoftext|>", "<|endoftext|>"]
  ids = {piece: i for i, piece in enumerate(pieces + specials)}
  model = models.BPE(vocab=ids, merges=merges, end_of_word_suffix="</w>", unk_token=specials[1])
  tokenizer = Tokenizer(model)
  tokenizer.normalizer = normalizers.Sequence(
    [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
  )
  tokenizer.pre_tokenizer = pre.Sequence(
    [pre.Split(Regex(CLIP_WORDS), "removed", invert=True), pre.ByteLevel(add_prefix_space=False)]
  )
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.add_special_tokens([AddedToken(name, special=True) for name in specials])
  return tokenizer


def _bert(path: pathlib.Path):
  from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

  pieces = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
  ids = {piece.rstrip("\r"): i for i, piece in enumerate(pieces)}
  if "[UNK]" not in ids:
    raise UserError(f"{path} has no [UNK]; it must be a vocabulary of BERT, one piece per line")
  specials = [name for name in ids if re.fullmatch(r"\[[A-Z]+\]", name)]
  # The file does not say whether text is lower-cased first: then no piece has a capital.
  cased = any(re.search("[A-Z]", name) for name in ids if name not in specials)
  tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]"))  # noqa: S106 (a piece)
  tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased)
  tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  tokenizer.decoder = decoders.WordPiece()
  tokenizer.add_special_tokens([AddedToken(name, special=True) for name in specials])
  return tokenizer


def letters_of_bytes() -> dict[int, str]:
  """The letter that byte-level BPE writes for each byte (Radford et al., 2019).

  Bytes that can be seen stand for themselves, the others for letters from U+0100 on, in order.
  """
  seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
  hidden = [byte for byte in range(256) if byte not in seen]
  return {byte: chr(byte) for byte in seen} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}
