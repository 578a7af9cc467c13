"""What a run writes down while it runs: metrics.jsonl, TensorBoard, samples, a line of progress.

Metrics are read one step late: `Log.step` keeps what the newest step returned and reads what the
step before it returned, so the device always has work queued and never waits for the host.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import jax

from research import metrics as measure
from research.log import lines, progress, stopwatch

FILES = ("metrics.jsonl", "samples.jsonl")
OWN = ("train", "baseline", "model", "timing")  # splits; every other one is an evaluation


class Log:
  """Records one stretch of a run, from its start or a checkpoint; a context manager.

  Each line of metrics.jsonl is an object with "time" (seconds since the run began, over all its
  stretches), "split" and mostly "step":

  * "train": that very step's values, because averages hide spikes; but "tokens_per_second",
    "peak_share" (of `peak_flops`) and "data_wait_share" (of the time) are of the interval since
    the line before, without pauses and compiling. "tokens" counts from the run's first step.
  * the name of an evaluation: its means, and their "standard_error" by name.
  * "baseline": "name" and means.  "model": facts.
  * "timing": "compile_seconds" after the first step of a stretch; at its end "seconds",
    "train_seconds", seconds by kind of pause, the rates of the stretch, "peak_memory_bytes".

  Attributes:
    lines: what metrics.jsonl already held when a run was resumed.
  """

  def __init__(
    self,
    workdir: str | os.PathLike[str],
    *,
    steps: int,
    start: int = 0,
    every: int = 1,
    peak_flops: float | None = None,
    beside: Log | None = None,
    told_as: str = "",
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Opens the files in `workdir`. Of the processes of a job, only the first writes.

    Here and later, a disk that takes no more is a `RunError`.

    Args:
      workdir: folder of the run; made when missing.
      steps: of the whole run.
      start: steps already done. Lines of later steps are dropped from the files; at 0, all are.
      every: steps between train lines; the first and the last step always have one.
      peak_flops: operations a second that matrix products reach on the machine, or None.
      beside: of a run whose steps are taken together with this one's: they share a line of
        progress, and a pause of one is a pause of all.
      told_as: the name with which the lines that are printed begin.
      stream: where progress is shown; stderr by default.
      clock: seconds; tests give their own.
    """
    self.steps, self.start, self.every = steps, start, every
    self.peak_flops = peak_flops
    self.lines: list[lines.Line] = []
    self._watch = stopwatch.Stopwatch(clock)
    self._pending: _Pending | None = None
    self._told_as = f"{told_as}: " if told_as else ""
    self._together: list[Log] = beside._together if beside else []
    self._together.append(self)
    self._done = start
    self._newest: dict[str, float] = {}
    self._done_before: set[tuple[str, int]] = set()
    self._files: dict[str, TextIO] = {}
    self._display = self._tensorboard = None
    if jax.process_index() == 0:
      folder = Path(workdir)
      with lines.written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.lines = lines.keep(folder / "metrics.jsonl", start)
        samples = lines.keep(folder / "samples.jsonl", start)
        self._files = {name: lines.append(folder / name) for name in FILES}
        self._tensorboard = _tensorboard(folder / "tensorboard", start)
      self._done_before = {(x.get("split"), x.get("step")) for x in self.lines}
      self._done_before |= {(x.get("name"), x.get("step")) for x in samples}
      self._display = beside._display if beside else None
      self._display = self._display or progress.progress(steps, start, stream=stream, clock=clock)
    times = [lines.number(line.get("time")) for line in self.lines]
    self._before = max((t for t in times if math.isfinite(t)), default=0.0)
    # The last line may be older than the checkpoint.
    logged = [line for line in self.lines if line.get("split") == "train" and line.get("step")]
    self._tokens = round(start * logged[-1].get("tokens", 0) / logged[-1]["step"]) if logged else 0

  def __enter__(self) -> Log:
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
    """Reads the last step, writes the stretch's timing and closes the files."""

    def quietly():
      """When the run itself failed, its error is the one to tell, not that of a last read."""
      return contextlib.suppress(Exception) if kind else contextlib.nullcontext()

    with quietly(), contextlib.ExitStack() as closing:
      if self._tensorboard:
        closing.callback(_close, self._tensorboard, self._tensorboard.logdir)
      for file in self._files.values():
        closing.callback(_close, file, file.name)
      if self._display:
        closing.callback(self._display.close)
      with quietly():
        self._settle()
      if self._watch.first_ready is not None or not self.start:
        self._write("timing", self._done, self._timing())

  def step(
    self,
    step: int,
    metrics: Mapping[str, Any],
    *,
    tokens: int = 0,
    flops: float | None = None,
    data_wait: float = 0.0,
  ) -> dict[str, float] | None:
    """Takes the metrics of `step`, just dispatched, and reads those of the step before.

    Args:
      step: how many updates there are with this one; the first is 1.
      metrics: name -> `Mean`, array or number, still on the devices.
      tokens: in this step, over all processes.
      flops: floating-point operations of this step, or None.
      data_wait: seconds that the trainer waited for the batch.

    Returns:
      The values of the step before, when a line was written for it.
    """
    values = self._settle()
    self._pending = _Pending(step, metrics, tokens, flops or 0.0, data_wait)
    return values

  def has(self, step: int, name: str) -> bool:
    """Whether an earlier stretch wrote the evaluation or the samples `name` of `step`."""
    return (name, step) in self._done_before

  def back(self, step: int) -> None:
    """Takes back what was written of the steps after `step`, which are gone over again."""
    self._settle()
    for name, file in self._files.items():
      path = Path(file.name)
      with lines.written(path):
        file.close()
        kept = [line for line in lines.read(path)[0] if lines.number(line.get("step", 0)) <= step]
        lines.rewrite(path, kept)
        self._files[name] = lines.append(path)
    if self._tensorboard:
      folder = Path(self._tensorboard.logdir)
      with lines.written(folder):
        self._tensorboard.close()
        self._tensorboard = _tensorboard(folder, step)
    self._done = step
    self._done_before = {x for x in self._done_before if lines.number(x[1]) <= step}

  @contextlib.contextmanager
  def pause(self, what: str = "other") -> Iterator[None]:
    """Time that is not training: "compile", "evaluate", "save", "sample", ...

    It waits for the newest step first. Rates leave it out; the timing has it as `what`_seconds.
    """
    with contextlib.ExitStack() as stack:
      for log in self._together:
        log._settle()
        stack.enter_context(log._watch.pause(what))
      if self._display:
        self._display.activity(what)
      yield
    if self._display:
      self._display.activity("")

  def evaluation(
    self,
    step: int,
    name: str,
    values: Mapping[str, float],
    standard_errors: Mapping[str, float] | None = None,
  ) -> None:
    """Writes and prints the means of evaluation `name` after `step` updates."""
    self._settle()
    self._write(name, step, {**values, **_errors(standard_errors)})
    self.note(f"step {step}  {name}: {progress.measured(values, standard_errors or {})}")

  def baseline(
    self,
    name: str,
    values: Mapping[str, float],
    standard_errors: Mapping[str, float] | None = None,
  ) -> None:
    """Writes and prints what a baseline scores on the held-out data."""
    self._write("baseline", None, {"name": name, **values, **_errors(standard_errors)})
    self.note(f"baseline {name}: {progress.measured(values, standard_errors or {})}")

  def model(self, **facts: float | str) -> None:
    """Writes facts about the model, for example `parameters`, once for all stretches."""
    if not any(line.get("split") == "model" for line in self.lines):
      self._write("model", None, facts)

  def text(self, step: int, name: str, samples: Iterable[str | tuple[str, str]]) -> None:
    """Writes what the model wrote: texts, or pairs (prompt, its continuation)."""
    pairs = [("", sample) if isinstance(sample, str) else tuple(sample) for sample in samples]
    for prompt, text in pairs:
      self._line("samples.jsonl", {"step": step, "name": name, "prompt": prompt, "text": text})
    if self._tensorboard and pairs:
      # TensorBoard reads Markdown: four spaces keep a text as it is.
      blocks = [(prompt + text).replace("\n", "\n    ") for prompt, text in pairs]
      shown = "\n\n---\n\n".join("    " + block for block in blocks)
      self._tensorboard.add_text(name, shown.encode("utf-8", "replace").decode("utf-8"), step)

  def note(self, text: str) -> None:
    """Prints a line above the progress."""
    if self._display:
      self._display.note(self._told_as + text)

  def _settle(self) -> dict[str, float] | None:
    """Waits for the pending step, counts its time and writes its line, if it has one."""
    if self._pending is None:
      return None
    pending, self._pending = self._pending, None
    jax.block_until_ready(pending.metrics)
    watch, step = self._watch, pending.step
    first = watch.first_ready is None
    watch.ready(tokens=pending.tokens, flops=pending.flops, data_wait=pending.data_wait)
    if first:
      self._write("timing", self.start, {"compile_seconds": watch.compile_seconds})
    self._done = step
    self._tokens += pending.tokens
    values = None
    if step % self.every == 0 or step in (1, self.steps):
      rates = watch.lap().rates(self.peak_flops)
      values = {**_read(pending.metrics), **rates, "tokens": self._tokens}
      self._newest = {**self._newest, **values}
      self._write("train", step, values)
    if self._display:
      # A run that goes back takes more steps than it comes forward.
      left = watch.left(watch.total.steps + 1, self.steps - step)
      self._display.update(step, self._newest, self._before + watch.seconds, left)
    return values

  def _timing(self) -> dict[str, float]:
    work, memory = self._watch.total, stopwatch.peak_memory()
    pauses = self._watch.pauses.items()
    return {
      "steps": work.steps + (self._watch.first_ready is not None),
      "seconds": self._watch.seconds,
      **({"train_seconds": work.seconds} if work.steps else {}),
      **{f"{what}_seconds": seconds for what, seconds in pauses if what != "compile"},
      **work.rates(self.peak_flops),
      **({"peak_memory_bytes": memory} if memory else {}),
    }

  def _write(self, split: str, step: int | None, values: Mapping[str, Any]) -> None:
    now = self._before + self._watch.seconds
    head = {} if step is None else {"step": step}
    self._line("metrics.jsonl", {**head, "time": round(now, 3), "split": split, **values})
    if self._tensorboard:
      folder = f"baseline/{values['name']}" if split == "baseline" else split
      for name, value in values.items():
        if isinstance(value, int | float) and math.isfinite(value):
          self._tensorboard.add_scalar(f"{folder}/{name}", value, step or 0)

  def _line(self, file: str, values: Mapping[str, Any]) -> None:
    if file in self._files:
      with lines.written(self._files[file].name):
        self._files[file].write(lines.encode(values))
        self._files[file].flush()


class _Pending(NamedTuple):
  step: int
  metrics: Mapping[str, Any]
  tokens: int
  flops: float
  data_wait: float


def _close(file: Any, path: str | Path) -> None:
  with lines.written(path):
    file.close()


def _tensorboard(folder: Path, start: int) -> Any:
  import tensorboardX

  # TensorBoard hides what an earlier stretch wrote from this step on.
  return tensorboardX.SummaryWriter(str(folder), purge_step=start + 1 if start else 0)


def _read(metrics: Mapping[str, Any]) -> dict[str, float]:
  """The numbers of one step on the host, divided there."""
  host = jax.device_get(dict(metrics))  # all at once; it sorts the names
  means = {name: host[name] for name in metrics if isinstance(host[name], measure.Mean)}
  others = {name: float(host[name]) for name in metrics if name not in means}
  return {**measure.means(means), **others}


def _errors(errors: Mapping[str, float] | None) -> dict[str, dict[str, float]]:
  return {"standard_error": dict(errors)} if errors else {}
