"""What is fuzzed: each target reads an input as a run would. Child processes call these."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import harms, mistakes

WORDS = (
  b"[",
  b"{",
  b'"',
  b",",
  b"\n",
  b"\0",
  b"\xff",
  b"NaN",
  b"1e999",
  b"-1",
  b"\\ud800",
  b"null",
)


def make() -> list[str]:
  """Writes whole files into this folder; returns the targets that this machine has."""
  for kind in ("vocabulary", "gpt2", "pictures"):
    folder = Path(kind)
    folder.mkdir()
    getattr(harms, f"make_{kind}")(folder)
  Path("x.jsonl").write_text(
    "".join(json.dumps({"text": f"text {i}", "n": i}) + "\n" for i in range(9))
  )
  Path("x.csv").write_text('id,text\n1,"a, b"\n2,c\n3,"d ""e"""\n')
  mistakes.Mistake("", [], ()).make(Path())
  _make_run()
  _make_checkpoint()
  found = [*GIVEN, *MUTATED]
  if importlib.util.find_spec("research.hf.tensors"):
    _make_tensors()
  else:
    found.remove("tensors")
  return found


def attempt(target: str, seed: int, first: int, count: int) -> tuple[int, list[str]]:
  """How many of the inputs `first`, `first` + 1, ... were read, and what went wrong with others."""
  if target in GIVEN:
    return _given(target, seed + first, count)
  pattern, reader = MUTATED[target]
  files = sorted(Path().glob(pattern))
  whole = [file.read_bytes() for file in files]
  read, failures = 0, []
  for i in range(first, first + count):
    draw = random.Random(f"{target} {seed} {i}")
    k = draw.randrange(len(files))
    files[k].write_bytes(mutated(whole[k], draw))
    read += _judged(lambda k=k: reader(files[k]), f"input {i} ({files[k]})", failures)
    files[k].write_bytes(whole[k])
  return read, failures


def mutated(content: bytes, draw: random.Random) -> bytes:
  """`content` with a few bytes changed, cut, doubled or put in."""
  data = bytearray(content)
  for _ in range(draw.choice((1, 1, 2, 4, 16))):
    place = draw.randrange(len(data) + 1)
    length = draw.choice((1, 1, 2, 4, 64))
    match draw.randrange(6):
      case 0:
        data[place : place + 1] = bytes([draw.randrange(256)])
      case 1 if place < len(data):
        data[place] ^= 1 << draw.randrange(8)
      case 2:
        del data[place : place + length]
      case 3:
        data[place:place] = data[place : place + length]
      case 4:
        data[place:place] = draw.choice(WORDS)
      case 5:
        data[place : place + length] = draw.randbytes(length)
  return bytes(data[: draw.randrange(len(data) + 1)] if draw.random() < 0.1 else data)


