"""The files that `malicious` tries: each case writes one, and reads it as its user would.

Pickles are written by hand, so that nothing here can read one.
"""

from __future__ import annotations

import gzip
import io
import json
import shlex
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNTOUCHED = object()  # what a case returns where what it changed was not needed
Case = Callable[[Path, Path], Any]  # (a folder of its own, the canary)
Wrap = Callable[[bytes], bytes]
ROOT = Path(__file__).parent.parent
MEGABYTE = 1 << 20
CONFIG = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 1}
CONFIG |= {"vocab_size": 10, "n_positions": 8}


def payload(canary: Path) -> bytes:
  """A pickle that makes the canary appear when it is read."""
  return b"cposix\nsystem\n(S" + repr(f"touch {shlex.quote(str(canary))}").encode() + b"\ntR."


def cases() -> dict[str, Case]:
  """All of them, by name."""
  found: dict[str, Case] = {}
  for disguise, wrap in DISGUISES.items():
    for place, read in PLACES.items():
      found[f"{disguise} as {place}"] = _disguised(wrap, read)
  for name, members in MEMBERS.items():
    found[f"tar: {name}"] = _archive("x.tar.gz", _tar(members))
  for name, entries in ENTRIES.items():
    found[f"zip: {name}"] = _archive("x.zip", _zip(entries))
  groups = (PICTURES, _picture), (RECORDS, _record), (TOKENIZERS, _tokenizer)
  for group, read in (*groups, (WEIGHTS, _weights), (CHECKPOINTS, _checkpoint), (TABLES, _table)):
    found |= {name: read(what) for name, what in group.items()}
  return found


def _npy(data: bytes) -> bytes:
  head = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
  head += b" " * (-(len(head) + 11) % 64) + b"\n"
  return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def _zip(entries: dict[str | zipfile.ZipInfo, bytes]) -> bytes:
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, data in entries.items():
      archive.writestr(name, data, zipfile.ZIP_DEFLATED)
  return buffer.getvalue()


def _tar(members: dict[str | tarfile.TarInfo, bytes]) -> bytes:
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
    for name, data in members.items():
      member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))
  return buffer.getvalue()


DISGUISES: dict[str, Wrap] = {
  "a pickle": lambda data: data,
  "a framed pickle": lambda data: b"\x80\x04\x95" + struct.pack("<Q", len(data)) + data,
  "an array of objects": _npy,
  "arrays of objects": lambda data: _zip({"sizes.npy": _npy(data), "tokens_1.npy": _npy(data)}),
  "a PyTorch file": lambda data: _zip({"x/data.pkl": data, "x/version": b"3", "x/data/0": b"1234"}),
  "a gzipped pickle": gzip.compress,
  "a YAML tag": lambda data: b"x: !!python/object/apply:os.system [" + data.split(b"'")[1] + b"]",
}


def _files(folder: Path, files: dict[str, bytes]) -> Path:
  for name, data in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
  return folder


def _saved(kind: str, file: str) -> Callable[[Path, bytes], Any]:
  """A vocabulary of a run."""

  def read(folder: Path, data: bytes) -> Any:
    from research.data import load_vocabulary

    about = json.dumps({"kind": kind}).encode()
    return load_vocabulary(_files(folder, {"vocabulary.json": about, file: data}))

  return read


def _published(file: str, *, beside: str = "") -> Callable[[Path, bytes], Any]:
  def read(folder: Path, data: bytes) -> Any:
    from research.data import HuggingFace

    _files(folder, {file: data} | ({beside: b"{}"} if beside else {}))
    return HuggingFace(str(folder / file)).fit()

  return read


def _text(file: str, inside: str = "") -> Callable[[Path, bytes], Any]:
  def read(folder: Path, data: bytes) -> Any:
    from research.data import Files

    return list(Files(str(_files(folder, {file: data}) / file / inside)).read())

  return read


def _counts(folder: Path, data: bytes) -> Any:
  from research.models.ngram import FittedNGram

  return FittedNGram.load(_files(folder, {"model.npz": data}) / "model.npz")


def _hugging_face(file: str) -> Callable[[Path, bytes], Any]:
  def read(folder: Path, data: bytes) -> Any:
    from research import hf

    return hf.read(_files(folder, {"config.json": json.dumps(CONFIG).encode(), file: data}))

  return read


