"""Commands that take several experiments or runs, or hold two against one another."""

from __future__ import annotations

from pathlib import Path

from research import commands
from research.grammar import kinds
from research.grammar.kinds import Command


def add(command: Command) -> None:
  reproduce = command(
    "reproduce",
    commands.reproduce,
    "Hold runs against what a paper says: the CLAIMS of a file, judged over seeds.",
    "What is missing is run, several at once; run it again to go on. It exits with 0 whatever the "
    "verdicts are, and with 42 where it was stopped.",
  )
  kinds.experiment(reproduce)
  reproduce.add_argument("--workdir", type=kinds.folder, required=True, help="folder of all runs")
  reproduce.add_argument(
    "--workers", type=kinds.count, metavar="N", help="at once (default: one for each GPU, or core)"
  )

  report = command(
    "report",
    commands.report,
    "Write report.html of a run, or of several: curves, baselines, samples, quality against cost.",
    "Of several runs, or a folder of them, it also writes runs.csv and runs.md.",
  )
  report.add_argument(
    "workdir", type=Path, nargs="+", metavar="DIR", help="runs, or folders of some"
  )
  report.add_argument(
    "--output",
    type=kinds.folder,
    metavar="DIR",
    help="of several runs (default: what holds them all)",
  )

  compare = command(
    "compare",
    commands.compare,
    "What differs between two experiments, or two runs: fields, parameters, costs, the program.",
    'A side is a run folder, or in quotes what follows `research run`: "experiments/gpt2.py '
    'size=xl"; of several experiments "FILE --only NAME". Exit codes, as of diff: 0 the same, 1 '
    "they differ, 2 your mistake.",
  )
  compare.add_argument("first", metavar="A", help="run folder, or file with its words in quotes")
  compare.add_argument("second", metavar="B", help="the same of the other side")
  compare.add_argument("--devices", type=kinds.count, help="of the mesh that places the parameters")
  compare.add_argument(
    "--step",
    action="store_true",
    help="also the first step at which they part: of two runs by their logs and checkpoints, of "
    "two files by training both here",
  )
  compare.add_argument(
    "--most", type=kinds.count, default=8, metavar="N", help="steps to train two files (default: 8)"
  )

  sweep = command(
    "sweep",
    commands.sweep,
    "Run all experiments of a file, several at once; run it again to go on.",
    "Each has a process and a folder of its own, DIR/NAME. Exit codes: 0 all are done, 42 stopped "
    "and can go on, else that of the first run that failed.",
  )
  kinds.experiment(sweep)
  sweep.add_argument("--workdir", type=kinds.folder, required=True, help="folder of all runs")
  sweep.add_argument(
    "--workers", type=kinds.count, metavar="N", help="at once (default: one for each GPU, or core)"
  )
  sweep.add_argument("--only", metavar="NAME", help="that experiment, or those below NAME/")
  sweep.add_argument(
    "--dry-run", action="store_true", help="only what it would cost, by three steps of each kind"
  )
  searching = sweep.add_argument_group(
    "a search", "Of FILE:search, a function of a trial; see research/search.py."
  )
  searching.add_argument("--trials", type=kinds.count, metavar="N", help="how many there are to be")
  searching.add_argument(
    "--storage", metavar="URL", help="database of the trials (default: a file in DIR)"
  )
  clusters = sweep.add_argument_group("on a cluster", "See `launch --help`.")
  clusters.add_argument("--launcher", choices=("local", "slurm", "gke"), default="local")
  clusters.add_argument("--topology", metavar="KIND:SHAPE", help="machines of one run")
  clusters.add_argument(
    "--launch", action="append", default=[], metavar="OPTION", help="--launch=--queue=short"
  )
  clusters.add_argument("--submit", action="store_true", help="hand it over instead of printing it")

  runs = command(
    "runs",
    commands.runs,
    "List the runs of a folder: what they are, where they stand, what they came to.",
    "Names are those of evaluations (heldout.loss), of fields (model.width), and state, error, "
    "step, seconds, identity, code, data, host, ...: the first line of --csv has them all.",
  )
  runs.add_argument("folder", type=Path, help="of a sweep, or any above several runs")
  runs.add_argument(
    "--where",
    action="append",
    default=[],
    metavar="NAME<VALUE",
    help="only these; also <= > >= = != ~ (contains); may be repeated",
  )
  runs.add_argument("--sort", metavar="NAME", help="the least first (default: by folder)")
  runs.add_argument("--csv", action="store_true", help="everything, as CSV")
