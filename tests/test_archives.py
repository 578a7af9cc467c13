"""Archives: what is in them comes out, and nothing else happens, whoever packed them."""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data import Files, paths
from research.data.archives import Limits, unpack
from research.errors import UserError

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
FILES = {
  "a.txt": b"a",
  "books/one.txt": b"x" * 1000,
  "books/später/漢字.txt": b"",
  "e": b"\0" * 512,
}


def tar(path, members, mode="w", form=tarfile.PAX_FORMAT):
  with tarfile.open(path, mode, format=form) as archive:
    for name, data in members:
      member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))
  return path


def special(name, kind, link=""):
  member = tarfile.TarInfo(name)
  member.type, member.linkname = kind, link
  return member


def zipped(path, members, compression=zipfile.ZIP_DEFLATED):
  with zipfile.ZipFile(path, "w", compression) as archive:
    for name, data in members:
      archive.writestr(name, data)
  return path


def contents(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob("*")
    if path.is_file()
  }


def refused(archive, tmp_path, words, **limits):
  """Asserts that it is refused in one line with these words, and that nothing is left of it."""
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(UserError) as caught:
    unpack(archive, tmp_path / "out", Limits(**limits))
  line = str(caught.value)
  assert words in line and "\n" not in line and str(archive) in line and len(line) < 500
  assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("ending", ["", ":gz", ":bz2", ":xz"])
def test_every_tar_comes_out_as_it_went_in(tmp_path, form, ending):
  long = {f"{'folder/' * 20}{'n' * 120}.txt": b"deep"} if form != "ustar" else {}
  path = tar(tmp_path / "x", [*(FILES | long).items()], "w" + ending, FORMATS[form])
  sizes = unpack(path, tmp_path / "out")
  assert contents(tmp_path / "out") == FILES | long
  assert sizes == {name: len(data) for name, data in (FILES | long).items()}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_zip_comes_out_as_it_went_in(tmp_path, compression):
  path = zipped(tmp_path / "x", [("books/", b""), *FILES.items()], compression)
  unpack(path, tmp_path / "out")
  assert contents(tmp_path / "out") == FILES


@pytest.mark.parametrize("form", ["gnu", "posix", "ustar", "oldgnu", "v7"])
def test_what_gnu_tar_packs_comes_out(tmp_path, form):
  source = tmp_path / "in" / "folder"
  source.mkdir(parents=True)
  for name in ("one.txt", "two.txt"):
    (source / name).write_bytes(os.urandom(3000))
  command = ["tar", f"--format={form}", "-czf", tmp_path / "x.tar.gz", "-C", tmp_path / "in", "."]
  subprocess.run(command, check=True)
  unpack(tmp_path / "x.tar.gz", tmp_path / "out")
  assert contents(tmp_path / "out") == contents(tmp_path / "in")


@settings(max_examples=100, deadline=None)
@given(
  st.dictionaries(
    st.text("abcé漢-. ", min_size=1, max_size=130).filter(lambda s: s.strip(". ")),
    st.binary(max_size=1500),
    max_size=4,
  ),
  st.sampled_from(["gnu", "pax"]),
)
def test_any_name_and_any_bytes(tmp_path_factory, members, form):
  folder = tmp_path_factory.mktemp("any")
  names = [name for name in members if len(name.encode()) <= 255]
  names = [n for n in names if n.casefold() not in {m.casefold() for m in names if m != n}]
  kept = {name: members[name] for name in names}
  unpack(tar(folder / "x", kept.items(), form=FORMATS[form]), folder / "out")
  assert contents(folder / "out") == kept


def test_files_belong_to_whoever_unpacks_and_are_never_programs(tmp_path):
  member = special("x", tarfile.REGTYPE)
  member.mode, member.uid, member.mtime = 0o6777, 12345, 2**33
  unpack(tar(tmp_path / "t", [(member, b"#!/bin/sh")]), tmp_path / "out")
  found = (tmp_path / "out" / "x").stat()
  assert not found.st_mode & 0o7111 and found.st_uid == os.getuid()


