"""Texts, tables and pictures that are wrong, or only look it, with what has to come of each."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Bad:
  """A file, or several.

  Attributes:
    name: what is the matter.
    files: by name; None is a folder, and what is large is made when it is needed.
    wanted: what has to be read; or a text, that has to be told in an error.
    options: of the reader.
    said: has to be said on the way.
  """

  name: str
  files: dict[str, bytes | Callable[[], bytes] | None]
  wanted: Any
  options: tuple[Any, ...] = ()
  said: str = ""

  def make(self, folder: Path) -> None:
    """Writes the files."""
    for name, content in self.files.items():
      path = folder / name
      path.parent.mkdir(parents=True, exist_ok=True)
      if content is None:
        path.mkdir()
      else:
        path.write_bytes(content() if callable(content) else content)


def _text(name: str, file: str, content: Any, wanted: Any, *options: Any) -> Bad:
  data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
  return Bad(name, {file: data}, wanted, options)


def _skipping(file: str, content: str, wanted: list[str], said: str) -> Bad:
  return dataclasses.replace(_text(f"skipped in {file}", file, content, wanted, 0.5), said=said)


GOOD = '{"text": "a"}\n'
LINES = [
  # What follows a good line of JSON, and what is told or read.
  ("cut off", '{"text": "b', "x.jsonl, line 2: this is not JSON"),
  ("cut off in a name", '{"tex', "x.jsonl, line 2: this is not JSON"),
  ("a word", "text", "x.jsonl, line 2: this is not JSON"),
  ("two objects", '{"text": "b"} {"text": "c"}', "x.jsonl, line 2: this is not JSON"),
  ("a comma at the end", '{"text": "b",}', "x.jsonl, line 2: this is not JSON"),
  ("single quotes", "{'text': 'b'}", "x.jsonl, line 2: this is not JSON"),
  ("a comment", "// no", "x.jsonl, line 2: this is not JSON"),
  ("a list", '["b"]', "x.jsonl, line 2: a list instead of an object"),
  ("a string", '"b"', "x.jsonl, line 2: a str instead of an object"),
  ("a number", "3", "x.jsonl, line 2: a int instead of an object"),
  ("null", "null", "x.jsonl, line 2: a NoneType instead of an object"),
  ("NaN", "NaN", "x.jsonl, line 2: a float instead of an object"),
  ("nothing in it", "{}", "x.jsonl, line 2: no field 'text'; there are: none"),
  ("another field", '{"texts": "b"}', "Did you mean 'texts'?"),
  ("another case", '{"Text": "b"}', "there are: Text"),
  ("text NaN", '{"text": NaN}', "line 2: field 'text' is a float; it must be a string"),
  ("text null", '{"text": null}', "line 2: field 'text' is a NoneType"),
  ("text a number", '{"text": 3}', "line 2: field 'text' is a int"),
  ("text a list", '{"text": ["b"]}', "line 2: field 'text' is a list"),
  ("text an object", '{"text": {"text": "b"}}', "line 2: field 'text' is a dict"),
  ("nested deeply", "[" * 100_000, "x.jsonl, line 2: this is not JSON"),
  ("nested deeply and whole", "[" * 100_000 + "]" * 100_000, "line 2: this is not JSON"),
  ("objects nested deeply", '{"a":' * 100_000, "x.jsonl, line 2: this is not JSON"),
  ("a number of 5,000 digits", "1" * 5000, "x.jsonl, line 2: this is not JSON"),
  ("a bad escape", r'{"text": "\x"}', "x.jsonl, line 2: this is not JSON"),
  ("a control letter", '{"text": "a\tb"}', "x.jsonl, line 2: this is not JSON"),
  ("a byte order mark", '\ufeff{"text": "b"}', "x.jsonl, line 2: this is not JSON"),
  ("a name of a megabyte", json.dumps({"y" * (1 << 20): 1}), "line 2: no field 'text'"),
  ("a thousand names", json.dumps(dict.fromkeys(map(str, range(1000)))), "line 2: no field"),
  ("other NaNs", '{"x": NaN, "y": Infinity, "text": "b"}', ["a", "b"]),
  ("an escaped NUL", r'{"text": "b\u0000"}', ["a", "b\0"]),
  ("half a character", r'{"text": "b\ud800"}', ["a", "b\ud800"]),
  ("line breaks of DOS", '\r\n{"text": "b"}\r\n', ["a", "b"]),
  ("a line separator", '{"text": "b\u2028c"}', ["a", "b\u2028c"]),
  ("empty lines", '\n\n  \n{"text": "b"}\n\n', ["a", "b"]),
  ("an empty text", '{"text": ""}', ["a", ""]),
]
TABLES = [
  ("no such column", "id,Text\n1,a\n", "x.csv, line 1: no field 'text'; there are: id, Text"),
  ("no names", "\n\n", "x.csv, line 1: no field 'text'; there are: none"),
  ("a row too short", "id,text\n1,a\n2\n", "x.csv, line 3: the row ends before column 'text'"),
  ("a row too long", "id,text\n1,a, b\n", "x.csv, line 2: 3 cells where line 1 names 2"),
  ("an open quote", 'id,text\n1,"a\n2,b\n', "x.csv, line 2: unexpected end of data"),
  ("text after a quote", 'id,text\n1,"a" b\n', "x.csv, line 2: ',' expected after '\"'"),
  ("a column twice", "text,text\na,b\n", "x.csv, line 1: two columns are called 'text'"),
  ("tabs for commas", "id\ttext\n1\ta\n", "x.csv, line 1: no field 'text'"),
  ("only names", "id,text\n", []),
  ("line breaks of old Macs", "id,text\r1,a\r", ["a"]),
  ("a byte order mark", "\ufefftext\na\n", ["a"]),
  ("a quoted line break", 'id,text\n1,"a\nb"\n', ["a\nb"]),
  ("a cell of 200,000 letters", f"text\n{'y' * 200_000}\n", ["y" * 200_000]),
  ("empty cells", "id,text\n1,\n", [""]),
]


def _long_line() -> bytes:
  return b'{"text": 3, "x": "' + b"x" * (100 << 20) + b'"}'


def _gzip_bomb() -> bytes:
  """Two megabytes that would be two gigabytes."""
  packer = zlib.compressobj(9, zlib.DEFLATED, 31)
  zeros = b" " * (1 << 20)
  return b"".join([*(packer.compress(zeros) for _ in range(2 << 10)), packer.flush()])


WHOLE = gzip.compress(b'{"text": "abc"}\n' * 50, mtime=0)
TEXTS = [
  *(_text(f"JSON: {name}", "x.jsonl", GOOD + line, wanted) for name, line, wanted in LINES),
  *(_text(f"CSV: {name}", "x.csv", content, wanted) for name, content, wanted in TABLES),
  _text("TSV: an open quote", "x.tsv", 'id\ttext\n1\t"a\n', "x.tsv, line 2: unexpected end"),
  _text("TSV: commas for tabs", "x.tsv", "id,text\n1,a\n", "x.tsv, line 1: no field 'text'"),
  _text("JSON: a line of 100 MB", "x.jsonl", _long_line, "line 1: field 'text' is a int"),
  _text("empty", "x.txt", "", "x.txt is empty"),
  _text("NUL bytes", "x.txt", "one\n\ntw\0o", "x.txt, line 3: a NUL byte at byte 7"),
  _text(
    "UTF-16", "x.txt", "one".encode("utf-16"), "x.txt, line 1: a NUL byte at byte 3; it may be"
  ),
  _text("UTF-16 without a mark", "x.txt", "one".encode("utf-16-le"), "x.txt, line 1: a NUL byte"),
  _text("Latin-1", "x.txt", "a\nspäter".encode("latin-1"), "x.txt, line 2: byte 4 is not UTF-8"),
  _text("half a character", "x.txt", "ä".encode()[:1], "x.txt, line 1: byte 0 is not UTF-8"),
  _text("a surrogate", "x.txt", "a\ud800", "x.txt, line 1: byte 1 is not UTF-8"),
  _text("an overlong slash", "x.txt", b"\xc0\xaf", "x.txt, line 1: byte 0 is not UTF-8"),
  _text("a byte order mark", "x.txt", "\ufeffone", ["one"]),
  _text("only a byte order mark", "x.txt", "\ufeff", [""]),
  _text("line breaks of DOS", "x.txt", "a\r\nb\r\n", ["a", "b", ""], 0.0, "\n"),
  _text("an unknown kind", "x.pdf", "%PDF", "x.pdf is of an unknown kind"),
  _text("a kind without a name", "x.gz", "text", "x.gz is of an unknown kind"),
  _text("a zip", "x.jsonl", b"PK\3\4" + bytes(40), "x.jsonl, line 1: a NUL byte"),
  _text("gzip that is none", "x.jsonl.gz", GOOD, "x.jsonl.gz is not whole gzip data"),
  _text("gzip of nothing", "x.txt.gz", gzip.compress(b""), "x.txt.gz is empty"),
  _text("an empty gzip", "x.txt.gz", b"", "x.txt.gz is empty"),
  _text("gzip cut off", "x.jsonl.gz", WHOLE[:-9], "x.jsonl.gz is not whole gzip data"),
  _text("gzip in the middle", "x.jsonl.gz", WHOLE[10:], "x.jsonl.gz is not whole gzip data"),
  _text("gzip and more", "x.jsonl.gz", WHOLE + b"more", "x.jsonl.gz is not whole gzip data"),
  _text("gzip twice", "x.jsonl.gz", WHOLE + WHOLE, ["abc"] * 100),
  _text("gzip with a bad sum", "x.jsonl.gz", WHOLE[:-8] + b"\0" * 8, "not whole gzip data"),
  _text("gzip of a bad line", "x.jsonl.gz", gzip.compress(b"[]"), "x.jsonl.gz, line 1: a list"),
  _text("a bomb", "x.txt.gz", _gzip_bomb, "x.txt.gz grows to more than 200 times its size"),
  Bad("a folder of that name", {"x.txt": None}, "no file matches"),
  Bad("none", {"y.txt": b"a"}, "no file matches"),
  _skipping("x.jsonl", GOOD * 3 + "[]\n{\n", ["a"] * 3, "2 of 5 records cannot be used"),
  _skipping("x.csv", 'text\na\nb,c\n"d" e\nf\ng\n', ["a", "f", "g"], "2 of 5 records"),
  _text("more than skipped", "x.jsonl", GOOD + "[]\n" * 9, "9 of 10 records cannot be used", 0.5),
  _text("a bad share", "x.jsonl", GOOD, "skip=1.5 is a share of the records", 1.5),
]


def _picture(
  mode: str = "RGB", size: tuple[int, int] = (20, 12), kind: str = "PNG", **how
) -> bytes:
  import PIL.Image

  data = io.BytesIO()
  PIL.Image.new(mode, size).save(data, kind, **how)
  return data.getvalue()


def _pairs(
  name: str, content: str | bytes, wanted: Any, file: str = "pairs.jsonl", **options: Any
) -> Bad:
  files = {
    file: content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"),
    "pictures/a.png": _picture(),
    "secret.png": _picture(),
  }
  return Bad(name, files, wanted, **options)


def _of(name: str, picture: bytes | None, wanted: Any, file: str = "a.png") -> Bad:
  line = json.dumps({"image": file, "caption": "a picture"}).encode()
  files = {"pairs.jsonl": line, "pictures/b.png": _picture()}
  return Bad(name, files if picture is None else {**files, f"pictures/{file}": picture}, wanted)


PAIR = '{"image": "a.png", "caption": "a"}\n'
ONE = [1, 8, 8, 3]  # what comes of one pair
PAIRS = [
  _pairs("whole", PAIR, ONE),
  _pairs("nothing", "", "pairs.jsonl is empty"),
  _pairs("empty lines", "\n\n", "pairs.jsonl names no pictures"),
  _pairs("cut off", PAIR + PAIR[:20], "pairs.jsonl, line 2: this is not JSON"),
  _pairs("a list", PAIR + "[]", "pairs.jsonl, line 2: a list instead of an object"),
  _pairs("nested deeply", PAIR + "[" * 100_000, "pairs.jsonl, line 2: this is not JSON"),
  _pairs("no caption", PAIR + '{"image": "a.png"}', "pairs.jsonl, line 2: no field 'caption'"),
  _pairs("no picture", PAIR + '{"caption": "a"}', "pairs.jsonl, line 2: no field 'image'"),
  _pairs("another name", '{"img": "a.png", "caption": "a"}', "no field 'image'; there are: img"),
  _pairs("caption null", '{"image": "a.png", "caption": null}', "'caption' is nothing but null"),
  _pairs("caption a list", '{"image": "a.png", "caption": ["a"]}', ONE),
  _pairs("picture a number", '{"image": 3, "caption": "a"}', "field 'image' is a int"),
  _pairs("an empty caption", '{"image": "a.png", "caption": " "}', "line 1: 'caption' is empty"),
  _pairs("only control letters", r'{"image": "a.png", "caption": "\u0001"}', "'caption' is empty"),
  _pairs("no name", '{"image": "", "caption": "a"}', "line 1: 'image' is empty"),
  _pairs("outside", '{"image": "../secret.png", "caption": "a"}', "lies outside"),
  _pairs("absolute", '{"image": "/etc/passwd", "caption": "a"}', "lies outside"),
  _pairs("a NUL in a name", r'{"image": "a\u0000.png", "caption": "a"}', "pairs.jsonl, line 1"),
  _pairs("a long name", json.dumps({"image": "x" * 5000, "caption": "a"}), "pairs.jsonl, line 1"),
  _pairs("half a letter", r'{"image": "\ud800.png", "caption": "a"}', "pairs.jsonl, line 1"),
  _pairs("a folder", '{"image": ".", "caption": "a"}', "pairs.jsonl, line 1"),
  _pairs("not there", '{"image": "b.png", "caption": "a"}', "b.png cannot be read (No such file"),
  _pairs("not UTF-8", b'{"image": "\xff"}', "pairs.jsonl, line 1: byte 11 is not UTF-8"),
  _pairs("UTF-16", PAIR.encode("utf-16"), "pairs.jsonl, line 1: a NUL byte"),
  _pairs("half a character", r'{"image": "a.png", "caption": "a\udc00"}', ONE),
  _pairs("a long caption", json.dumps({"image": "a.png", "caption": "a" * 10**6}), ONE),
  _pairs("no columns", "a.png,a\n", "pairs.csv, line 1: no field 'image'", file="pairs.csv"),
  _pairs("a short row", "image,caption\na.png\n", "line 2: the row ends", file="pairs.csv"),
  _pairs("a long row", "image,caption\na.png,a,b\n", "line 2: 3 cells", file="pairs.csv"),
  _pairs("an open quote", 'image\tcaption\na.png\t"a\n', "line 2: unexpected", file="pairs.tsv"),
  _pairs("a mark", "\ufeffimage,caption\na.png,a\n", ONE, file="pairs.csv"),
  _pairs("gzip", gzip.compress(PAIR.encode()), ONE, file="pairs.jsonl.gz"),
  _pairs("half a gzip", gzip.compress(PAIR.encode())[:-9], "not whole", file="pairs.jsonl.gz"),
  _pairs("an unknown kind", PAIR, "pairs.json is no table of pairs", file="pairs.json"),
  _pairs("skipped", PAIR * 9 + "[]\n", [9, 8, 8, 3], options=(0.2,), said="1 of 10 records"),
  _pairs("too many to skip", PAIR + "[]\n", "1 of 2 records cannot be used", options=(0.2,)),
]


def _chunk(kind: bytes, data: bytes) -> bytes:
  return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *chunks: bytes) -> bytes:
  header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + b"".join(chunks) + _chunk(b"IEND", b"")


ZEROS = _chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
TEXT = _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 << 20)))
CANNOT = "a.png cannot be read"
PICTURES = [
  _of("grey", _picture("L"), ONE),
  _of("black and white", _picture("1"), ONE),
  _of("a palette", _picture("P"), ONE),
  _of("a palette that is partly clear", _picture("P", transparency=0), ONE),
  _of("alpha", _picture("RGBA"), ONE),
  _of("grey and alpha", _picture("LA"), ONE),
  _of("16 bits", _picture("I;16"), ONE),
  _of("32 bits", _picture("I", kind="TIFF"), ONE),
  _of("floating point", _picture("F", kind="TIFF"), ONE),
  _of("CMYK", _picture("CMYK", kind="JPEG"), ONE),
  _of("a single pixel", _picture(size=(1, 1)), ONE),
  _of("another kind than its name", _picture(kind="GIF"), ONE),
  _of("a line", _picture(size=(300, 2)), f"{CANNOT} (300 x 2 pixels)"),
  _of("no pixels", _png(0, 0, ZEROS), CANNOT),
  _of("nothing", b"", CANNOT),
  _of("text", b"a picture", CANNOT),
  _of("only a beginning", _picture()[:20], CANNOT),
  _of("half", _picture()[:50], CANNOT),
  _of("without its end", _picture()[:-30], CANNOT),
  _of("half a JPEG", _picture(size=(90, 90), kind="JPEG")[:300], CANNOT),
  _of("half a WebP", _picture(kind="WEBP")[:30], CANNOT),
  _of("half a GIF", _picture(kind="GIF")[:-9], CANNOT),
  _of("half a TIFF", _picture(kind="TIFF")[:80], CANNOT),
  _of("a bad sum", _picture().replace(b"IDAT", b"IDAU"), CANNOT),
  _of("fewer pixels than said", _png(2000, 2000, ZEROS), CANNOT),
  _of("a bomb of 150 million pixels", _png(15_000, 10_000, ZEROS), "a.png has 150,000,000 pixels"),
  _of("a bomb of a billion pixels", _png(100_000, 10_000, ZEROS), "a.png: "),
  _of("a bomb beyond numbers", _png(2**31 - 1, 2**31 - 1, ZEROS), "a.png: "),
  _of("negative sizes", _png(2**32 - 1, 2**32 - 1, ZEROS), "a.png"),
  _of("a bomb of text", _png(8, 8, TEXT), CANNOT),
  _of("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", CANNOT),
  _of("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", CANNOT),
  _of("not there", None, f"{CANNOT} (No such file or directory)"),
]
