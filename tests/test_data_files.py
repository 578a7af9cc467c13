"""A user's own files: read as they are, or one line that says what is wrong with which."""

import gzip
import json
import os

import pytest

from research.data import Files
from research.data.clean import clean, clean_all
from research.errors import UserError

TEXTS = ["Hello, world", 'quotes " and, commas', "two\nlines", "später \u2028 漢字", "x" * 200_000]


def write(path, data):
  data = data.encode() if isinstance(data, str) else data
  path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
  return path


def table(delimiter):
  rows = [f'"{text.replace(chr(34), chr(34) * 2)}"' for text in TEXTS]
  return "".join(f"{i}{delimiter}{row}\r\n" for i, row in enumerate(["text", *rows]))


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
  ("name", "content"),
  [
    ("x.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)),
    ("x.csv", table(",")),
    ("x.tsv", table("\t")),
    ("x.TXT", "<|e|>".join(TEXTS)),
  ],
)
def test_every_kind_gives_the_same_documents(tmp_path, name, content, ending):
  path = write(tmp_path / (name + ending), content)
  assert list(Files(str(path), separator="<|e|>").read()) == TEXTS


def test_raw_unicode_line_separators_do_not_end_a_json_line(tmp_path):
  line = json.dumps({"text": "a\u2028b\x85c"}, ensure_ascii=False)
  path = write(tmp_path / "x.jsonl", line + "\n\n" + line)
  assert list(Files(str(path)).read()) == ["a\u2028b\x85c"] * 2


