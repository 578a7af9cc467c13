"""What is prepared once is prepared by one process, and the others wait for it."""

import os
import subprocess
import sys

import pytest

from research.data import cache

WORKER = """
import pathlib, sys, time
from research.data import cache

def write(folder):
  with open(sys.argv[1], "a") as file:
    file.write("written\\n")
  if sys.argv[2] == "dies":
    print("writing", flush=True)
    time.sleep(60)
  time.sleep(0.5)
  (folder / "all").touch()

cache.folder("kind", "name", write)
"""


def start(record, how, monkeypatch, root):
  monkeypatch.setenv("RESEARCH_CACHE", str(root))
  command = [sys.executable, "-c", WORKER, str(record), how]
  return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_of_processes_that_ask_at_once_one_writes(tmp_path, monkeypatch):
  record, root = tmp_path / "record", tmp_path / "cache"
  workers = [start(record, "lives", monkeypatch, root) for _ in range(4)]
  assert [worker.wait(30) for worker in workers] == [0] * 4
  assert record.read_text() == "written\n"
  assert sorted(path.name for path in (root / "kind").iterdir()) == ["name"]


def test_the_lock_of_a_killed_process_holds_up_nobody(tmp_path, monkeypatch):
  record, root = tmp_path / "record", tmp_path / "cache"
  dying = start(record, "dies", monkeypatch, root)
  assert dying.stdout.readline() == "writing\n"
  waiting = start(record, "lives", monkeypatch, root)
  dying.kill()
  dying.wait()
  dying.stdout.close()
  assert waiting.wait(30) == 0
  monkeypatch.setenv("RESEARCH_CACHE", str(root))
  assert (cache.root() / "kind" / "name" / "all").exists()


def test_what_a_killed_process_wrote_goes_when_the_next_one_writes(tmp_path, monkeypatch):
  dying = start(tmp_path / "record", "dies", monkeypatch, tmp_path)
  assert dying.stdout.readline() == "writing\n"
  (left,) = (tmp_path / "kind").glob(".name.*.????????")
  dying.kill()
  dying.wait()
  dying.stdout.close()
  process = f".{dying.pid}."
  living, elsewhere, another = (
    left.with_name(name)
    for name in (
      left.name.replace(process, f".{os.getpid()}."),
      left.name.replace(process, f".x{process}"),
      left.name.replace(".name.", ".other."),
    )
  )
  for folder in (living, elsewhere, another):
    folder.mkdir()
  made = cache.folder("kind", "name", lambda folder: (folder / "all").touch())
  assert set((tmp_path / "kind").iterdir()) >= {made, living, elsewhere, another}
  assert not left.exists()


def flip(data):
  return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("file", ["a/small", "large", cache.CONTENTS])
@pytest.mark.parametrize("harm", [flip, lambda data: data[:-2], lambda data: b"", None])
def test_a_damaged_folder_is_made_again(tmp_path, monkeypatch, file, harm):
  monkeypatch.setenv("RESEARCH_CACHE", str(tmp_path))
  monkeypatch.setattr(cache, "BLOCK", 1 << 4)  # so that a kilobyte is large

  def write(folder):
    (folder / "a").mkdir()
    (folder / "a" / "small").write_bytes(b"content")
    (folder / "large").write_bytes(bytes(2000))

  folder = cache.folder("kind", "name", write)
  whole = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
  if harm is None:
    (folder / file).unlink()
  else:
    (folder / file).write_bytes(harm((folder / file).read_bytes()))
  assert cache.folder("kind", "name", write) == folder
  assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == whole


def test_a_whole_folder_is_not_made_again(tmp_path, monkeypatch):
  monkeypatch.setenv("RESEARCH_CACHE", str(tmp_path))
  folder = cache.folder("kind", "name", lambda folder: (folder / "x").touch())
  assert cache.folder("kind", "name", lambda folder: 1 / 0) == folder