def _experiment_file(file: str) -> Callable[[Path, bytes], Any]:
  def read(folder: Path, data: bytes) -> Any:
    from research import load

    return load.recipe(str(_files(folder, {file: data}) / file)).experiments()

  return read


def _remembered(folder: Path, data: bytes) -> Any:
  from research import record

  return record.open_run(_files(folder, {"experiment.json": data}))


PLACES: dict[str, Callable[[Path, bytes], Any]] = {
  "vocabulary.json": _saved("bytes", "vocabulary.json"),
  "sentencepiece.model": _saved("sentencepiece", "sentencepiece.model"),
  "tokenizer.json of a run": _saved("huggingface", "tokenizer.json"),
  "tokenizer.json": _published("tokenizer.json"),
  "vocabulary.bin": _published("vocabulary.bin"),
  "vocab.txt": _published("vocab.txt"),
  "merges.txt": _published("merges.txt", beside="vocab.json"),
  "bpe_simple_vocab_16e6.txt.gz": _published("bpe_simple_vocab_16e6.txt.gz"),
  "x.jsonl": _text("x.jsonl"),
  "x.csv": _text("x.csv"),
  "x.pt": _text("x.pt"),
  "x.tar.gz": _text("x.tar.gz", "*.txt"),
  "model.npz": _counts,
  "pytorch_model.bin": _hugging_face("pytorch_model.bin"),
  "model.safetensors": _hugging_face("model.safetensors"),
  "model.safetensors.index.json": _hugging_face("model.safetensors.index.json"),
  "config.json": _hugging_face("config.json"),
  "experiment.pkl": _experiment_file("experiment.pkl"),
  "experiment.yaml": _experiment_file("experiment.yaml"),
  "experiment.json": _remembered,
}


def _disguised(wrap: Wrap, read: Callable[[Path, bytes], Any]) -> Case:
  return lambda folder, canary: read(folder, wrap(payload(canary)))


def _special(kind: bytes, link: str = "") -> tarfile.TarInfo:
  member = tarfile.TarInfo("odd")
  member.type, member.linkname = kind, link
  return member


def _odd(kind: int) -> zipfile.ZipInfo:
  entry = zipfile.ZipInfo("odd")
  entry.external_attr = (kind | 0o777) << 16
  return entry


NAMES = {
  "climbing": "../evil.txt",
  "climbing from within": "a/../../evil.txt",
  "absolute": "/nowhere/evil.txt",
  "backslashes": "..\\..\\evil.txt",
  "a drive": "C:/evil.txt",
  "a device of Windows": "NUL.txt",
  "an escape sequence": "\x1b]0;evil\x07.txt",
  "turned letters": "gpj.\u202etxt",
  "a very long name": "x" * 5000,
  "a very deep name": "x/" * 400 + "evil.txt",
}
GOOD = {"good.txt": b"good"}
MEMBERS: dict[str, dict[str | tarfile.TarInfo, bytes]] = {
  **{name: GOOD | {text: b"evil"} for name, text in NAMES.items()},
  "a link out": GOOD | {_special(tarfile.SYMTYPE, "/etc"): b"", "odd/evil.txt": b"evil"},
  "a hard link out": GOOD | {_special(tarfile.LNKTYPE, "/etc/passwd"): b""},
  "a device": GOOD | {_special(tarfile.CHRTYPE): b""},
  "a pipe": GOOD | {_special(tarfile.FIFOTYPE): b""},
  "names that differ in case": {"evil": b"1", "EVIL": b"2"},
  "a bomb": GOOD | {"bomb.txt": bytes(64 * MEGABYTE)},
  "an archive in itself": {"inner.tar.gz": _tar({"../evil.txt": b"evil"})},
}
ENTRIES: dict[str | zipfile.ZipInfo, dict[Any, bytes]] = {
  **{name: GOOD | {text: b"evil"} for name, text in NAMES.items()},
  "a link": GOOD | {_odd(stat.S_IFLNK): b"/etc"},
  "a device": GOOD | {_odd(stat.S_IFCHR): b""},
  "names that differ in case": {"evil": b"1", "EVIL": b"2"},
  "a bomb": GOOD | {"bomb.txt": bytes(64 * MEGABYTE)},
  "an archive in itself": {"inner.zip": _zip({"inner.zip": _zip({"../evil.txt": b"evil"})})},
}


