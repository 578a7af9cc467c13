"""Commands that take an experiment: to run it, to look at it, to check, plan and time it."""

from __future__ import annotations

from pathlib import Path

from research import commands
from research.grammar import kinds
from research.grammar.kinds import Command


def add(command: Command) -> None:
  run = command(
    "run",
    commands.run,
    "Run an experiment; run it again to resume.",
    "`research run FILE --help` shows the knobs of a file and the fields that can be overridden.",
  )
  kinds.experiment(run)
  run.add_argument("--workdir", type=kinds.folder, help="folder of the run (default: runs/NAME)")
  run.add_argument("--only", metavar="NAME", help="of several experiments, the one of this name")
  job = run.add_argument_group(
    "one of several processes", "SLURM, Open MPI, Kubernetes and Cloud TPU need none of these."
  )
  job.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
  job.add_argument("--processes", type=kinds.count, metavar="N", help="how many there are")
  job.add_argument("--process", type=int, metavar="I", help="which one this is, from 0")

  describe = command(
    "describe", commands.describe, "Print an experiment, field by field; runs nothing."
  )
  kinds.experiment(describe)

  data = command(
    "data", commands.data, "Preview what the model will see: examples, lengths, speed."
  )
  kinds.experiment(data)
  data.add_argument("--rows", type=kinds.count, default=3, help="examples to show (default: 3)")

  explain = command(
    "explain",
    commands.explain,
    "Show on a mesh, for every parameter, the rule that splits it and what a device holds.",
    "It exits with 2 where a rule matches nothing, or a large array is split by none.",
  )
  kinds.experiment(explain)
  explain.add_argument("--mesh", help="a preset (dp, fsdp, ...), or sizes as fsdp=64,tensor=4")
  explain.add_argument(
    "--devices", type=kinds.count, help="how many (default: as the mesh asks, or 8)"
  )

  verify = command(
    "verify",
    commands.verify,
    "Check an experiment, made small: masks, batches, devices, decoding, resuming.",
    "Exit codes: 0 all hold, 1 an invariant is broken, 2 your mistake. A file's smoke() is taken "
    "where it has one and nothing else is asked for.",
  )
  kinds.experiment(verify)
  verify.add_argument(
    "--only", type=kinds.words, default=(), metavar="CHECK,...", help="these checks"
  )
  verify.add_argument(
    "--mesh",
    action="append",
    default=[],
    metavar="MESH",
    help="on eight devices: a preset, or sizes as fsdp=4,tensor=2; may be repeated "
    "(default: every preset)",
  )

  plan = command(
    "plan",
    commands.plan,
    "Compile an experiment for machines that are not here: memory, time, what is sent.",
    "It exits with 1 where something does not fit. Topologies: v5e:16x16, v5p:4x4x8, v6e:16x16, "
    "v4:4x4x4, 2xv5e:16x16 (two slices), h100:8x8 (hosts x GPUs).",
  )
  kinds.experiment(plan)
  plan.add_argument("--topology", required=True, help="one, or several joined by commas")
  plan.add_argument("--tokens", help="budget, as in 300B (default: the experiment's steps)")
  plan.add_argument("--search", action="store_true", help="the fastest that fit; compiles nothing")
  plan.add_argument("--estimate", action="store_true", help="compile nothing")
  plan.add_argument("--price", type=float, help="dollars for a device and hour")
  plan.add_argument(
    "--option", action="append", default=[], metavar="xla_NAME=VALUE", help="of the compiler"
  )
  plan.add_argument("--timeout", type=float, default=900, help="seconds for a compilation")
  plan.add_argument("--out", type=Path, help="folder of the pages (default: runs/plans)")

  bench = command("bench", commands.bench, "Time training, decoding and checkpoints.")
  timed = ("train", "decode", "bert", "classify", "translate", "clip", "save", "sweep", "watch")
  bench.add_argument("kind", nargs="?", default="train", choices=timed)
  bench.add_argument(
    "--rounds",
    type=kinds.count,
    default=5,
    help="interleaved rounds (default: 5); sweep: 4 runs each",
  )
  bench.add_argument("--size", default="mini", help="tiny, mini, small; minilm of a BERT")
  bench.add_argument(
    "--folder", type=Path, help="save, sweep: where to write (default: temporary files)"
  )
  bench.add_argument("--peers", action="store_true", help="also PyTorch and Hugging Face")
  bench.add_argument("--peer-python", type=Path, help="interpreter that has torch, transformers")
