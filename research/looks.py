"""What a run does beside training, now and then: it evaluates the model, and has it write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from research import distributed, metrics
from research.diagnosis import diagnoses
from research.experiment import Experiment

SAMPLES = "samples"  # their name in the log


class Looks:
  """The evaluations and samples of one run.

  Attributes:
    measured: the newest means of each evaluation.
  """

  def __init__(
    self,
    experiment: Experiment,
    totals: Callable[[str, Any], metrics.Metrics | None],
    write: Callable[[Any], Any],
    journal: Any,
    scored: Callable[[int, dict[str, float]], None],
  ):
    """Binds what does the work; see `train`.

    Args:
      experiment: names the evaluations and samples, and how often they are due.
      totals: (name of an evaluation, params) -> its Metrics, None where a signal cut it short.
      write: params -> samples, or None.
      journal: the log of the run.
      scored: told what a step scored, by "evaluation.measure".
    """
    self.experiment, self.journal = experiment, journal
    self.measured: dict[str, dict[str, float]] = {}
    self._totals, self._write, self._scored = totals, write, scored

  def after(self, step: int, params: Any) -> bool:
    """Does what is due after so many steps; False where a signal cut it short."""
    return all(self._look(name, step, params) for name in self.due(step))

  def after_restart(self, step: int, params: Any) -> bool:
    """What was due at the checkpoint that a run goes on from, and was not done before it ended.

    A run that is complete is evaluated again, to say what it came to.
    """
    due = [
      name
      for name in self.due(step)
      if (step == self.experiment.steps and name != SAMPLES)
      or not distributed.agreed(self.journal.has(step, name))
    ]
    return all(self._look(name, step, params) for name in due)

  def due(self, step: int) -> list[str]:
    """The evaluations and samples that are to be done after so many steps."""
    steps, samples = self.experiment.steps, self.experiment.samples
    every = {name: item.every for name, item in self.experiment.evals.items()}
    if samples is not None:
      every[SAMPLES] = samples.every
    return [
      name
      for name, interval in every.items()
      if step == steps or step % (interval or max(1, steps // 10)) == 0
    ]

  def _look(self, name: str, step: int, params: Any) -> bool:
    if name == SAMPLES:
      with self.journal.pause("sample"):
        texts = self._write(params)
      if texts is not None:
        self.journal.text(step, name, texts)
      return texts is not None
    with self.journal.pause("evaluate"):
      totals = self._totals(name, params)
    if totals is None:
      return False
    self.measured[name] = metrics.means(totals)
    if not self.journal.has(step, name):  # a run that was complete is told, and has its line
      told = {**self.measured[name], **metrics.particulars(totals)}
      self.journal.evaluation(step, name, told, metrics.standard_errors(totals))
      for sentence in diagnoses(told):
        self.journal.note(f"step {step}  {name}: {sentence}")
    self._scored(step, {f"{name}.{key}": value for key, value in self.measured[name].items()})
    return True
