"""Commands that take a run: what it has learned, and what became of it."""

from __future__ import annotations

from pathlib import Path

from research import commands
from research.grammar import kinds
from research.grammar.kinds import Command


def add(command: Command) -> None:
  sample = command(
    "sample",
    commands.sample,
    "Let the model of a run write text.",
    "An encoder-decoder makes another text of the prompt; of <extra_id_0> what is missing there.",
  )
  kinds.checkpoint(sample)
  sample.add_argument("--prompt", help="text to continue, or to read; - is standard input")
  sample.add_argument("--prompt-file", type=Path, help="file with the text to continue")
  sample.add_argument("--tokens", type=kinds.count, default=256, help="at most so many new tokens")
  sample.add_argument("--greedy", action="store_true", help="always the likeliest token")
  sample.add_argument(
    "--beam", type=kinds.count, metavar="N", help="the likeliest of N, looked ahead"
  )
  sample.add_argument("--temperature", type=float, default=0.8)
  sample.add_argument("--top-k", type=int, help="only the k likeliest tokens")
  sample.add_argument("--top-p", type=float, help="only the likeliest tokens of mass p")
  sample.add_argument("--stop", help="text that ends a sample")
  sample.add_argument("--samples", type=kinds.count, default=1, help="how many, at once")
  sample.add_argument("--seed", type=kinds.seed, default=0)

  predict = command(
    "predict",
    commands.predict,
    "Labels, entities, answers, translations or summaries of new texts, by the model of a run.",
    "An output that was begun is gone on with; a line that cannot be read holds an error.",
  )
  kinds.checkpoint(predict)
  predict.add_argument("texts", nargs="*", metavar="TEXT", help="a text, or a question and a text")
  predict.add_argument("--input", type=Path, help="file of the kind that the run was trained on")
  predict.add_argument("--output", type=Path, help=".jsonl; also .csv, .txt of texts")

  embed = command("embed", commands.embed, "Write the vectors of pictures, or of texts.")
  kinds.checkpoint(embed)
  kinds.images(embed, required=False)
  embed.add_argument("--texts", type=Path, metavar="FILE", help="a text in each line")
  embed.add_argument("--output", type=Path, required=True, help=".npz: names and vectors")

  search = command(
    "search",
    commands.search,
    "Find pictures by words, and show them on a page.",
    "The vectors of a folder are kept in the cache, until it or the checkpoint changes.",
  )
  kinds.checkpoint(search)
  search.add_argument("query", metavar="TEXT", help="what the pictures should show")
  kinds.images(search, required=True)
  search.add_argument("--top", type=kinds.count, default=24, help="how many (default: 24)")
  search.add_argument(
    "--output", type=Path, help="the page (default: search.html in the run's folder)"
  )

  classify = command(
    "classify", commands.classify, "Tell pictures apart by names of classes alone."
  )
  kinds.checkpoint(classify)
  kinds.images(classify, required=True)
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