NAMES = {
  "/etc/passwd": "absolute",
  "//server/share": "absolute",
  "../out.txt": "'..'",
  "a/../../out.txt": "'..'",
  "a/b/..": "'..'",
  "a\\..\\out.txt": "backslash",
  "C:/out.txt": "Windows",
  "a/d:x": "Windows",
  "con": "Windows",
  "a/NUL.txt": "Windows",
  "lpt1 .tar.gz": "Windows",
  "a\nb": "cannot be seen",
  "a\x1b[2Jb": "cannot be seen",
  "a\x85": "cannot be seen",
  "gpj.\u202etxt": "cannot be seen",
  "n" * 256: "255",
  "d/" * 40 + "x": "deep",
  "n/" * 30 + "n" * 1000: "1024",
  ".": "without a name",
}


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:20]))
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
  good = ("good.txt", b"good")
  for archive in (
    tar(tmp_path / "t", [good, (name, b"bad")]),
    tar(tmp_path / "g", [good, (name, b"bad")], "w:gz", tarfile.GNU_FORMAT),
    zipped(tmp_path / "z", [good, (name, b"bad")]),
  ):
    refused(archive, tmp_path, NAMES[name])
    refused(archive, tmp_path, repr(name[:100])[:-1])


def test_a_nul_in_a_name_is_refused(tmp_path):
  path = zipped(tmp_path / "z", [("good.txt_.exe", b"bad")])
  path.write_bytes(path.read_bytes().replace(b"good.txt_", b"good.txt\0"))
  refused(path, tmp_path, "cannot be seen")
  member = tarfile.TarInfo("x")
  member.pax_headers = {"path": "good.txt\0.exe"}
  refused(tar(tmp_path / "t", [(member, b"bad")]), tmp_path, "cannot be seen")


def test_a_name_of_bytes_that_are_not_utf_8_is_refused(tmp_path):
  path = tar(tmp_path / "t", [("caf\udce9.txt", b"x")], form=tarfile.GNU_FORMAT)
  refused(path, tmp_path, "not UTF-8")


@pytest.mark.parametrize(
  "names",
  [
    ("a.txt", "a.txt"),
    ("a.txt", "./a.txt"),
    ("a.txt", "A.TXT"),
    ("Books/x", "books/y"),
    ("caf\u00e9", "cafe\u0301"),
    ("stra\u00dfe", "STRASSE"),
    ("a", "a/b"),
    ("a/b", "a"),
  ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_that_would_be_one_file_are_refused(tmp_path, names):
  members = [(name, b"x") for name in names]
  for archive in (tar(tmp_path / "t", members), zipped(tmp_path / "z", members)):
    refused(archive, tmp_path, repr(names[1]))


LINKS = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"S"]


@pytest.mark.parametrize("kind", [*LINKS, b"D", b"M", b"V", b"Z"])
def test_links_devices_and_what_is_unknown_are_refused(tmp_path, kind):
  members = [("good.txt", b"x"), (special("odd", kind, "/etc/passwd"), b""), ("odd/x", b"bad")]
  refused(tar(tmp_path / "t", members), tmp_path, "'odd' is a link")


def test_a_file_with_holes_is_refused(tmp_path):
  member = tarfile.TarInfo("odd")
  member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(2**60)}
  refused(tar(tmp_path / "t", [(member, b"x")]), tmp_path, "holes")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, kind):
  member = zipfile.ZipInfo("odd")
  member.external_attr = (kind | 0o777) << 16
  refused(zipped(tmp_path / "z", [(member, b"/etc/passwd")]), tmp_path, "'odd' is a link")


@pytest.mark.parametrize("ending", [":gz", ":bz2", ":xz"])
def test_a_tar_bomb_is_refused_before_it_fills_the_disk(tmp_path, ending, monkeypatch):
  path = tar(tmp_path / "t", [("good", b"x"), ("bomb", bytes(50_000_000))], "w" + ending)
  refused(path, tmp_path, "'bomb' makes it more than 200 times")


def test_a_zip_bomb_is_refused_by_what_it_declares(tmp_path):
  path = zipped(tmp_path / "z", [("good", b"x"), ("bomb", bytes(50_000_000))])
  refused(path, tmp_path, "'bomb' makes it more than 200 times")


def lying(path, size):
  """The zip with another size of its one member, in both of its places."""
  data = bytearray(path.read_bytes())
  for sign, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
    struct.pack_into("<I", data, data.index(sign) + offset, size)
  path.write_bytes(data)
  return path


def test_a_zip_bomb_that_declares_less_writes_no_more_than_that(tmp_path):
  path = lying(zipped(tmp_path / "z", [("bomb", bytes(50_000_000))]), 100)
  refused(path, tmp_path, "'bomb'")


def test_files_that_overlap_in_a_zip_are_a_bomb(tmp_path):
  """All entries of the directory point at the same bytes (Fifield, 2019)."""
  path = zipped(tmp_path / "z", [("0000", bytes(1_000_000))])
  data = path.read_bytes()
  entry, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
  many = b"".join(data[entry:end].replace(b"0000", b"%04d" % i) for i in range(100))
  tail = bytearray(data[end:])
  struct.pack_into("<HHII", tail, 8, 100, 100, len(many), entry)
  path.write_bytes(data[:entry] + many + tail)
  refused(path, tmp_path, "'0001'")