def test_a_text_file_is_one_document_and_files_come_by_path(tmp_path):
  for name in ("b.txt", "a.txt", "c/d.txt"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write(tmp_path / name, name)
  assert list(Files(f"{tmp_path}/**/*.txt").read()) == ["a.txt", "b.txt", "c/d.txt"]


def test_one_name_per_line(tmp_path):
  path = write(tmp_path / "names.txt", "ada\r\ngrace\r\n")
  assert [name for name in Files(str(path), separator="\n").read() if name] == ["ada", "grace"]


def test_another_field_can_be_chosen(tmp_path):
  path = write(tmp_path / "x.jsonl", '{"body": "yes", "text": "no"}')
  assert list(Files(str(path), field="body").read()) == ["yes"]


BAD = [
  ("x.txt", b"", "x.txt is empty"),
  ("x.txt.gz", b"", "x.txt.gz is empty"),
  ("x.txt", b"one\ntwo \xff\n", "x.txt, line 2: byte 8 is not UTF-8"),
  ("x.txt", b"\xef\xbb\xbfone\n\xff", "line 2: byte 7 is not UTF-8"),
  ("x.txt", b"one\n\ntw\0o", "x.txt, line 3: a NUL byte at byte 7; this is no text"),
  ("x.txt", "one".encode("utf-16"), "it may be UTF-16"),
  ("x.jsonl", '{"text": "a"}\n{"text": ', "x.jsonl, line 2: this is not JSON"),
  ("x.jsonl", '{"text": "a"}\n' + "[" * 200_000, "x.jsonl, line 2: this is not JSON"),
  ("x.jsonl", '{"text": "a"}\n\n["text"]', "x.jsonl, line 3: a list instead of an object"),
  ("x.jsonl", '{"text": "a"}\n{"texts": "b"}', "line 2: no field 'text'.*Did you mean 'texts'"),
  ("x.jsonl", '{"text": 3}', "line 1: field 'text' is a int; it must be a string"),
  ("x.jsonl", '{"text": null}', "line 1: field 'text' is a NoneType"),
  ("x.csv", "id,Text\n1,a\n", "x.csv, line 1: no field 'text'; there are: id, Text.*'Text'"),
  ("x.csv", "id,text\n1,a\n2\n", "x.csv, line 3: the row ends before column 'text'"),
  ("x.csv", 'id,text\n1,"a" b\n', "x.csv, line 2: .*quote cells"),
  ("x.tsv", 'id\ttext\n1\t"a\n', "x.tsv, line 2: .*quote cells"),
  ("x.csv", "id,text\n1,a, b\n", "x.csv, line 2: 3 cells where line 1 names 2 columns; quote"),
  ("x.csv", "text,text\na,b\n", "x.csv, line 1: two columns are called 'text'"),
  ("x.jsonl", '{"text": ' + "1" * 5000 + "}", "line 1: this is not JSON \\(Exceeds the limit"),
  ("x.doc", "text", "x.doc is of an unknown kind"),
  ("x.gz", "text", "x.gz is of an unknown kind"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_a_bad_file_is_named_with_its_line(tmp_path, name, content, message):
  path = write(tmp_path / name, content)
  with pytest.raises(UserError, match=message) as caught:
    list(Files(str(path)).read())
  assert "\n" not in str(caught.value)


LINES = '{"text": "a"}\n' * 98 + '{"text": 3}\n["b"]\n'


def test_bad_records_within_the_share_are_left_out_and_named(tmp_path, capsys):
  path = write(tmp_path / "x.jsonl", LINES)
  assert list(Files(str(path), skip=0.02).read()) == ["a"] * 98
  said = capsys.readouterr().err
  assert "2 of 100 records cannot be used and are left out" in said and said.count("\n") == 1
  assert "line 99: field 'text' is a int" in said and "line 100: a list" in said


def test_more_bad_records_than_the_share_are_an_error(tmp_path):
  path = write(tmp_path / "x.jsonl", LINES + "[]\n" * 7)
  with pytest.raises(UserError, match=r"9 of 107 records .* skip=0\.02") as caught:
    list(Files(str(path), skip=0.02).read())
  assert str(caught.value).count(", line ") == 5  # five are named
  with pytest.raises(UserError, match="skip=1 is a share"):
    Files(str(path), skip=1)


def test_rows_after_a_bad_one_are_read_as_they_are(tmp_path):
  text = 'id,text\n1,a\n2,"b" c\n3,"d\ne"\n4\n5,f\n'
  assert list(Files(str(write(tmp_path / "x.csv", text)), skip=0.5).read()) == ["a", "d\ne", "f"]


def test_every_line_that_a_stray_quote_swallows_is_a_bad_record(tmp_path):
  rows = [f"{i},text {i}" for i in range(20)]
  rows[4] = '4,"text 4'
  rows[9] = '9,"text 9"'
  path = write(tmp_path / "x.csv", "\n".join(["id,text", *rows]))
  with pytest.raises(UserError, match=r"6 of 20 records .*, line 6: .*, line 7: .* at line 6"):
    list(Files(str(path), skip=0.25).read())
  assert len(list(Files(str(path), skip=0.3).read())) == 14


def test_rows_of_a_tsv_that_an_open_quote_swallows_are_bad_records(tmp_path):
  lines = ["text\tlabel", '"I am here.\tneg', "But why?\tneg", 'And there."\tpos', "plain\tneg"]
  path = write(tmp_path / "x.tsv", "\n".join(lines))
  with pytest.raises(UserError, match=r"x\.tsv, line 2: a quoted cell holds whole rows .*; quote"):
    list(Files(str(path)).read())
  assert list(Files(str(path), skip=0.8).read()) == ["plain"]


def test_a_quoted_cell_of_a_tsv_may_hold_tabs_and_line_breaks(tmp_path):
  code = "def f():\n\treturn 1\n"
  path = write(tmp_path / "x.tsv", f'text\tlabel\n"{code}"\tpos\n')
  assert list(Files(str(path)).read()) == [code]


def test_gzip_that_is_made_to_fill_the_memory_is_refused(tmp_path):
  path = write(tmp_path / "x.txt.gz", bytes(b" " * (20 << 20)))
  with pytest.raises(UserError, match="grows to more than 200 times its size"):
    list(Files(str(path)).read())


def test_what_is_no_file_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / "x.txt")
  with pytest.raises(UserError, match="no file matches"):
    list(Files(str(tmp_path / "x.txt")).read())


@pytest.mark.parametrize("damage", [slice(0, 20), slice(1, None)])
def test_broken_gzip_is_told(tmp_path, damage):
  (tmp_path / "x.txt.gz").write_bytes(gzip.compress(os.urandom(100))[damage])
  with pytest.raises(UserError, match="not whole gzip data"):
    list(Files(f"{tmp_path}/*.gz").read())


def test_flipped_bits_in_gzip_are_told(tmp_path):
  data = bytearray(gzip.compress(b"some text, " * 50))
  data[len(data) // 2] ^= 0xFF
  (tmp_path / "x.txt.gz").write_bytes(data)
  with pytest.raises(UserError, match="not whole gzip data"):
    list(Files(f"{tmp_path}/*.gz").read())


def test_nothing_there_is_told(tmp_path):
  with pytest.raises(UserError, match="no file matches"):
    list(Files(f"{tmp_path}/*.txt").read())
  with pytest.raises(UserError, match=r"is a folder; write .*/\*.txt"):
    list(Files(str(tmp_path)).read())
  with pytest.raises(UserError, match="splits nothing"):
    list(Files(str(tmp_path), separator="").read())


def test_the_fingerprint_is_of_the_contents(tmp_path):
  path = write(tmp_path / "x.txt", "one")
  before = Files(str(path)).fingerprint()
  os.utime(path, (0, 0))
  assert Files(str(path)).fingerprint() == before
  assert Files(str(path), separator="n").fingerprint() != before
  write(path, "two")
  assert Files(str(path)).fingerprint() != before


def test_cleaning_a_text():
  assert clean("\ufeffa\r\nb\rc\x00\x07\x85\td\n") == "a\nb\nc\td\n"
  assert clean("e\u0301") == "é"
  assert clean("e\x00\u0301") == "é"
  assert clean("\ud800x") == "\ufffdx"


def test_equal_documents_are_dropped_and_counted():
  kept, digests, counts = clean_all(["a", "b", "a", " \n", "e\u0301", "é", "\x00"])
  assert kept == ["a", "b", "é"]
  assert len(set(digests)) == 3
  assert (counts.documents, counts.duplicates, counts.empty, counts.changed) == (3, 2, 2, 1)
  assert counts.bytes == 4
