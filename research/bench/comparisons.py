"""Who runs beside whom: for each kind of benchmark the commands of ours and of its peers."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

from research import memory
from research.bench import sizes

HERE = Path(__file__).parent
MEMORY = {memory.ENVIRONMENT: memory.tunables()}  # what our own commands start with
DTYPES = ("float32", "bfloat16")
SDPA = ("sdpa", {})
TRAINING = {
  "Hugging Face, sdpa": ("hf", {}),
  "PyTorch, sdpa, compile": ("torch", {}),
  "PyTorch, eager, compile": ("eager", {}),
  "the same, our memory settings": ("eager", MEMORY),
}
BERT = {
  "Hugging Face, sdpa": SDPA,
  "Hugging Face, eager": ("eager", {}),
  "the same, our memory settings": ("eager", MEMORY),
  "Hugging Face, compile": ("compile", {}),
  "the same, masked places only": ("gathered", {}),
}
TEXTS = {"Hugging Face, sdpa": SDPA, "Hugging Face, compile": ("compile", {})}
SORTED = {"Hugging Face, sorted by length": ("sorted", {})}
DECODING = {"Hugging Face generate": ("hf", {})}
TRANSLATION = {"Hugging Face generate": SDPA}
PAIRS = {
  "Hugging Face, sdpa": SDPA,
  "Hugging Face, compile": ("compile", {}),
  "open_clip": ("open_clip", {}),
  "open_clip, compile": ("open_clip_compile", {}),
}


@dataclasses.dataclass(frozen=True)
class Entry:
  """One line of the table: a name, the worker's command, and what its environment has more."""

  name: str
  command: tuple[str, ...]
  environment: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One table: what is done, in which dtype, by whom (ours is the first), and what is counted."""

  what: str
  dtype: str
  entries: list[Entry]
  unit: str = "tokens"


def training(size: str, python: str | None) -> Iterator[Comparison]:
  for dtype in DTYPES:
    entries = _entries("ours", "peers", ("train", size, dtype), python, TRAINING)
    yield Comparison(f"training GPT-2 {size}, {dtype}", dtype, entries)


def decoding(size: str, python: str | None) -> Iterator[Comparison]:
  for dtype in DTYPES:
    for texts in sizes.DECODED:
      words = ("decode", size, dtype, str(texts))
      entries = _entries("ours", "peers", words, python, DECODING)
      yield Comparison(f"decoding GPT-2 {size}, {dtype}, {texts} at once", dtype, entries)


def bert(size: str, python: str | None, folder: Path) -> Iterator[Comparison]:
  for dtype in DTYPES:
    entries = _entries("ours_read", "peers_read", ("bert", dtype, str(folder)), python, BERT)
    yield Comparison(f"training BERT {size}, {dtype}", dtype, entries)


def classify(size: str, python: str | None, folder: Path) -> Iterator[Comparison]:
  for dtype in DTYPES:
    for lengths in sizes.CLASSIFY:
      words = ("classify", dtype, str(folder), lengths)
      peers = TEXTS | (SORTED if lengths == sizes.UNEVEN else {})
      entries = _entries("ours_read", "peers_read", words, python, peers)
      what = f"classifying with BERT {size}, {dtype}, {lengths} lengths"
      yield Comparison(what, dtype, entries)


def translate(size: str, python: str | None, folder: Path) -> Iterator[Comparison]:
  for dtype in DTYPES:
    for texts in sizes.SIDE_BY_SIDE:
      words = ("translate", dtype, str(folder), str(texts))
      entries = _entries("ours_read", "peers_read", words, python, TRANSLATION)
      yield Comparison(f"translating with T5 {size}, {dtype}, {texts} at once", dtype, entries)


def clip(size: str, python: str | None, folder: Path) -> Iterator[Comparison]:
  for dtype in DTYPES:
    entries = _entries("ours_read", "peers_clip", ("clip", dtype, str(folder)), python, PAIRS)
    yield Comparison(f"training CLIP {size}, {dtype}", dtype, entries, unit="pairs")


def _entries(
  ours: str,
  theirs: str,
  words: tuple[str, ...],
  python: str | None,
  peers: dict[str, tuple[str, dict[str, str]]],
) -> list[Entry]:
  entries = [Entry("research", (sys.executable, "-m", f"research.bench.{ours}", *words), MEMORY)]
  for name, (peer, environment) in peers.items() if python else ():
    entries.append(Entry(name, (python, str(HERE / f"{theirs}.py"), *words, peer), environment))
  return entries


MADE_UP = {"train": training, "decode": decoding}
READ = {"bert": bert, "classify": classify, "translate": translate, "clip": clip}
PEERS = ("torch", "transformers")  # what their interpreter has to have
NEEDED = {"clip": (*PEERS, "open_clip")}