def test_an_archive_inside_stays_a_file(tmp_path):
  """What contains itself can be opened for ever, by who opens what is inside."""
  inner = tar(tmp_path / "inner.tar", [("../evil", b"bad"), ("x", bytes(10_000))])
  outer = tar(tmp_path / "t.tar.gz", [("inner.tar", inner.read_bytes())], "w:gz")
  unpack(outer, tmp_path / "out")
  assert list(contents(tmp_path / "out")) == ["inner.tar"]
  with pytest.raises(UserError, match="no file matches"):
    list(Files(f"{outer}/inner.tar/x").read())


@pytest.mark.parametrize(
  ("limit", "words"),
  [({"total": 1500}, "1,500 bytes"), ({"members": 2}, "2 members"), ({"depth": 1}, "deep")],
)
def test_limits_can_be_given(tmp_path, limit, words):
  members = [("a", b"x"), ("b/c", b"x" * 1000), ("d", b"x" * 1000)]
  for archive in (tar(tmp_path / "t", members), zipped(tmp_path / "z", members)):
    refused(archive, tmp_path, words, **limit)


def header(kind, size, name=b"x", magic=b"ustar\x0000"):
  field = b"\x80" + size.to_bytes(11) if size >= 8**11 else b"%011o\0" % size
  block = name.ljust(100, b"\0") + b"0000644\0" * 3 + field + b"00000000000\0" + b" " * 8 + kind
  block = block.ljust(257, b"\0") + magic
  block = block.ljust(512, b"\0")
  return block[:148] + b"%06o\0 " % sum(block) + block[156:]


