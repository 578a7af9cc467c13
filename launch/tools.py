"""The engines' own commands: what each is for, and how to get it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from research.errors import UserError

WAYS = {
  "kubectl": "install it with `gcloud components install kubectl` or from kubernetes.io/docs/tasks",
  "sbatch": "run this on a login node of the cluster; Debian's package is slurm-client",
  "sky": "install it with `pip install skypilot[gcp]` (or another cloud's name)",
  "gcloud": "install the Google Cloud CLI from cloud.google.com/sdk",
}


def call(tool: str, *arguments: str, text: str | None = None) -> int:
  """Runs a tool with `text` as its standard input, and returns its exit code.

  Raises:
    UserError: it is not installed; says how to get it.
  """
  return _call([_found(tool), *arguments], text)


def script(text: str, needs: str) -> int:
  """Runs a script of ours that calls the tool `needs`."""
  _found(needs)
  return _call(["/bin/sh", "-s"], text)


def _found(tool: str) -> str:
  path = shutil.which(tool)
  if path is None:
    raise UserError(f"--submit needs `{tool}`, which is not here: {WAYS[tool]}.")
  return path


def _call(words: Sequence[str], text: str | None) -> int:
  return subprocess.run(words, input=text, text=True, check=False).returncode  # noqa: S603 (found in the path)
