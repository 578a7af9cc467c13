"""The words of the command line: commands, their options, their help."""

from __future__ import annotations

import argparse
from pathlib import Path

from research import __version__, commands

TRACEBACK = "--traceback"  # of any command: also where a mistake was found


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
  """The parser of the whole line, and those of the commands by their names."""
  parser = argparse.ArgumentParser(
    prog="research",
    description="Run experiments: short Python files of data, model, optimizer.",
    epilog=f"Any command takes {TRACEBACK}, which shows where in the code an error was found.",
  )
  parser.add_argument("--version", action="version", version=f"research {__version__}")
  adding = parser.add_subparsers(metavar="COMMAND")
  subparsers = {}

  def command(name, function, about, epilog=None):
    sub = adding.add_parser(name, help=about, description=about, epilog=epilog)
    sub.set_defaults(command=function)
    subparsers[name] = sub
    return sub

  def experiment(sub):
    sub.add_argument("file", help="experiment file, or file.py:function")
    sub.add_argument(
      "words", nargs="*", metavar="name=value", help="knobs, and dotted fields to override"
    )

  def checkpoint(sub):
    sub.add_argument("workdir", type=Path)
    sub.add_argument("--step", type=int, help="checkpoint (default: the newest)")

  def images(sub, required):
    about = "pictures, also in a zip or tar"
    sub.add_argument("--images", type=Path, metavar="FOLDER", required=required, help=about)

  run = command(
    "run",
    commands.run,
    "Run an experiment; run it again to resume.",
    "`research run FILE --help` shows the knobs of a file and the fields that can be overridden.",
  )
  experiment(run)
  run.add_argument("--workdir", type=_folder, help="folder of the run (default: runs/NAME)")
  run.add_argument("--only", metavar="NAME", help="of several experiments, the one of this name")
  job = run.add_argument_group(
    "one of several processes", "SLURM, Open MPI, Kubernetes and Cloud TPU need none of these."
  )
  job.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
  job.add_argument("--processes", type=_count, metavar="N", help="how many there are")
  job.add_argument("--process", type=int, metavar="I", help="which one this is, from 0")

  describe = command(
    "describe", commands.describe, "Print an experiment, field by field; runs nothing."
  )
  experiment(describe)

  data = command(
    "data", commands.data, "Preview what the model will see: examples, lengths, speed."
  )
  experiment(data)
  data.add_argument("--rows", type=_count, default=3, help="examples to show (default: 3)")

  explain = command(
    "explain",
    commands.explain,
    "Show on a mesh, for every parameter, the rule that splits it and what a device holds.",
    "It exits with 2 where a rule matches nothing, or a large array is split by none.",
  )
  experiment(explain)
  explain.add_argument("--mesh", help="a preset (dp, fsdp, ...), or sizes as fsdp=64,tensor=4")
  explain.add_argument("--devices", type=_count, help="how many (default: as the mesh asks, or 8)")

  verify = command(
    "verify",
    commands.verify,
    "Check an experiment, made small: masks, batches, devices, decoding, resuming.",
    "Exit codes: 0 all hold, 1 an invariant is broken, 2 your mistake. A file's smoke() is taken "
    "where it has one and nothing else is asked for.",
  )
  experiment(verify)
  verify.add_argument("--only", type=_words, default=(), metavar="CHECK,...", help="these checks")
  verify.add_argument(
    "--mesh",
    action="append",
    default=[],
    metavar="MESH",
    help="on eight devices: a preset, or sizes as fsdp=4,tensor=2; may be repeated "
    "(default: every preset)",
  )

  sample = command(
    "sample",
    commands.sample,
    "Let the model of a run write text.",
    "An encoder-decoder makes another text of the prompt; of <extra_id_0> what is missing there.",
  )
  checkpoint(sample)
  sample.add_argument("--prompt", help="text to continue, or to read; - is standard input")
  sample.add_argument("--prompt-file", type=Path, help="file with the text to continue")
  sample.add_argument("--tokens", type=_count, default=256, help="at most so many new tokens")
  sample.add_argument("--greedy", action="store_true", help="always the likeliest token")
  sample.add_argument("--beam", type=_count, metavar="N", help="the likeliest of N, looked ahead")
  sample.add_argument("--temperature", type=float, default=0.8)
  sample.add_argument("--top-k", type=int, help="only the k likeliest tokens")
  sample.add_argument("--top-p", type=float, help="only the likeliest tokens of mass p")
  sample.add_argument("--stop", help="text that ends a sample")
  sample.add_argument("--samples", type=_count, default=1, help="how many, at once")
  sample.add_argument("--seed", type=int, default=0)

  predict = command(
    "predict",
    commands.predict,
    "Labels, entities, answers, translations or summaries of new texts, by the model of a run.",
    "An output that was begun is gone on with; a line that cannot be read holds an error.",
  )
  checkpoint(predict)
  predict.add_argument("texts", nargs="*", metavar="TEXT", help="a text, or a question and a text")
  predict.add_argument("--input", type=Path, help="file of the kind that the run was trained on")
  predict.add_argument("--output", type=Path, help=".jsonl; also .csv, .txt of texts")

  embed = command("embed", commands.embed, "Write the vectors of pictures, or of texts.")
  checkpoint(embed)
  images(embed, required=False)
  embed.add_argument("--texts", type=Path, metavar="FILE", help="a text in each line")
  embed.add_argument("--output", type=Path, required=True, help=".npz: names and vectors")

  search = command(
    "search",
    commands.search,
    "Find pictures by words, and show them on a page.",
    "The vectors of a folder are kept in the cache, until it or the checkpoint changes.",
  )
  checkpoint(search)
  search.add_argument("query", metavar="TEXT", help="what the pictures should show")
  images(search, required=True)
  search.add_argument("--top", type=_count, default=24, help="how many (default: 24)")
  search.add_argument(
    "--output", type=Path, help="the page (default: search.html in the run's folder)"
  )

  classify = command(
    "classify", commands.classify, "Tell pictures apart by names of classes alone."
  )
  checkpoint(classify)
  images(classify, required=True)
  classify.add_argument("--labels", required=True, metavar="A,B,...", help="names of the classes")
  classify.add_argument(
    "--template", action="append", help="a text with {} for the name; may be repeated"
  )
  classify.add_argument("--output", type=Path, help=".jsonl or .csv (default: printed)")

  taking = command(
    "import",
    commands.import_,
    "Make a run of a model that others have trained.",
    "It takes a folder with config.json, model.safetensors and a tokenizer; no code in it is run.",
  )
  taking.add_argument("kind", choices=("hf",), help="hf: Hugging Face's folders")
  taking.add_argument("path", type=Path, help="the folder")
  taking.add_argument("--workdir", type=Path, required=True, help="folder of the run, to be made")

  merging = command("merge", commands.merge, "Make a plain run of one that has adapters (LoRA).")
  merging.add_argument("run", type=Path, help="folder of the run with adapters")
  merging.add_argument("--workdir", type=Path, required=True, help="folder of the run, to be made")
  merging.add_argument("--step", type=int, help="checkpoint (default: the newest)")

  giving = command("export", commands.export, "Write the model of a run as others read it.")
  giving.add_argument("kind", choices=("hf",), help="hf: a folder that transformers loads")
  giving.add_argument("workdir", type=Path)
  giving.add_argument("path", type=Path, help="the folder, to be made")

  plan = command(
    "plan",
    commands.plan,
    "Compile an experiment for machines that are not here: memory, time, what is sent.",
    "It exits with 1 where something does not fit. Topologies: v5e:16x16, v5p:4x4x8, v6e:16x16, "
    "v4:4x4x4, 2xv5e:16x16 (two slices), h100:8x8 (hosts x GPUs).",
  )
  experiment(plan)
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

  reproduce = command(
    "reproduce",
    commands.reproduce,
    "Hold runs against what a paper says: the CLAIMS of a file, judged over seeds.",
    "What is missing is run, several at once; run it again to go on. It exits with 0 whatever the "
    "verdicts are, and with 42 where it was stopped.",
  )
  experiment(reproduce)
  reproduce.add_argument("--workdir", type=_folder, required=True, help="folder of all runs")
  reproduce.add_argument(
    "--workers", type=_count, metavar="N", help="at once (default: one for each GPU, or core)"
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
    "--output", type=_folder, metavar="DIR", help="of several runs (default: what holds them all)"
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
  compare.add_argument("--devices", type=_count, help="of the mesh that places the parameters")
  compare.add_argument(
    "--step",
    action="store_true",
    help="also the first step at which they part: of two runs by their logs and checkpoints, of "
    "two files by training both here",
  )
  compare.add_argument(
    "--most", type=_count, default=8, metavar="N", help="steps to train two files (default: 8)"
  )

  sweep = command(
    "sweep",
    commands.sweep,
    "Run all experiments of a file, several at once; run it again to go on.",
    "Each has a process and a folder of its own, DIR/NAME. Exit codes: 0 all are done, 42 stopped "
    "and can go on, else that of the first run that failed.",
  )
  experiment(sweep)
  sweep.add_argument("--workdir", type=_folder, required=True, help="folder of all runs")
  sweep.add_argument(
    "--workers", type=_count, metavar="N", help="at once (default: one for each GPU, or core)"
  )
  sweep.add_argument("--only", metavar="NAME", help="that experiment, or those below NAME/")
  sweep.add_argument(
    "--dry-run", action="store_true", help="only what it would cost, by three steps of each kind"
  )
  searching = sweep.add_argument_group(
    "a search", "Of FILE:search, a function of a trial; see research/search.py."
  )
  searching.add_argument("--trials", type=_count, metavar="N", help="how many there are to be")
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

  replay = command(
    "replay",
    commands.replay,
    "Take one step of a run once more: its batch, and what each example did to the gradient.",
    "The page stands in the run's folder, as replay-N.html. Nothing else there is changed.",
  )
  replay.add_argument("workdir", type=Path)
  replay.add_argument("--step", type=int, required=True, metavar="N", help="the update, from 1")
  replay.add_argument(
    "--most",
    type=int,
    default=1000,
    help="updates to take again from the checkpoint before it (default: 1000)",
  )

  pin = command(
    "pin",
    commands.pin,
    "Keep a checkpoint for good, whatever a run saves later.",
    "Without a step it lists those that there are.",
  )
  pin.add_argument("workdir", type=Path)
  pin.add_argument("step", type=int, nargs="?")
  pin.add_argument("--release", action="store_true", help="let it go again")

  bench = command("bench", commands.bench, "Time training, decoding and checkpoints.")
  kinds = ("train", "decode", "bert", "classify", "translate", "clip", "save", "sweep")
  bench.add_argument("kind", nargs="?", default="train", choices=kinds)
  bench.add_argument(
    "--rounds", type=_count, default=5, help="interleaved rounds (default: 5); sweep: 4 runs each"
  )
  bench.add_argument("--size", default="mini", help="tiny, mini, small; minilm of a BERT")
  bench.add_argument(
    "--folder", type=Path, help="save, sweep: where to write (default: temporary files)"
  )
  bench.add_argument("--peers", action="store_true", help="also PyTorch and Hugging Face")
  bench.add_argument("--peer-python", type=Path, help="interpreter that has torch, transformers")
  return parser, subparsers


def _words(text: str) -> list[str]:
  return [word for word in text.split(",") if word]


def _folder(text: str) -> Path:
  if not text:
    raise argparse.ArgumentTypeError("expected a folder")
  return Path(text)


def _count(text: str) -> int:
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f"{text} must be at least 1")
  return value
