"""Malformed data: texts, tables, pictures, tokenizers, prepared datasets and caches.

Held is: what the file says comes out of it, or one line that names the file and the place; of what
has a check of its own (gzip, ArrayRecord, saved vocabularies, caches) nothing but what was written.
No crash, no more than five seconds of processor time, two GiB of memory.
"""

from __future__ import annotations

import functools
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import readers
from .bad_files import PAIRS, PICTURES, TEXTS, Bad
from .damage import damages
from .forks import Ended, Forks, forks
from .outcome import Outcome, Say, judged, spread

READERS = readers.__name__


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """Tries `n` files, all by default; `seed` chooses which bits are flipped."""
  with tempfile.TemporaryDirectory() as name, forks() as children:
    cases = spread([*_written(children), *_harmed(children, Path(name), seed)], n)
    outcome = judged(((what, attempt()) for what, attempt in cases), len(cases), say)
  return outcome


Case = tuple[str, Any]  # what it is, and what tries it and says what went wrong


def _written(children: Forks) -> Iterator[Case]:
  """Files that are wrong by their contents."""
  for reader, bads in (("files", TEXTS), ("pairs", PAIRS), ("pairs", PICTURES)):
    for bad in bads:
      yield f"{reader}: {bad.name}", functools.partial(_read, children, reader, bad)


def _read(children: Forks, reader: str, bad: Bad) -> str:
  with tempfile.TemporaryDirectory() as name:
    bad.make(Path(name))
    ended = children.run(f"{READERS}:{reader}", *bad.options, folder=Path(name))
  if problem := _problem(ended):
    return problem
  if isinstance(bad.wanted, str):
    told = ended.answer.get("error", "") if isinstance(ended.answer, dict) else ""
    return "" if bad.wanted in told else f"{bad.wanted!r} is not told, but {_short(ended.answer)}"
  if ended.answer != bad.wanted:
    return f"gives {_short(ended.answer)} instead of {_short(bad.wanted)}"
  if bad.said not in ended.said:
    return f"{bad.said!r} is not said, but {ended.said[-300:]!r}"
  return ""


# A kind of whole files, how they are read, which of them are harmed, and whether what comes out
# has to be what was written: texts, pictures and published tokenizers carry no checks.
HARMED = (
  ("vocabulary", "saved", ["sentencepiece"], "sentencepiece/*", True),
  ("vocabulary", "saved", ["bert"], "bert/*", True),
  ("vocabulary", "saved", ["bytes"], "bytes/*", True),
  ("gpt2", "tokens", ["tokenizer.json"], "tokenizer.json", False),
  ("gpt2", "tokens", ["encoder.json"], "[ev]*o[c]*", False),
  ("vocabulary", "tokens", ["vocab.txt"], "vocab.txt", False),
  ("tfds", "records", [], "poems/*/*", True),
  ("cache", "prepared", [], "cache/text/*/**/*", True),
  ("cache", "prepared", [], "cache/vocabulary/*/*", True),
  ("pictures", "pairs", [0.5], "pictures/*", False),
)


def _harmed(children: Forks, home: Path, seed: int) -> Iterator[Case]:
  """Whole files that came to harm."""
  draw = random.Random(seed)
  for kind, reader, options, pattern, checked in HARMED:
    good = home / kind
    if not good.exists():
      good.mkdir()
      made = children.run(f"{READERS}:make", kind, folder=good)
      if made.code:
        raise RuntimeError(f"whole files of {kind} cannot be made:\n{made.said}")
    whole = children.run(f"{READERS}:{reader}", *options, folder=good)
    if whole.code or "error" in whole.answer:
      raise RuntimeError(f"whole files of {kind} cannot be read:\n{whole.said}{whole.answer}")
    for file in sorted(path for path in good.glob(pattern) if path.is_file()):
      content = file.read_bytes()
      for what, left in damages(content, draw) if content else [("deleted", None)]:
        place = file.relative_to(good)
        attempt = functools.partial(
          _reread, children, good, place, left, reader, options, whole.answer if checked else None
        )
        yield f"{reader}: {place.name} {what}", attempt


def _reread(
  children: Forks,
  good: Path,
  place: Path,
  left: bytes | None,
  reader: str,
  options: list[Any],
  wanted: Any,
) -> str:
  with tempfile.TemporaryDirectory() as name:
    bad = Path(name) / "bad"
    shutil.copytree(good, bad)
    if left is None:
      (bad / place).unlink()
    else:
      (bad / place).write_bytes(left)
    ended = children.run(f"{READERS}:{reader}", *options, folder=bad)
  if problem := _problem(ended):
    return problem
  told = ended.answer.get("error") if isinstance(ended.answer, dict) else None
  if told is None:
    return "" if wanted in (None, ended.answer) else f"silently gives {_short(ended.answer)}"
  parts = {place.name, place.parent.name, place.parts[0]} - {""}
  return "" if any(part in told for part in parts) else f"is not named: {told}"


def _problem(ended: Ended) -> str:
  if ended.problem:
    return ended.problem
  if ended.answer is None:
    return f"raises {(ended.said.strip().splitlines() or ['nothing'])[-1][:300]}"
  error = ended.answer.get("error", "") if isinstance(ended.answer, dict) else ""
  if "\n" in error or len(error) > 3000:
    return f"an error of {len(error)} letters, {error.count(chr(10)) + 1} lines"
  return ""


def _short(value: Any) -> str:
  text = json.dumps(value, ensure_ascii=True)
  return text if len(text) < 300 else f"{text[:300]}..."
