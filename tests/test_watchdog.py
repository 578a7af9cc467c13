"""A process without a sign of life ends, whatever holds it, and says where it stood."""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PATIENCE, GRACE = 1.5, 2.0  # seconds
PROGRAM = """
import re, sys, threading, time
from research.watchdog import alive, watched

def here():
  {body}

with watched({patience}):
  print(time.monotonic(), flush=True)
  here()
time.sleep({after})
"""


STUCK = {
  "asleep": "time.sleep(60)",
  "at a barrier": "threading.Barrier(2).wait()",
  "holding the interpreter's lock": "9 ** int(9e9)",
  "in an expression": "re.match('(a*)*b', 'a' * 60)",
  "after a sign of life": "alive(); time.sleep(60)",
}
THREAD = "threading.Thread(target=lambda: threading.Event().wait(), daemon=True).start(); "
OTHERS = {
  "two threads": {"body": THREAD + "time.sleep(60)"},
  "alive": {"body": "[(alive(), time.sleep(0.1)) for _ in range(30)]"},
  "done": {"body": "pass", "after": PATIENCE + 0.5},
  "failed": {"body": "sys.excepthook = lambda *_: time.sleep(2); 1 / 0"},
  "not watched": {"body": "alive(); time.sleep(2)", "patience": None},
}


class Ended(NamedTuple):
  """What came of a program; `seconds` are those since its watch began."""

  code: int
  seconds: float
  said: str


def run(body, patience=PATIENCE, after=0.0):
  text = PROGRAM.format(body=body, patience=patience, after=after)
  child = subprocess.Popen(
    [sys.executable, "-c", text],
    cwd=ROOT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )
  try:
    began = float(child.stdout.readline())
    _, said = child.communicate(timeout=30)
    return Ended(child.returncode, time.monotonic() - began, said)
  finally:
    child.kill()
    child.wait()


@pytest.fixture(scope="module")
def ended():
  """All programs at once, for most of them wait."""
  cases = {**{name: {"body": body} for name, body in STUCK.items()}, **OTHERS}
  with ThreadPoolExecutor(len(cases)) as pool:
    return dict(zip(cases, pool.map(lambda case: run(**case), cases.values()), strict=True))


@pytest.mark.parametrize("where", STUCK)
def test_who_is_stuck_ends_with_code_1_and_says_where(ended, where):
  code, seconds, said = ended[where]
  assert code == 1
  assert PATIENCE * 0.9 < seconds < PATIENCE + GRACE
  assert "Timeout" in said
  assert re.search(r'File "<string>", line \d+ in here', said)


def test_the_stacks_of_all_threads_are_told(ended):
  code, _, said = ended["two threads"]
  assert code == 1
  assert said.count("hread 0x") == 2
  assert "in wait" in said and "in here" in said


def test_signs_of_life_keep_it_alive(ended):
  code, seconds, said = ended["alive"]
  assert code == 0 and seconds > 2 * PATIENCE * 0.9 and not said


@pytest.mark.parametrize("how", ["done", "failed"])
def test_after_the_watch_nothing_ends_it(ended, how):
  code, seconds, said = ended[how]
  assert code == (how == "failed") and seconds > PATIENCE and not said


def test_without_patience_nothing_is_watched(ended):
  code, _, said = ended["not watched"]
  assert code == 0 and not said
