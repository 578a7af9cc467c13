"""The parts of Optuna that a `Search` names: its sampler, its pruner, and where trials are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from research.errors import UserError
from research.search import Search

try:
  import optuna
except ModuleNotFoundError as error:
  raise UserError(
    "a search takes Optuna, which is not installed; pip install 'research[search]'."
  ) from error

JOURNAL = "search.journal"  # in the folder of a search


def storage(workdir: Path, url: str | None) -> Any:
  """Where trials are kept: the database of a URL, or a file in `workdir`."""
  if url is not None:
    return optuna.storages.RDBStorage(url)
  # A symbolic link is made by one alone on any network file system; other locks are not so sure.
  path = str((workdir / JOURNAL).absolute())  # the lock links to it, read from its own folder
  journal = optuna.storages.journal
  return journal.JournalStorage(
    journal.JournalFileBackend(path, lock_obj=journal.JournalFileSymlinkLock(path))
  )


def sampler(wanted: Search, space: dict[str, list[Any]], seed: int) -> Any:
  """What chooses, drawing by `seed`; `space` has the values of a grid."""
  if not isinstance(wanted.sampler, str):
    return wanted.sampler
  samplers = optuna.samplers
  return {
    # Those that are still running count as bad, so that workers do not all try the same.
    "tpe": lambda: samplers.TPESampler(seed=seed, constant_liar=True),
    "random": lambda: samplers.RandomSampler(seed=seed),
    # In one order for all, so that the number of a trial says which combination it is.
    "grid": lambda: samplers.GridSampler(space, seed=wanted.seed),
  }[wanted.sampler]()


def pruner(wanted: Search) -> Any:
  """What says which runs are not worth going on with."""
  if not isinstance(wanted.pruner, str | None):
    return wanted.pruner
  pruners = optuna.pruners
  return {
    "median": pruners.MedianPruner,
    "halving": pruners.SuccessiveHalvingPruner,
    None: pruners.NopPruner,
  }[wanted.pruner]()