def _archive(file: str, data: bytes) -> Case:
  inside = "inner.*/*.txt" if b"inner" in data[:200] else "**/*.txt"
  return lambda folder, _: _text(file, inside)(folder, data)


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
  head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  parts = [(b"IHDR", head), *chunks, (b"IEND", b"")]
  return b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    for kind, data in parts
  )


ROWS = (b"IDAT", zlib.compress(bytes(64 * MEGABYTE)))
PICTURES = {
  "a picture that fills the memory": _png(60_000, 60_000, ROWS),
  "a picture of one endless row": _png(2**31 - 1, 1, ROWS),
  "a picture with a bomb for a comment": _png(
    8, 8, (b"zTXt", b"x\0\0" + zlib.compress(bytes(64 * MEGABYTE)))
  ),
  "a program for a printer": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file",
  "a drawing with a program": b'<svg xmlns="x"><script>evil()</script></svg>',
}


def _pairs(folder: Path, image: str) -> Any:
  from research.data import Bytes, Captioned, ImageText

  line = json.dumps({"image": image, "caption": "words"}).encode()
  _files(folder, {"pairs.jsonl": line})
  table, pictures = folder / "pairs.jsonl", folder / "pictures"
  captioned = Captioned(str(table), str(pictures))
  return ImageText(captioned, Bytes(), image_size=8, length=8).prepare()


def _picture(data: bytes) -> Case:
  return lambda folder, _: _pairs(_files(folder, {"pictures/x.png": data}), "x.png")


TABLES = {
  "a table that climbs": "../../etc/passwd",
  "a table with a whole path": "/etc/passwd",
  "a table with a link": "link.png",
}


def _table(image: str) -> Case:
  def case(folder: Path, _: Path) -> Any:
    _files(folder, {"pictures/good.png": b""})
    (folder / "pictures" / "link.png").symlink_to("/etc/passwd")
    return _pairs(folder, image)

  return case


RECORDS: dict[str, Callable[[dict, Path], dict]] = {
  "a record of a file beside it": lambda r, folder: r | {"file": str(folder / "evil.py")},
  "a record of a file, by a link": lambda r, folder: r | {"file": str(folder / "link" / "evil.py")},
  "a record of a file from here": lambda r, folder: r | {"file": "evil.py"},
  "a record of another program": lambda r, _: r | {"file": zipfile.__file__},
  "a record of no program": lambda r, _: r | {"file": "/etc/passwd"},
  "a record of a device": lambda r, _: r | {"file": "/dev/stdin"},
  "a record of a hidden function": lambda r, _: r | {"function": "__import__"},
  "a record of no function": lambda r, _: r | {"function": ["experiment"]},
  "a record with code for a value": lambda r, _: r | {"overrides": {"steps": "__import__('os')"}},
  "a record that reaches inside": lambda r, _: r | {"overrides": {"data.__class__.x": "1"}},
  "a record with a huge number": lambda r, _: r | {"overrides": {"steps": "9" * 100_000}},
  "a record with a huge product": lambda r, _: r | {"overrides": {"steps": "9**9**9"}},
  "a record nested without end": lambda r, _: r | {"overrides": {"steps": "[" * 100_000}},
  "a record with an unknown knob": lambda r, _: r | {"knobs": {**r["knobs"], "evil": "1"}},
  "a record of another experiment": lambda r, _: r | {"name": "../../evil"},
  "a record of another model": lambda r, _: (
    r | {"description": {**r["description"], "model.width": "10000000"}}
  ),
  "a record without a description": lambda r, _: r | {"description": [["evil"]] * 5},
}


def _record(change: Callable[[dict, Path], dict]) -> Case:
  def case(folder: Path, canary: Path) -> Any:
    from research import load, record

    code = f"open({str(canary)!r}, 'w')\n" + (ROOT / "tiny_experiment.py").read_text()
    run = _files(folder, {"run/evil.py": code.encode()}) / "run"
    (run / "link").symlink_to(run)
    recipe = load.recipe(str(ROOT / "tiny_experiment.py"), ["text=x.txt"])
    record.remember(run, recipe, recipe.experiment())
    record.open_run(run)  # as it was
    said = json.loads((run / "experiment.json").read_text())
    (run / "experiment.json").write_text(json.dumps(change(said, run)))
    return record.open_run(run)

  return case


