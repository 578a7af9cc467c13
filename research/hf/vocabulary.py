"""The tokenizer in a folder of Hugging Face's, in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.data import HuggingFace, Vocabulary, published
from research.data.hugging_face import HuggingFaceVocabulary
from research.data.published import letters_of_bytes
from research.data.vocabulary import ByteVocabulary
from research.errors import UserError
from research.hf import tensors

ABOUT = "tokenizer_config.json"
NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
# What such tokens are called where nothing says which they are.
USUAL = {"[CLS]": "cls_token", "[SEP]": "sep_token", "[MASK]": "mask_token", "[PAD]": "pad_token"}
USUAL |= {"[UNK]": "unk_token", "<unk>": "unk_token", "<pad>": "pad_token", "<mask>": "mask_token"}


def read(folder: Path, config: Mapping[str, Any]) -> Vocabulary | None:
  """The vocabulary of a folder, None where it has no tokenizer that is known here.

  Raises:
    UserError: its files are damaged.
  """
  try:
    published.find(str(folder))
  except UserError:
    return None
  about = tensors.read_json(folder / ABOUT) if (folder / ABOUT).is_file() else {}
  plain = HuggingFace(str(folder), end=_name(about.get("eos_token"))).fit()
  if not isinstance(plain, HuggingFaceVocabulary):
    return plain
  end, begin = _name(about.get("eos_token")), _leading(plain.text)
  if end is None:
    end = _numbered(plain.text, config.get("eos_token_id"))
  return HuggingFaceVocabulary(plain.text, end, begin)


def _name(token: Any) -> str | None:
  """A special token is a text, or an object with one."""
  token = token.get("content") if isinstance(token, dict) else token
  return token if isinstance(token, str) else None


def _numbered(text: str, number: Any) -> str | None:
  from tokenizers import Tokenizer

  number = number[0] if isinstance(number, list) and number else number
  return (
    Tokenizer.from_str(text).id_to_token(number) if type(number) is int and number >= 0 else None
  )


def _leading(text: str) -> str | None:
  """The special token that the tokenizer puts before every text."""
  from tokenizers import Tokenizer

  tokenizer = Tokenizer.from_str(text)
  tokenizer.no_truncation()  # settings of one use, not of the vocabulary
  tokenizer.no_padding()
  with_marks, without = (
    tokenizer.encode("a", add_special_tokens=marks).ids for marks in (True, False)
  )
  if len(with_marks) > len(without) and with_marks[1 : 1 + len(without)] == without:
    return tokenizer.id_to_token(with_marks[0])
  return None


def check(vocabulary: Vocabulary, model: Any) -> None:
  """UserError where a vocabulary has tokens of which the model has no embedding."""
  if vocabulary.vocab_size > model.vocab_size:
    raise UserError(
      f"the tokenizer has {vocabulary.vocab_size} tokens, and the model embeddings of only "
      f"{model.vocab_size}; give the tokenizer that belongs to it."
    )


def files(vocabulary: Vocabulary, max_length: int) -> dict[str, bytes]:
  """The files by which `transformers.AutoTokenizer` makes the same tokens, by name."""
  from tokenizers import Tokenizer

  if isinstance(vocabulary, ByteVocabulary):
    text = _bytes()
  elif isinstance(vocabulary, HuggingFaceVocabulary):
    text = vocabulary.text
  else:
    return {"tokenizer.model": vocabulary.model}
  # Not only among the special ones: any piece may end a text.
  name = Tokenizer.from_str(text).id_to_token
  about: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
  about |= {USUAL[piece]: piece for piece in vocabulary.special if piece in USUAL}
  about["eos_token"] = name(vocabulary.end)
  if vocabulary.begin != vocabulary.end:
    about["bos_token"] = name(vocabulary.begin)
  about["model_max_length"] = max_length
  # Decoded text is what was written, with the spaces that it has.
  about["clean_up_tokenization_spaces"] = False
  return {
    published.JSON: text.encode(),
    ABOUT: (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode(),
  }


END = "<|endoftext|>"


def _bytes() -> str:
  """A tokenizer.json whose token i is byte i, and 256 the end of a text."""
  from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

  ids = {letter: byte for byte, letter in letters_of_bytes().items()}
  tokenizer = Tokenizer(models.BPE(vocab={**ids, END: 256}, merges=[]))
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.add_special_tokens([AddedToken(END, special=True)])
  return tokenizer.to_str()
