"""What each command of `research` does; JAX is imported only by those that compute.

one    with an experiment
made   with a run
many   with several experiments or runs
"""

from research.commands.made import (
  classify,
  embed,
  export,
  import_,
  merge,
  pin,
  predict,
  replay,
  sample,
  search,
)
from research.commands.many import compare, report, reproduce, runs, sweep
from research.commands.one import bench, data, describe, explain, explain_file, plan, run, verify

__all__ = [
  "bench",
  "classify",
  "compare",
  "data",
  "describe",
  "embed",
  "explain",
  "explain_file",
  "export",
  "import_",
  "merge",
  "pin",
  "plan",
  "predict",
  "replay",
  "report",
  "reproduce",
  "run",
  "runs",
  "sample",
  "search",
  "sweep",
  "verify",
]
