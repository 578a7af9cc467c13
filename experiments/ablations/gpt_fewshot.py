"""What examples in the text are worth to models of several sizes (Brown et al., 2020).

  research reproduce experiments/ablations/gpt_fewshot.py problems=symbol_insertion.jsonl \\
      vocabulary=gpt2/ --workdir runs/fewshot
  research reproduce experiments/ablations/gpt_fewshot.py:small --workdir runs/fewshot
  research run experiments/ablations/gpt_fewshot.py:smoke

Four sizes of GPT-3 are asked, without being trained for it, after 0, 1, 4 and 16 solved problems;
an answer is right to its last token or not at all. `problems` is a table with the columns `context`
and `completion`, such as those that the authors have generated (openai/gpt-3, data/: symbols taken
out of words, letters in a circle, sums). In the paper's figures 1.2 and 3.11 large models use
examples far better than small ones, down to which they are of no use.

`small` reads nothing but maps of symbols, each of a text of its own, and is asked for symbols of
maps that it has not read: what there is to learn is to look. It takes a token two layers at least
to see what followed it before (Olsson et al., 2022).

Expect of `small`, answers right after sixteen solved problems: 0.20, 0.18, 0.23, 0.25 from the
smallest to the largest (+0.020 an arm, -0.013 to 0.054: open); over none the sixteen are worth 0.08
to the smallest and 0.14 to the largest (+0.061, 0.001 to 0.121: reproduced). None of them has
learned within 1,200 updates to look every answer up.
`small`: 12 runs, 11 minutes on two cores, beside other work.
"""

import dataclasses

import gpt3

from research import Eval, Experiment, data, models, objectives, optim
from research.arms import arms
from research.claims import Claim, Trend
from research.in_context import InContext

SHOTS = (0, 1, 4, 16)
SIZES = {"smallest": "small", "smaller": "xl", "larger": "13B", "largest": "175B"}
SMALL = {  # layers, width, heads
  "smallest": (1, 32, 2),
  "smaller": (2, 32, 2),
  "larger": (2, 64, 2),
  "largest": (2, 128, 2),
}


def experiment(problems, vocabulary="gpt2", tokens=300e9, seeds=3):
  asked = InContext(data.ProblemFile(problems), SHOTS, limit=2_000)
  made = {arm: gpt3.experiment(vocabulary, size, tokens=tokens) for arm, size in SIZES.items()}
  first = made["smallest"]
  base = dataclasses.replace(first, name="gpt_fewshot", evals={"in_context": asked, **first.evals})
  yield from arms(base, {arm: _differs(base, other) for arm, other in made.items()}, seeds)


def small(steps=1_200, seeds=3):
  """Four sizes on maps of symbols: minutes, no download."""
  base = _maps(steps, maps=20_000)
  yield from arms(base, {arm: _sized(base, *size) for arm, size in SMALL.items()}, seeds)


def smoke():
  """The smallest, in seconds."""
  few = {"evals.in_context.problems.asked": 8, "evals.heldout.batches": 1, "batch_size": 8}
  return next(arms(_maps(steps=4, maps=200).vary("smoke", few), {"smallest": {}}, seeds=1))


def _maps(steps, maps):
  """A small decoder on maps; the problems are of other ones."""
  next_token, symbols = objectives.NextToken(), data.SymbolMaps(maps, pairs=32)
  depth, width, heads = SMALL["smallest"]
  return Experiment(
    name="gpt_fewshot",
    data=data.Text(symbols, data.Bytes(), length=97),
    model=models.GPT(264, 97, width, depth, heads),
    objective=next_token,
    optimizer=optim.AdamW(
      optim.Cosine(3e-3, warmup=max(1, steps // 20)), b2=0.95, weight_decay=0.1, clip=1.0
    ),
    steps=steps,
    batch_size=32,
    evals={
      "in_context": InContext(symbols, SHOTS, every=max(1, steps // 2)),
      "heldout": Eval(next_token, batches=16, every=max(1, steps // 2)),
    },
    save_every=steps,
  )


def _sized(base, depth, width, heads):
  model = base.model.clone(depth=depth, width=width, heads=heads)
  return {} if model == base.model else {"model": model}


def _differs(base, other):
  """The overrides that make `base` a run of another size."""
  fields = ("model", "optimizer", "steps", "batch_size")
  return {
    field: getattr(other, field)
    for field in fields
    if getattr(other, field) != getattr(base, field)
  }


CLAIMS = (
  Trend(
    "few_shot",
    paper="Brown et al., 2020",
    where="figures 3.11 and 1.2",
    sentence="Larger models answer more problems after sixteen that were solved.",
    ordered=tuple(SIZES),
    metric="in_context.exact_16",
    lower=False,
  ),
  Claim(
    "gain",
    paper="Brown et al., 2020",
    where="figures 1.2 and 1.3",
    sentence="Solved problems in the text are worth more to larger models.",
    better="largest",
    worse="smallest",
    metric="in_context.gain",
    lower=False,
  ),
)