HOSTILE = {
  "a header of terabytes": header(b"x", 2**40),
  "a long name of terabytes": header(b"L", 2**40),
  "a file of terabytes": header(b"0", 2**42),
  "headers without end": header(b"x", 0) * 100_000,
  "digits without end": header(b"x", 60_000) + b"1" * 60_416,
  "a record longer than its header": header(b"x", 512) + b"999 path=x\n".ljust(512, b"x"),
  "a record without a length": header(b"x", 512) + b" path=x\n".ljust(512, b"x"),
  "a record of length nothing": header(b"x", 512) + b"0 path=x\n".ljust(512, b"x"),
  "a size of letters": header(b"x", 512) + b"13 size=1e99\n".ljust(512, b"\0"),
  "a size of a thousand digits": header(b"x", 1024) + b"1014 size=" + b"9" * 1003 + b"\n" * 11,
  "a size below nothing": header(b"0", 0)[:124] + b"-0000000001\0" + header(b"0", 0)[136:],
  "nothing": b"",
  "half a header": header(b"0", 0)[:300],
  "no end": header(b"0", 0),
  "less than it says": header(b"0", 5000) + b"x" * 3000,
  "a second archive": header(b"0", 0) + bytes(1024) + header(b"0", 0) + bytes(1024),
  "damage in the middle": header(b"0", 0) + b"\xff" * 512 + bytes(1024),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_tar_of_nonsense_is_refused_at_once(tmp_path, what):
  path = tmp_path / "t.tar"
  path.write_bytes(HOSTILE[what])
  tracemalloc.start()
  try:
    refused(path, tmp_path, "")
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
  finally:
    tracemalloc.stop()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_a_cut_or_changed_archive_is_refused(tmp_path, pack):
  data = pack(tar(tmp_path / "t.tar", [("a", os.urandom(3000)), ("b", b"y" * 100)]).read_bytes())
  path = tmp_path / "x"
  for cut in (1, 5, 4000 if pack is bytes else len(data) // 2, 4100 if pack is bytes else -1):
    path.write_bytes(data[:cut])
    refused(path, tmp_path, "damaged")
  changed = bytearray(data)
  changed[10 if pack is bytes else len(data) // 2] ^= 0x10
  path.write_bytes(changed)
  refused(path, tmp_path, "damaged")


@pytest.mark.parametrize("python", ["this", "newer"])
@pytest.mark.parametrize("cut", [3584, 3584 + 300])
def test_a_tar_that_ends_at_or_in_a_header_is_refused(tmp_path, monkeypatch, python, cut):
  """Newer Pythons read headers by `_frombuf` (CPython's gh-141707)."""
  path = tar(tmp_path / "t.tar", [("a", os.urandom(3000)), ("b", b"y" * 100)])
  path.write_bytes(path.read_bytes()[:cut])
  if python == "newer" and not hasattr(tarfile.TarInfo, "_frombuf"):
    read = tarfile.TarInfo.frombuf.__func__

    def from_block(cls, block, encoding, errors, *, dircheck=True):
      return read(cls, block, encoding, errors)

    def from_archive(cls, archive):
      block = archive.fileobj.read(tarfile.BLOCKSIZE)
      member = cls._frombuf(block, archive.encoding, archive.errors, dircheck=True)
      member.offset = archive.fileobj.tell() - tarfile.BLOCKSIZE
      return member._proc_member(archive)

    monkeypatch.setattr(tarfile.TarInfo, "_frombuf", classmethod(from_block), raising=False)
    monkeypatch.setattr(tarfile.TarInfo, "fromtarfile", classmethod(from_archive))
  refused(path, tmp_path, "damaged")


def test_a_changed_zip_is_refused(tmp_path):
  path = zipped(tmp_path / "z", [("a", os.urandom(3000))])
  data = path.read_bytes()
  for damaged in (data[:1000], data[:-30], data[:500] + b"\xff" + data[501:]):
    path.write_bytes(damaged)
    refused(path, tmp_path, "damaged")


def test_an_encrypted_or_strangely_compressed_zip_is_refused(tmp_path):
  path = zipped(tmp_path / "z", [("a", b"x")], zipfile.ZIP_LZMA)
  refused(path, tmp_path, "method 14")
  data = bytearray(zipped(tmp_path / "z", [("a", b"x")]).read_bytes())
  data[data.index(b"PK\x01\x02") + 8] |= 1
  path.write_bytes(data)
  refused(path, tmp_path, "encrypted")


def test_what_is_no_archive_is_refused(tmp_path):
  path = tmp_path / "x.txt"
  path.write_text("words " * 1000)
  refused(path, tmp_path, "no zip or tar")
  with pytest.raises(UserError, match="there is no archive"):
    unpack(tmp_path / "absent", tmp_path / "out")
  with pytest.raises(UserError, match="there already"):
    unpack(path, tmp_path)


def test_a_path_may_lead_through_an_archive(tmp_path, monkeypatch):
  monkeypatch.setenv("RESEARCH_CACHE", str(tmp_path / "cache"))
  members = [("books/b.txt", b"two"), ("books/a.txt", b"one"), ("c.md", b"no")]
  for archive in (
    tar(tmp_path / "corpus.tar.gz", members, "w:gz"),
    zipped(tmp_path / "corpus.zip", members),
  ):
    files = Files(f"{archive}/**/*.txt")
    assert list(files.read()) == ["one", "two"]
    assert list(Files(f"{archive}/books/b.txt").read()) == ["two"]
  unpacked = Files(f"{tmp_path}/cache/archives/corpus.zip-*/files/**/*.txt")
  assert files.fingerprint() == unpacked.fingerprint()


def test_an_archive_is_unpacked_once_and_again_where_files_were_cut(tmp_path, monkeypatch):
  monkeypatch.setenv("RESEARCH_CACHE", str(tmp_path / "cache"))
  archive = tar(tmp_path / "x.tar", [("a.txt", b"one")])
  place = paths.reach(f"{archive}/a.txt")
  born = place.stat().st_ino
  assert paths.reach(f"{archive}/a.txt").stat().st_ino == born
  place.write_bytes(b"")
  assert paths.reach(f"{archive}/a.txt").read_bytes() == b"one"
  tar(archive, [("a.txt", b"two")])
  assert paths.reach(f"{archive}/a.txt").read_bytes() == b"two"


def test_an_archive_alone_is_a_folder(tmp_path):
  archive = tar(tmp_path / "x.tar.gz", [("a.txt", b"one")], "w:gz")
  assert [path.name for path in paths.reach(archive).iterdir()] == ["a.txt"]
  with pytest.raises(UserError, match=r"x\.tar\.gz is a folder; write .*x\.tar\.gz/\*\.txt"):
    list(Files(str(archive)).read())


def test_a_refused_archive_is_named_where_it_is_used(tmp_path, monkeypatch):
  monkeypatch.setenv("RESEARCH_CACHE", str(tmp_path / "cache"))
  archive = tar(tmp_path / "x.tar", [("../a.txt", b"one")])
  with pytest.raises(UserError, match=r"x\.tar: '\.\./a\.txt' climbs"):
    list(Files(f"{archive}/*.txt").read())
  assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
