"""Size against loss: a law of parameters and tokens, and a larger run that it has to foretell.

  research reproduce experiments/ablations/gpt_scale.py vocabulary=gpt2/ --workdir runs/scale
  research reproduce experiments/ablations/gpt_scale.py:small --workdir runs/scale
  research run experiments/ablations/gpt_scale.py:smoke

GPTs of eight sizes, each with two of four amounts of text that double from one to the next; every
run has its own cosine, as Hoffmann et al. (2022, appendix B) ask. Chinchilla's law is fitted to
these sixteen arms, `n1_d1` the smallest, and held against `held_back`, which is larger than any and
sees twice as much. `experiment` has 4 to 24 layers, half a billion tokens of C4 to eight billion,
and rates that fall with the width as those of GPT-3. `small` has up to 360,000 parameters, and
640,000 held back, on the bytes of the documentation of Python, less than once through.

Expect of `small`: 0.003 + 2.69 / N^0.143 + 27.9 / D^0.215, which foretells 1.81 for the larger run,
and 1.64 (+10 %, -5 to +25) was measured: open. Larger models have a lower loss, 2.36, 2.43, 2.09,
1.96 on as much text, but for the first step, the smallest being trained at a rate as high: open as
well. The papers' exponents: 0.34 of parameters and 0.28 of tokens (Hoffmann et al., 2022, equation
10), at sizes a thousand times those of `small`.
`small`: 51 runs, 9 minutes on two cores.
"""

import dataclasses

import gpt2

from research import Eval, data, objectives, optim
from research.arms import arms
from research.claims import ScalingLaw, Trend

SIZES = (  # layers, width; the last one is held back
  *((4, 256), (6, 384), (8, 512), (10, 640), (12, 768), (16, 1024), (20, 1280), (24, 1536)),
  (28, 1792),
)
SMALL = (
  *((1, 16), (1, 24), (1, 32), (2, 32), (2, 48), (2, 64), (3, 80), (3, 96)),
  (4, 112),
)
# Which amounts each size sees: every amount is seen by four sizes, small ones and large ones.
SEEN = ((1, 4), (2, 3), (1, 3), (2, 4), (1, 4), (2, 3), (1, 3), (2, 4))
FITTED = tuple(f"n{n}_d{d}" for n, seen in enumerate(SEEN, 1) for d in seen)
HELD_BACK = "held_back"


def experiment(vocabulary="gpt2", corpus="c4", least=500_000_000, seeds=3):
  base = dataclasses.replace(gpt2.experiment(vocabulary, corpus), batch_size=256)
  yield from _grid(base, SIZES, least, seeds, key_size=64, rate=0.46)


def small(least=65_536, seeds=3):
  """Up to 640,000 parameters, on text that every machine has: minutes."""
  yield from _grid(_docs(), SMALL, least, seeds, key_size=16, rate=0.3)


def smoke():
  """The smallest with the least, in seconds."""
  base = _docs().vary("smoke", {"evals.heldout.batches": 2, "data.limit": 100_000})
  return next(_grid(base, SMALL, 2_048, seeds=1, key_size=16, rate=0.3))


def _docs():
  base, next_token = gpt2.experiment(length=64), objectives.NextToken()
  return dataclasses.replace(
    base,
    data=data.Text(data.TFDS("python_docs"), data.Bytes(), 64),
    model=base.model.clone(vocab_size=257, dtype="float32"),
    batch_size=8,
    evals={"heldout": Eval(next_token, batches=8, batch_size=256)},
  )


def _grid(base, sizes, least, seeds, *, key_size, rate):
  """The sixteen arms and the one held back; `least` is d1, and rates are `rate` / width."""
  base = dataclasses.replace(base, name="gpt_scale")
  tokens = {d: least << d - 1 for d in range(1, 6)}
  variants = {
    f"n{n}_d{d}": _arm(base, sizes[n - 1], tokens[d], key_size, rate)
    for n, seen in enumerate(SEEN, 1)
    for d in seen
  }
  variants[HELD_BACK] = _arm(base, sizes[-1], tokens[5], key_size, rate)
  yield from arms(base, variants, seeds)


def _arm(base, size, tokens, key_size, rate):
  depth, width = size
  model = base.model.clone(depth=depth, width=width, heads=width // key_size)
  steps = tokens // (base.batch_size * base.data.length)
  peak = min(1e-2, rate / width)
  return {
    **({} if model == base.model else {"model": model}),
    "optimizer.learning_rate": optim.Cosine(peak, warmup=steps // 20 + 1, final=peak / 10),
    "steps": steps,
    "save_every": steps,
    "evals.heldout.every": steps,
  }


CLAIMS = (
  ScalingLaw(
    "law",
    paper="Hoffmann et al., 2022",
    where="section 3.3, equations 2 and 10",
    sentence="The loss is a sum of powers of parameters and tokens, which foretells larger runs.",
    fitted=FITTED,
    held_back=HELD_BACK,
    metric="heldout.loss",
    within=0.05,
    numbers=(0.34, 0.28),
  ),
  Trend(
    "size",
    paper="Radford et al., 2019; Kaplan et al., 2020",
    where="figure 4; figure 1",
    sentence="Larger models have a lower loss on the same text.",
    ordered=tuple(arm for arm in FITTED if arm.endswith("_d4")),
    metric="heldout.loss",
  ),
)