def _given(target: str, seed: int, count: int) -> tuple[int, list[str]]:
  """The same with values of hypothesis."""
  import hypothesis

  strategy, reader = GIVEN[target]()
  read, failures = [], []

  @hypothesis.seed(seed)
  @hypothesis.settings(
    max_examples=count,
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(strategy)
  def each(value: Any) -> None:
    read.append(_judged(lambda: reader(value), repr(value)[:200], failures))

  each()
  return sum(read), failures


def _judged(read: Callable[[], Any], what: str, failures: list[str]) -> bool:
  from research.errors import IntegrityError, UserError

  try:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
      read()
  except (UserError, IntegrityError) as error:
    if len(str(error).splitlines()) > 12:
      failures.append(f"{what}: an error of {len(str(error).splitlines())} lines")
    return False
  except BaseException as error:
    failures.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
    return False
  return True


# Values of hypothesis


def _texts() -> tuple[Any, Callable[[str], None]]:
  from hypothesis import strategies as st

  from research import data
  from research.data.clean import clean

  words = [data.Bytes().fit(), data.load_vocabulary("vocabulary/sentencepiece")]
  words += [data.load_vocabulary("gpt2/saved"), data.load_vocabulary("vocabulary/bert")]

  def there_and_back(text: str) -> None:
    for vocabulary in words:
      vocabulary.decode(vocabulary.encode(text))
      kept = clean(text)
      if vocabulary.lossless:
        ids = vocabulary.encode(kept)
        assert vocabulary.decode(ids) == kept, f"{type(vocabulary).__name__} changes it"
        assert vocabulary.bytes_of[ids].sum() == len(kept.encode()), "bytes do not add up"

  letters = st.characters() | st.sampled_from("\u2581\0\ud800\ufeff\u2028Ġ \t\n")
  return st.text(letters), there_and_back


def _json() -> Any:
  from hypothesis import strategies as st

  plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
  names = st.text(max_size=6) | st.sampled_from(["text", "step", "split", "time", "loss", "name"])
  return st.recursive(
    plain, lambda inside: st.lists(inside) | st.dictionaries(names, inside), max_leaves=20
  )


def _written(name: str, strategy: Any, read: Callable[[Path], Any]) -> tuple[Any, Any]:
  """Values that are written as lines of JSON into a file before it is read."""
  from hypothesis import strategies as st

  def write(values: list[Any]) -> None:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    read(path)

  return st.lists(strategy, max_size=8), write


def _records() -> tuple[Any, Any]:
  from hypothesis import strategies as st

  return _written("given/x.jsonl", _json() | st.fixed_dictionaries({"text": _json()}), _documents)


def _metrics() -> tuple[Any, Any]:
  return _written("given/metrics.jsonl", _json(), _run)


def _remembered() -> tuple[Any, Any]:
  from hypothesis import strategies as st

  whole = json.loads(Path("run/experiment.json").read_text())
  field = st.sampled_from(sorted(whole))

  def write(change: tuple[str, Any]) -> None:
    name, value = change
    Path("given").mkdir(exist_ok=True)
    Path("given/experiment.json").write_text(json.dumps({**whole, name: value}))
    _open(Path("given/experiment.json"))

  return st.tuples(field, _json()), write


def _words() -> tuple[Any, Any]:
  from hypothesis import strategies as st

  from research import load

  known = load.recipe("exp.py").experiment().describe()
  names = st.sampled_from([*known, "width", "peak", "big", "size", "evals", "model"]) | st.text()
  values = st.text() | st.sampled_from(["1", "0", "-1", "None", "True", "1e9", "()", "(1,)", "'x'"])
  values |= _json().map(repr) | st.integers().map(str) | st.floats().map(repr)
  word = st.builds("{}={}".format, names, values) | st.text()
  return st.lists(word, max_size=3), lambda words: load.recipe("exp.py", words).experiments()


# Files whose bytes change


def _documents(path: Path) -> Any:
  from research import data

  return list(data.Files(str(path)).read())


def _picture(path: Path) -> Any:
  from research.data import images

  with contextlib.suppress(images.Unreadable):
    return images.read(path, 8)
  raise images.UserError(f"{path} cannot be read")  # as it counts among the bad records


def _published(path: Path) -> Any:
  from research import data

  return data.HuggingFace(str(path)).fit().encode(harms.SENTENCE)


def _model(path: Path) -> Any:
  from research import data

  description = path.parent / "vocabulary.json"
  description.write_text('{"kind": "sentencepiece"}')  # with no digest, which would refuse all
  return data.load_vocabulary(path.parent).encode(harms.SENTENCE)


def _kept(path: Path) -> Any:
  from research import data

  return data.load_vocabulary(path.parent).encode(harms.SENTENCE)


def _open(path: Path) -> Any:
  from research import record

  return record.open_run(path.parent)


def _run(path: Path) -> Any:
  from research.report import run

  found = run.read(path.parent)
  return (
    found.step,
    found.steps,
    [unit.error(line) for unit in run.units(found) for line in found.train],
  )


def _checkpoint(path: Path) -> Any:
  from research.checkpoint import Checkpoints

  from . import steps

  with Checkpoints(Path("checkpoints")) as checkpoints:
    return checkpoints.restore(steps.like())


def _tensors(path: Path) -> Any:
  from research.hf import tensors

  return {name: tensors.read(name, entry) for name, entry in tensors.entries(path.parent).items()}


def _make_run() -> None:
  from research import load, record

  made = load.recipe(str(Path("exp.py").resolve()), ["width=16"])
  record.remember(Path("run"), made, made.experiment())
  lines = [
    {"step": i, "time": i, "split": "train", "loss": 1.0 / i, "nats": 2.0} for i in range(1, 9)
  ]
  lines += [
    {"step": 8, "time": 9, "split": "heldout", "loss": 1.0, "standard_error": {"loss": 0.1}}
  ]
  Path("run/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _make_checkpoint() -> None:
  from . import steps

  steps.save(Path("checkpoints"), [1])


def _make_tensors() -> None:
  import numpy as np

  from research.hf import tensors

  Path("tensors").mkdir()
  arrays = {f"layer.{i}.weight": np.arange(12, dtype=np.float32).reshape(3, 4) for i in range(3)}
  tensors.write(Path("tensors"), arrays)


GIVEN: dict[str, Callable[[], tuple[Any, Any]]] = {
  "text": _texts,
  "records": _records,
  "metrics": _metrics,
  "run": _remembered,
  "words": _words,
}
MUTATED: dict[str, tuple[str, Callable[[Path], Any]]] = {
  "lines": ("x.jsonl", _documents),
  "table": ("x.csv", _documents),
  "picture": ("pictures/pictures/*", _picture),
  "sentencepiece": ("vocabulary/sentencepiece/sentencepiece.model", _model),
  "vocabulary": ("vocabulary/bert/*", _kept),
  "tokenizer": ("gpt2/tokenizer.json", _published),
  "merges": ("gpt2/[ev]*o[cb]*", _published),
  "pieces": ("vocabulary/vocab.txt", _published),
  "experiment.json": ("run/experiment.json", _open),
  "metrics.jsonl": ("run/metrics.jsonl", _run),
  "checkpoint": ("checkpoints/1/_CHECKPOINT_METADATA", _checkpoint),
  "tensors": ("tensors/*.safetensors", _tensors),
}