def _model(**parts: Any) -> dict[str, Any]:
  model = {"type": "BPE", "vocab": {"a": 0, "<|endoftext|>": 1}, "merges": []}
  return {"version": "1.0", "added_tokens": [], "model": model} | parts


TOKENIZERS: dict[str, bytes] = {
  "a tokenizer nested without end": b'{"version": "1.0", "model": ' + b"[" * 100_000,
  "a tokenizer of no kind": json.dumps(_model(model={"type": "os.system"})).encode(),
  "a tokenizer with a huge number": json.dumps(
    _model(model={"type": "BPE", "vocab": {"a": 2**32 - 2, "</s>": 0}, "merges": []})
  ).encode(),
  "a tokenizer with a negative number": json.dumps(
    _model(model={"type": "BPE", "vocab": {"a": -1}, "merges": []})
  ).encode(),
  "a tokenizer with merges of nothing": json.dumps(
    _model(model={"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]})
  ).encode(),
  "a tokenizer of code": json.dumps(
    _model(auto_map={"AutoTokenizer": "evil.Evil"}, model={})
  ).encode(),
}


def _tokenizer(data: bytes) -> Case:
  return lambda folder, _: _published("tokenizer.json")(folder, data)


def _safetensors(header: Any, data: bytes = b"") -> bytes:
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  return struct.pack("<Q", len(text)) + text + data


def _tensor(*shape: int, at: tuple[int, int]) -> dict[str, Any]:
  return {"dtype": "F32", "shape": shape, "data_offsets": at}


WEIGHTS: dict[str, dict[str, bytes]] = {
  "weights with code": {
    "config.json": b'{"model_type": "gpt2", "auto_map": {"AutoModel": "evil.X"}}'
  },
  "weights of a huge model": {
    "config.json": json.dumps(CONFIG | {"n_layer": 10**12}).encode(),
    "model.safetensors": _safetensors({}),
  },
  "weights elsewhere": {
    "model.safetensors.index.json": b'{"weight_map": {"wte": "../evil.safetensors"}}'
  },
  "weights with a huge header": {"model.safetensors": struct.pack("<Q", 2**62) + b"{}"},
  "weights nested without end": {"model.safetensors": _safetensors(b"[" * 100_000)},
  "weights of terabytes": {
    "model.safetensors": _safetensors({"wte.weight": _tensor(2**20, 2**20, at=(0, 2**42))})
  },
  "weights that overlap": {
    "model.safetensors": _safetensors(
      {"a": _tensor(2, at=(0, 8)), "b": _tensor(2, at=(4, 12))}, bytes(12)
    )
  },
}


def _weights(files: dict[str, bytes]) -> Case:
  def case(folder: Path, _: Path) -> Any:
    from research import hf

    return hf.read(_files(folder, {"config.json": json.dumps(CONFIG).encode(), **files}))

  return case


CHECKPOINTS: dict[str, tuple[str, Wrap]] = {
  "a checkpoint handled by os.system": (
    "_CHECKPOINT_METADATA",
    lambda old: json.dumps(json.loads(old) | {"item_handlers": "os.system"}).encode(),
  ),
  "a checkpoint handled by processes": (
    "_CHECKPOINT_METADATA",
    lambda old: json.dumps(json.loads(old) | {"item_handlers": {"x": "subprocess.Popen"}}).encode(),
  ),
  "a checkpoint with a pickle for what it says": ("_CHECKPOINT_METADATA", lambda _: b""),
  "a checkpoint with a pickle for its tree": ("_METADATA", lambda _: b""),
  "a checkpoint with a pickle for its places": ("_sharding", lambda _: b""),
  "a checkpoint with a pickle for its arrays": ("manifest.ocdbt", lambda _: b""),
}


def _checkpoint(change: tuple[str, Wrap]) -> Case:
  def case(folder: Path, canary: Path) -> Any:
    from . import steps

    name, harm = change
    steps.save(folder / "checkpoints", [1])
    file = next(path for path in sorted(folder.rglob(name)) if path.is_file())
    file.write_bytes(harm(file.read_bytes()) or payload(canary))
    with steps.opened(folder / "checkpoints") as checkpoints:
      restored = checkpoints.restore_newest(steps.like())
    return UNTOUCHED if restored and steps.same(restored[1], steps.state(1)) else restored

  return case
