"""A log has each step once, is always valid JSON, and never waits for the newest step."""

import errno
import io
import itertools
import json
import math
import multiprocessing
from pathlib import Path

import jax.numpy as jnp
import pytest

from research import disk, log
from research.errors import RunError
from research.log.lines import append
from research.log.progress import counted
from research.metrics import Mean


class Clock:
  """Seconds that pass only when a test says so."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


class Terminal(io.StringIO):
  def isatty(self):
    return True


def mean(value, weight=8.0):
  return Mean(jnp.float32(value * weight), jnp.float32(weight))


def read(folder, name="metrics.jsonl"):
  def refuse(word):
    raise ValueError(f"{word} is not JSON")

  text = (folder / name).read_text(encoding="utf-8")
  assert text == "" or text.endswith("\n")
  return [json.loads(line, parse_constant=refuse) for line in text.split("\n")[:-1]]


def steps(folder, split="train"):
  return [line["step"] for line in read(folder) if line["split"] == split]


def run(folder, first, last, *, start=0, every=1, clock=None, stream=None, steps=20, **arguments):
  clock, stream = clock or Clock(), stream or io.StringIO()
  with log.Log(
    folder, steps=steps, start=start, every=every, stream=stream, clock=clock, **arguments
  ) as journal:
    for step in range(first, last + 1):
      clock.now += 10 if step == first else 0.5
      journal.step(step, {"loss": mean(1 / step), "nats": mean(1 / step)}, tokens=100, flops=1e6)
  return stream.getvalue()


def test_a_line_says_what_the_step_measured(tmp_path):
  run(tmp_path, 1, 20, peak_flops=4e6)
  line = next(x for x in read(tmp_path) if x["split"] == "train" and x["step"] == 10)
  assert line["loss"] == pytest.approx(0.1)
  assert line["perplexity"] == pytest.approx(math.exp(0.1))
  assert line["tokens_per_second"] == pytest.approx(200)
  assert line["peak_share"] == pytest.approx(0.5)
  assert line["tokens"] == 1000


def test_the_first_and_the_last_step_always_have_a_line(tmp_path):
  run(tmp_path, 1, 20, every=8)
  assert steps(tmp_path) == [1, 8, 16, 20]


def test_compiling_is_told_apart(tmp_path):
  run(tmp_path, 1, 3)
  timing = [line for line in read(tmp_path) if line["split"] == "timing"]
  assert timing[0]["compile_seconds"] == pytest.approx(10.5)  # ready when the second is dispatched
  assert "tokens_per_second" not in next(x for x in read(tmp_path) if x["split"] == "train")
  assert timing[-1]["steps"] == 3 and timing[-1]["peak_memory_bytes"] > 0


def test_the_newest_step_is_not_waited_for(tmp_path):
  """A value that is not read until the next step comes."""
  read_now = []

  class Slow:
    def __init__(self, step):
      self.step = step

    def block_until_ready(self):
      read_now.append(self.step)
      return self

    def __float__(self):
      return 1.0

  with log.Log(tmp_path, steps=9, stream=io.StringIO()) as journal:
    journal.step(1, {"loss": Slow(1)})
    assert read_now == []
    journal.step(2, {"loss": Slow(2)})
    assert read_now == [1]
  assert read_now == [1, 2]


def test_pauses_are_not_in_the_rate(tmp_path):
  clock = Clock()
  with log.Log(tmp_path, steps=9, every=3, stream=io.StringIO(), clock=clock) as journal:
    for step in range(1, 10):
      journal.step(step, {"loss": mean(1.0)}, tokens=100)
      clock.now += 0.5
      if step == 5:
        with journal.pause("evaluate"):
          clock.now += 1000
          journal.evaluation(step, "heldout", {"loss": 2.0}, {"loss": 0.1})
  rates = [x["tokens_per_second"] for x in read(tmp_path) if "tokens_per_second" in x]
  assert rates == pytest.approx([200] * len(rates)) and len(rates) == 4
  assert read(tmp_path)[-1]["evaluate_seconds"] == 1000
  evaluation = next(x for x in read(tmp_path) if x["split"] == "heldout")
  assert evaluation["standard_error"] == {"loss": 0.1}


def test_a_resumed_log_has_each_step_once(tmp_path):
  with log.Log(tmp_path, steps=20, stream=io.StringIO()) as journal:
    journal.baseline("unigram", {"loss": 3.0})
    journal.text(9, "samples", ["later"])
    journal.text(3, "samples", ["sooner"])
    for step in range(1, 14):
      journal.step(step, {"loss": mean(1.0)}, tokens=100)
  with open(tmp_path / "metrics.jsonl", "a") as file:
    file.write('{"step": 14, "los')  # killed while writing
  run(tmp_path, 9, 20, start=8)
  assert steps(tmp_path) == list(range(1, 21))
  assert [x["name"] for x in read(tmp_path) if x["split"] == "baseline"] == ["unigram"]
  assert [x["text"] for x in read(tmp_path, "samples.jsonl")] == ["sooner"]
  assert read(tmp_path)[-2]["tokens"] == 2000
  times = [x["time"] for x in read(tmp_path)]
  assert times == sorted(times)


def test_a_run_from_the_start_has_no_older_lines(tmp_path):
  run(tmp_path, 1, 5)
  run(tmp_path, 1, 3)
  assert steps(tmp_path) == [1, 2, 3]


def test_numbers_that_are_not_finite_stay_json(tmp_path):
  with log.Log(tmp_path, steps=3, stream=io.StringIO()) as journal:
    for step, value in enumerate((math.nan, math.inf, -math.inf), 1):
      journal.step(step, {"loss": jnp.float32(value)})
  losses = [x["loss"] for x in read(tmp_path) if x["split"] == "train"]
  assert losses == ["NaN", "Infinity", "-Infinity"]


def test_any_text_can_be_a_sample(tmp_path):
  texts = ["two\nlines", "half a pair \ud800", "line\u2028separator", "日本 \x00\x1b"]
  with log.Log(tmp_path, steps=1, stream=io.StringIO()) as journal:
    journal.text(1, "samples", texts)
    journal.text(1, "samples", [("The prompt", " and more")])
  found = read(tmp_path, "samples.jsonl")
  assert [line["text"] for line in found] == [*texts, " and more"]
  assert found[-1]["prompt"] == "The prompt"


def test_without_a_terminal_progress_is_few_plain_lines(tmp_path):
  clock = Clock()
  text = run(tmp_path, 1, 200, clock=clock, steps=200, peak_flops=4e6)  # 0.5 s a step
  lines = text.splitlines()
  assert "\x1b" not in text and "\r" not in text
  assert 10 <= len(lines) <= 13
  assert lines[0].startswith("step 1/200  loss 1")
  assert "200 tokens/s  50 % of peak" in lines[5] and lines[5].endswith("left")
  assert lines[-1].startswith("step 200/200")


def test_what_is_counted_says_how_long_the_rest_takes():
  stream, times = io.StringIO(), itertools.count(0, 4)
  assert list(counted("example", 4, stream=stream, clock=lambda: next(times))) == [0, 1, 2, 3]
  lines = stream.getvalue().splitlines()
  assert lines[0].startswith("example 1/4  0:") and lines[0].endswith("left")
  assert lines[-1].startswith("example 4/4") and lines[-1].endswith("+ 0:00 left")
  assert list(counted("example", 0, stream=stream)) == []


def test_in_a_terminal_progress_is_a_live_line(tmp_path):
  text = run(tmp_path, 1, 20, stream=Terminal(), peak_flops=4e6)
  assert "\x1b" in text
  assert "20/20" in text and "50 % of peak" in text


def test_a_failing_run_keeps_its_own_error_and_its_last_step(tmp_path):
  with (
    pytest.raises(RuntimeError, match="mine"),
    log.Log(tmp_path, steps=5, stream=io.StringIO()) as journal,
  ):
    journal.step(1, {"loss": mean(1.0)})
    raise RuntimeError("mine")
  assert steps(tmp_path) == [1]


def test_a_full_disk_ends_a_run_with_one_line(tmp_path):
  with (
    pytest.raises(RunError, match=r"/dev/full cannot be written: No space .*make room, and the"),
    log.Log(tmp_path, steps=5, stream=io.StringIO()) as journal,
  ):
    journal._files["metrics.jsonl"] = append(Path("/dev/full"))
    for step in (1, 2):
      journal.step(step, {"loss": mean(1.0)})


@pytest.mark.parametrize("kept", ["first", "back"])
def test_a_disk_that_is_full_when_lines_are_dropped_is_told(tmp_path, monkeypatch, kept):
  def refuse(path, contents):
    raise OSError(errno.ENOSPC, "No space left on device")

  if kept == "first":
    monkeypatch.setattr(disk, "replace", refuse)
  with (
    pytest.raises(RunError, match="cannot be written: No space left on device; make room"),
    log.Log(tmp_path, steps=5, stream=io.StringIO()) as journal,
  ):
    monkeypatch.setattr(disk, "replace", refuse)
    journal.back(0)


def write_often(path, letter):
  for _ in range(200):
    disk.replace(path, letter * 100_000)


def test_of_two_processes_that_write_a_file_each_has_its_turn(tmp_path):
  path = tmp_path / "file"
  forks = multiprocessing.get_context("spawn")
  both = [forks.Process(target=write_often, args=(path, letter)) for letter in "ab"]
  for process in both:
    process.start()
  seen = set()
  while any(process.is_alive() for process in both):
    if path.exists():
      text = path.read_text()
      seen.add((len(text), *set(text)))
  assert [process.exitcode for process in both] == [0, 0]
  assert seen <= {(100_000, "a"), (100_000, "b")} and seen
  assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_a_killed_process_left_half_written_is_in_nobodys_way(tmp_path):
  (tmp_path / ".file.new").write_text("more than there will be")
  disk.replace(tmp_path / "file", "whole")
  assert [path.name for path in tmp_path.iterdir()] == ["file"]
  assert (tmp_path / "file").read_text() == "whole"


def test_a_run_that_fails_on_a_full_disk_keeps_its_own_error(tmp_path):
  with (
    pytest.raises(RuntimeError, match="mine"),
    log.Log(tmp_path, steps=5, stream=io.StringIO()) as journal,
  ):
    journal._files["metrics.jsonl"] = append(Path("/dev/full"))
    journal.step(1, {"loss": mean(1.0)})
    raise RuntimeError("mine")


def test_a_run_that_went_back_counts_all_steps_that_it_took(tmp_path):
  clock, left = Clock(), []
  with log.Log(tmp_path, steps=20, stream=io.StringIO(), clock=clock) as journal:
    journal._display.update = lambda step, values, seconds, more: left.append(more)
    for step in (*range(1, 9), *range(3, 6)):
      if (step, clock.now) == (3, 8):
        journal.back(2)
      journal.step(step, {"loss": mean(1.0)})
      clock.now += 1
  assert left[-1] == pytest.approx(15)  # a second each
  assert read(tmp_path)[-1]["steps"] == 11


def test_tensorboard_gets_the_scalars(tmp_path):
  run(tmp_path, 1, 3)
  files = list((tmp_path / "tensorboard").iterdir())
  assert files and b"train/loss" in files[0].read_bytes()
