"""Our worker: the very program that `research run` trains with, and `research sample` writes with.

python -m research.bench.ours train mini bfloat16
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np

from research import flops, generate, memory, update
from research.bench.serve import serve
from research.bench.sizes import NEW, PROMPT, SIZES, TRAIN, Size
from research.data import pipeline
from research.experiment import Experiment
from research.generate.language import cast
from research.mesh import Sharding
from research.models import GPT
from research.nn import native
from research.objectives import NextToken
from research.optim import AdamW


def experiment(size: Size, length: int, batch_size: int, dtype: str) -> Experiment:
  """A GPT-2 of this size; its data is made up by the worker."""
  return Experiment(
    name="bench",
    data=None,
    model=GPT(
      vocab_size=size.vocab_size,
      max_length=length,
      width=size.width,
      depth=size.depth,
      heads=size.heads,
      dtype=dtype,
    ),
    objective=NextToken(),
    optimizer=AdamW(3e-4, weight_decay=0.1),
    steps=1_000,
    batch_size=batch_size,
    sharding=Sharding(mesh={"data": -1, "fsdp": 1, "tensor": 1}),
  )


def rows(size: Size, length: int, batch_size: int) -> pipeline.Batch:
  """A batch of one document a row."""
  tokens_BL = np.random.RandomState(0).randint(0, size.vocab_size, (batch_size, length + 1))
  tokens_BL = tokens_BL.astype(np.int32)
  return {
    "tokens": tokens_BL[:, :-1],
    "targets": tokens_BL[:, 1:],
    "segments": np.ones((batch_size, length), np.int32),
    "positions": np.tile(np.arange(length, dtype=np.int32), (batch_size, 1)),
  }


def trained(size: Size, dtype: str) -> tuple[Experiment, update.Program, pipeline.Batch]:
  """What is trained, its program, and a batch for it."""
  length, batch_size = TRAIN[size.name]
  made = experiment(size, length, batch_size, dtype)
  batch = rows(size, length, batch_size)
  shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}
  program = update.build(made, made.sharding.make_mesh(), shapes)
  return made, program, batch


def training(size: Size, dtype: str) -> None:
  """Whole updates, on the same batch of one document a row."""
  made, program, batch = trained(size, dtype)
  state = program.init()

  def run():
    nonlocal state
    state, measured = program.step(state, program.place(batch))
    jax.block_until_ready((state, measured))

  serve(run, count=batch["tokens"].size, flops=flops.of_training(made, batch), **facts())


def decoding(size: Size, dtype: str, texts: int) -> None:
  """Greedy decoding of `texts` texts side by side, the reading of their prompts included."""
  model = experiment(size, 1024, 1, dtype).model
  tokens = jnp.zeros((1, 1), jnp.int32)
  params = jax.jit(lambda: model.init(jax.random.key(0), tokens))()["params"]
  params = cast(
    jax.tree.map(lambda x: x.value, params, is_leaf=lambda x: hasattr(x, "value")), dtype
  )
  prompts = list(np.random.RandomState(0).randint(0, size.vocab_size, (texts, PROMPT)))

  def run():
    written = generate.generate(
      model,
      params,
      [prompt.astype(np.int32) for prompt in prompts],
      steps=NEW,
      sampler=generate.Greedy(),
      key=jax.random.key(0),
      end=None,
    )
    if written.shape != (texts, NEW):
      raise AssertionError(f"wrote {written.shape}")

  read = sum(x.nbytes for x in jax.tree.leaves(params)) * NEW
  serve(run, count=texts * NEW, bytes=read, **facts())


def facts() -> dict[str, object]:
  """What the table says beside the speed."""
  backend = jax.default_backend()
  return {"backend": backend, "native": backend == "cpu" and native.available()}


def main() -> None:
  kind, size, dtype, *texts = sys.argv[1:]
  memory.keep()
  if kind == "train":
    training(SIZES[size], dtype)
  else:
    decoding(SIZES[size], dtype, int(texts[0]))


if __name__ == "__main__":
  main()
