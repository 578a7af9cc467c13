"""A run folder has room for one run, and a dead one holds no place."""

import subprocess
import sys

import pytest

from research.errors import RunError
from research.lock import alone_in

HOLDER = """
import pathlib, sys, time
from research.lock import alone_in
with alone_in(pathlib.Path(sys.argv[1])):
  print("here", flush=True)
  time.sleep(60)
"""


def test_the_second_run_in_a_folder_is_told_who_is_there(tmp_path):
  command = [sys.executable, "-c", HOLDER, str(tmp_path)]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
    assert other.stdout.readline() == "here\n"
    told = f"is in use by process {other.pid} on .*; wait for it"
    with pytest.raises(RunError, match=told) as error, alone_in(tmp_path):
      pass
    assert error.value.exit_code == 1  # the other may be done the next time
    other.kill()
    other.wait()
    with alone_in(tmp_path):  # nothing is left of a lock whose holder was killed
      pass


def test_a_folder_can_be_used_again(tmp_path):
  for _ in range(2):
    with alone_in(tmp_path):
      pass
