"""`research sample`: opens a run and lets its model write, on the screen while it does."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research import fit, generate, memory, record, screen
from research.data import SpanCorruption, load_vocabulary, vocabulary
from research.errors import UserError
from research.experiment import Experiment
from research.generate import gaps
from research.generate.language import NOTHING, wordless
from research.generate.samples import opening
from research.generate.sampling import Sampler
from research.models.ngram import FittedNGram
from research.parameters import parameters


def sample(options: argparse.Namespace) -> int:
  """Does what the options of the command say; see `cli`.

  Raises:
    UserError: options that do not go together, no run, no checkpoint, or a prompt too long.
  """
  prompt, search = read_prompt(options), choose_search(options)
  memory.keep()
  experiment, _ = record.open_run(options.workdir)
  words = open_vocabulary(experiment, options.workdir)
  if hasattr(experiment.model, "decode"):
    screen.show(targets(experiment, options, prompt, search, words), options.stop)
    return 0
  lead = words.begin if imported(options.workdir) else words.end
  full = screen.write(
    continuations(experiment, options, opening(words, prompt, lead), search, words),
    words,
    prompt=prompt,
    samples=options.samples,
    tokens=options.tokens,
    stop=options.stop,
  )
  if full:
    print(
      f"note: stopped at max_length={experiment.model.max_length}, which is all that the model "
      "can read; shorten the prompt, or train with a larger max_length.",
      file=sys.stderr,
    )
  return 0


def read_prompt(options: argparse.Namespace) -> str:
  """The text to continue, exactly as given; "" is the beginning of a document."""
  if options.prompt_file is not None:
    if options.prompt is not None:
      raise UserError("--prompt and --prompt-file are both given; drop one.")
    try:
      return options.prompt_file.read_text(encoding="utf-8")
    except OSError as error:
      raise UserError(f"{options.prompt_file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
      raise UserError(f"{options.prompt_file} is not UTF-8 text: {error}.") from error
  if options.prompt != "-":
    return options.prompt or ""
  try:
    return sys.stdin.read()
  except UnicodeDecodeError as error:
    raise UserError(f"standard input is not UTF-8 text: {error}.") from error


def choose_search(options: argparse.Namespace) -> generate.Beam | Sampler:
  """How the options say that tokens are chosen."""
  drawn = generate.Sample(options.temperature, options.top_k, options.top_p)
  if options.stop == "":
    raise UserError("--stop '' would end every sample at once; give some text, or drop it.")
  if options.beam is not None:
    if options.greedy or options.samples > 1 or (options.top_k, options.top_p) != (None, None):
      raise UserError("--beam takes the likeliest text; drop it, or what else says how to choose.")
    return generate.Beam(options.beam)
  if not options.greedy:
    return drawn
  if (options.top_k, options.top_p) != (None, None):
    raise UserError("--greedy takes the likeliest token; drop it, or --top-k and --top-p.")
  if options.samples > 1:
    raise UserError(f"--greedy writes the same {options.samples} times; drop it, or --samples.")
  return generate.Greedy()


def open_vocabulary(experiment: Experiment, workdir: Path) -> Any:
  """The vocabulary that the run keeps, or else the one of its data."""
  folder = Path(workdir) / "vocabulary"
  if (folder / vocabulary.FILE).is_file():
    return load_vocabulary(folder)
  if not hasattr(experiment.data, "prepare"):
    raise UserError(f"{workdir}: {type(experiment.data).__name__} has no vocabulary to write with.")
  return experiment.data.prepare().vocabulary


def open_source_vocabulary(experiment: Experiment, workdir: Path, words: Any) -> Any:
  """The vocabulary of the sources where it is one of its own, or else `words`."""
  folder = Path(workdir) / "source_vocabulary"
  if (folder / vocabulary.FILE).is_file():
    return load_vocabulary(folder)
  own = getattr(experiment.data, "source_tokenizer", None) is not None
  return experiment.data.prepare().source_vocabulary if own else words


def imported(workdir: Path) -> Path | None:
  """The config.json of a run that was imported and not trained since; None of any other."""
  config = Path(workdir) / "hugging_face" / "config.json"
  return config if config.is_file() else None


def source_lead(workdir: Path, words: Any) -> tuple[int, ...]:
  """The tokens before every source: none, unless the model was imported and learned one (BART)."""
  return (words.begin,) if imported(workdir) and words.begin != words.end else ()


def beginning(workdir: Path, words: Any) -> int:
  """The token before every target: end-of-text, unless the model was imported and says another."""
  if (config := imported(workdir)) is None:
    return words.end
  token = json.loads(config.read_text(encoding="utf-8")).get("decoder_start_token_id")
  return words.end if token is None else int(token)


def continuations(
  experiment: Experiment,
  options: argparse.Namespace,
  prompt: np.ndarray,
  search: generate.Beam | Sampler,
  words: Any,
) -> Iterator[np.ndarray]:
  """What the model of the run writes, as `generate.stream` yields it."""
  key = jax.random.key(options.seed, impl="threefry2x32")
  if experiment.optimizer is None:
    if options.step is not None:
      raise UserError(f"--step {options.step}: a counted model has no steps; drop it.")
    path = Path(options.workdir) / fit.MODEL
    if not path.is_file():
      raise UserError(f"{path} is missing; run the experiment first.")
    if isinstance(search, generate.Beam):
      raise UserError("--beam: a counted model writes one token after another; drop it.")
    prompts = [prompt] * options.samples
    return counted(FittedNGram.load(path), prompts, options.tokens, search, key)
  model = experiment.model
  if not hasattr(model, "max_length") or not _writes(model):
    raise UserError(f"{options.workdir}: a {type(model).__name__} does not write text.")
  given = (model, open_params(experiment, options.workdir, options.step))
  given += ([prompt] * options.samples,)
  settings = {"steps": options.tokens, "end": words.end, "never": wordless(model, words)}
  if isinstance(search, generate.Beam):
    return iter([generate.beam_search(*given, beam=search, **settings)])
  return generate.stream(*given, sampler=search, key=key, **settings)


def targets(
  experiment: Experiment,
  options: argparse.Namespace,
  prompt: str,
  search: generate.Beam | Sampler,
  words: Any,
) -> list[str]:
  """What an encoder-decoder makes of the prompt; where that has gaps, the prompt without them."""
  source_words = open_source_vocabulary(experiment, options.workdir, words)
  lead = source_lead(options.workdir, source_words)
  source, found = gaps.encode(source_words, prompt)
  room = experiment.model.max_length - len(lead)
  if not prompt.strip():
    raise UserError("the model reads a text and writes another; give one with --prompt.")
  if isinstance(experiment.data, SpanCorruption) and not found:
    raise UserError(f"the model restores what is missing: write {gaps.NAMES[0]} in its place.")
  if len(source) > room:
    raise UserError(f"the prompt has {len(source)} tokens, and the model reads {room}; shorten it.")
  written = generate.translate(
    experiment.model,
    open_params(experiment, options.workdir, options.step),
    [np.array([*lead, *source], np.int32)] * options.samples,
    steps=options.tokens,
    begin=(beginning(options.workdir, words),),
    end=words.end,
    search=search,
    never=wordless(experiment.model, words),
    key=jax.random.key(options.seed, impl="threefry2x32"),
  )
  return [
    gaps.filled(words, source, target) if found else words.decode(target) for target in written
  ]


def _writes(model: Any) -> bool:
  """Whether it is a decoder: those take positions, which a cache needs, and BERT does not."""
  encode = getattr(type(model), "encode", None)
  return encode is not None and len(inspect.signature(encode).parameters) >= 4


def open_params(experiment: Experiment, workdir: Path, step: int | None = None) -> Any:
  """The parameters of a checkpoint, the newest by default, on one device; averaged ones first."""
  tokens = jnp.zeros((1, 1), jnp.int32)
  inputs = [tokens] * (2 if hasattr(experiment.model, "decode") else 1)
  return parameters(experiment, workdir, step, lambda key: experiment.model.init(key, *inputs))


def counted(
  model: FittedNGram, prompts: list[np.ndarray], steps: int, sampler: Sampler, key: jax.Array
) -> Iterator[np.ndarray]:
  """As `generate.stream`, from a model that was counted: one token at a time."""
  keys = [jax.random.fold_in(key, row) for row in range(len(prompts))]
  texts, over = [list(prompt) for prompt in prompts], [False] * len(prompts)
  choose = jax.jit(sampler)
  for written in range(steps):
    new = np.full((len(prompts), 1), NOTHING, np.int32)
    for row, text in enumerate(texts):
      if over[row]:
        continue
      with np.errstate(divide="ignore"):
        logits_V = np.log(model.distribution(text)).astype(np.float32)
      new[row] = choose(jax.random.fold_in(keys[row], written)[None], logits_V[None])
      text.append(int(new[row, 0]))
      over[row] = text[-1] == model.end
    yield new
    if all(over):
      return
