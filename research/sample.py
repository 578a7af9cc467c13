"""`research sample`: opens a run and lets its model write, on the screen while it does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research import checkpoint, fit, generate, memory, record
from research.data import load_vocabulary, vocabulary
from research.errors import UserError
from research.experiment import Experiment
from research.generate.language import NOTHING
from research.generate.samples import opening
from research.generate.sampling import Sampler
from research.mesh import Sharding
from research.models.ngram import FittedNGram
from research.sharding import Layout

# What a terminal would take for commands: a young model of bytes writes these, too.
CONTROLS = {i: "\ufffd" for i in (*range(32), *range(127, 160)) if chr(i) not in "\n\t"}


def sample(options: argparse.Namespace) -> int:
  """Does what the options of the command say; see `cli`.

  Raises:
    UserError: options that do not go together, no run, no checkpoint, or a prompt too long.
  """
  prompt, sampler = read_prompt(options), choose_sampler(options)
  memory.keep()
  experiment, _ = record.open_run(options.workdir)
  words = open_vocabulary(experiment, options.workdir)
  full = write(
    continuations(experiment, options, opening(words, prompt), sampler, words.end),
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
  return sys.stdin.read() if options.prompt == "-" else options.prompt or ""


def choose_sampler(options: argparse.Namespace) -> Sampler:
  """How the options say that tokens are chosen."""
  drawn = generate.Sample(options.temperature, options.top_k, options.top_p)
  if options.stop == "":
    raise UserError("--stop '' would end every sample at once; give some text, or drop it.")
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


def continuations(
  experiment: Experiment,
  options: argparse.Namespace,
  prompt: np.ndarray,
  sampler: Sampler,
  end: int,
) -> Iterator[np.ndarray]:
  """What the model of the run writes, as `generate.stream` yields it."""
  key = jax.random.key(options.seed, impl="threefry2x32")
  if experiment.optimizer is None:
    if options.step is not None:
      raise UserError(f"--step {options.step}: a counted model has no steps; drop it.")
    path = Path(options.workdir) / fit.MODEL
    if not path.is_file():
      raise UserError(f"{path} is missing; run the experiment first.")
    prompts = [prompt] * options.samples
    return counted(FittedNGram.load(path), prompts, options.tokens, sampler, key)
  model = experiment.model
  if not hasattr(model, "encode") or not hasattr(model, "max_length"):
    raise UserError(f"{options.workdir}: a {type(model).__name__} does not write text.")
  return generate.stream(
    model,
    open_params(experiment, options.workdir, options.step),
    [prompt] * options.samples,
    steps=options.tokens,
    sampler=sampler,
    key=key,
    end=end,
  )


def open_params(experiment: Experiment, workdir: Path, step: int | None = None) -> Any:
  """The parameters of a checkpoint, the newest by default, on one device; averaged ones first."""
  tokens, key = jax.ShapeDtypeStruct((1, 1), jnp.int32), jax.random.key(0)
  boxed = jax.eval_shape(experiment.model.init, key, tokens)["params"]
  adapters = experiment.adapters
  if adapters is not None:
    boxed = jax.eval_shape(adapters.add, key, boxed)
  layout = Layout(Sharding().make_mesh(jax.devices()[:1]), ())
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout.replicated),
    nn.meta.unbox(boxed),
  )
  under = "params" if experiment.average is None else "average"
  with checkpoint.of_run(workdir) as checkpoints:
    params = checkpoints.restore(like, step, under=under)
  return params if adapters is None else jax.jit(adapters.merged)(params)


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


def write(
  pieces: Iterator[np.ndarray],
  words: Any,
  *,
  prompt: str,
  samples: int,
  tokens: int,
  stop: str | None,
) -> bool:
  """Prints the samples, each after its prompt: the first while it grows, then the others.

  Returns:
    Whether one came to an end because the model can read no further.
  """
  written: list[list[int]] = [[] for _ in range(samples)]
  current, shown = 0, -1  # the sample on the screen, and how much of its text; -1 is not begun

  def finished(row: int) -> bool:
    """Whether it ended by itself; one that ended otherwise does so together with all."""
    return words.end in written[row][-1:] or _settled(words.decode(written[row]), stop)[1]

  def show(done: Callable[[int], bool]) -> None:
    nonlocal current, shown
    while current < samples:
      if shown < 0:
        _print((f"--- sample {current + 1}\n" if samples > 1 else "") + prompt)
        shown = 0
      whole = done(current)
      text, _ = _settled(words.decode(written[current]), stop, whole)
      _print(text[shown:])
      shown = len(text)
      if not whole:
        return
      _print("\n")
      current, shown = current + 1, -1

  for new in pieces:
    for row, ids in zip(written, new):
      row.extend(int(i) for i in ids if i != NOTHING)
    show(finished)
    if all(finished(row) for row in range(samples)):
      break
  show(lambda row: True)
  return any(len(ids) < tokens and not finished(row) for row, ids in enumerate(written))


def _settled(text: str, stop: str | None, whole: bool = False) -> tuple[str, bool]:
  """The part of a growing text that will not change any more, and whether `stop` has ended it.

  Held back are a last character whose bytes may not all have come yet, and what may be the
  beginning of `stop`.
  """
  if stop and stop in text:
    return text[: text.index(stop)], True
  if whole:
    return text, False
  text = text.removesuffix("\ufffd")
  for length in range(min(len(stop or ""), len(text)), 0, -1):
    if stop and text.endswith(stop[:length]):
      return text[:-length], False
  return text, False


def _print(text: str) -> None:
  if sys.stdout.isatty():
    text = text.translate(CONTROLS)
  encoding = sys.stdout.encoding or "utf-8"
  print(text.encode(encoding, "replace").decode(encoding), end="", flush=True)
