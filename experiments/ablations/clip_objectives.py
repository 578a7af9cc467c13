"""What is asked of pictures and captions: to match, or to predict the words (Radford et al., 2021).

  research reproduce experiments/ablations/clip_objectives.py table=mine.tsv folder=pictures/ \\
      vocabulary=clip/ --workdir runs/objectives
  research reproduce experiments/ablations/clip_objectives.py:small --workdir runs/objectives
  research run experiments/ablations/clip_objectives.py:smoke

Figure 2 of CLIP, section 2.3: with as many pairs, contrasting them transfers better than predicting
the words of a caption in no order (Joulin et al., 2016). Two arms with the same image tower: the
pair, which is clip.py, and a vector for each word, all of which a picture predicts. `table`,
`folder` and `vocabulary` are those of clip.py. The third line of the figure, a language model that
writes captions, is not here. The paper measures zero-shot accuracy on ImageNet; here a picture
looks for its own captions among those of all that are held out, of which ten are shown: drawn
shapes have up to eight captions of the same words, which no order tells apart.

Expect of `small`, the right caption among the first ten: pairs 0.95, words 0.76 (+0.196, 0.126 to
0.266: reproduced). In the paper contrasting takes a quarter of the pairs to be as good.
`small`: 6 runs, 4 minutes on two cores.
"""

import dataclasses

import clip

from research import data, models, objectives
from research.arms import arms
from research.claims import Claim

WORDS = data.SentencePiece(300)  # of drawn shapes


def experiment(
  table="pairs.tsv", folder="pictures", vocabulary="clip", size="B/32", pairs=400_000_000, seeds=3
):
  base = clip.experiment(table, folder, vocabulary, size, pairs=pairs, epochs=1)
  yield from arms(dataclasses.replace(base, name="clip_objectives"), _variants(base), seeds)


def small(steps=600, seeds=3):
  """Drawn shapes and colours, which need no files: minutes."""
  base = said(drawn("clip_objectives", steps))
  yield from arms(base, _variants(base), seeds)


def smoke():
  """Words are predicted, in seconds."""
  base = said(tiny("clip_objectives"))
  return next(arms(base, {"words": _variants(base)["words"]}, seeds=1))


def drawn(name, steps, batch=128, **more):
  """clip.py:shapes for an ablation: looked at in the middle and at the end."""
  base = clip.shapes(steps=steps, batch=batch)
  often = {f"evals.{eval}.every": max(1, steps // 2) for eval in base.evals}
  return dataclasses.replace(base.vary("drawn", {**often, "save_every": steps, **more}), name=name)


def tiny(name):
  """The same in seconds, with what claims are about and no more."""
  narrow = {"model.image_width": 16, "model.text_width": 16}
  one = {"model.image_depth": 1, "model.text_depth": 1, "model.image_heads": 1}
  few = {"data.heldout": 32, "optimizer.learning_rate.warmup": 1}
  base = drawn(name, steps=2, batch=16, **narrow, **one, **few)
  retrieval = dataclasses.replace(base.evals["retrieval"], every=2)
  return dataclasses.replace(base, evals={"retrieval": retrieval})


def said(base):
  """With words for tokens, instead of letters."""
  words = {"data.tokenizer": WORDS, "data.length": 16}
  room = {"model.vocab_size": WORDS.vocab_size, "model.max_length": 16}
  return dataclasses.replace(base.vary("said", {**words, **room}), name=base.name)


def _variants(base):
  pair = base.model
  words = models.ImageWords(
    vocab_size=pair.vocab_size,
    image_size=pair.image_size,
    patch=pair.patch,
    embedding=pair.embedding,
    width=pair.image_width,
    depth=pair.image_depth,
    heads=pair.image_heads,
    dtype=pair.dtype,
  )
  bag = objectives.WordBag()
  words = {"model": words, "objective": bag, "evals": asked(base, bag)}
  return {"pairs": {}, "words": changed(base, words)}


def asked(base, objective):
  """The evaluations of another objective; health is of the one that it is told of."""
  evals = {name: eval for name, eval in base.evals.items() if name != "health"}
  if "heldout" in evals:
    evals["heldout"] = dataclasses.replace(evals["heldout"], objective=objective)
  return evals


def sigmoid(base):
  """What makes pairs those of siglip.py: the loss, and where it starts."""
  pair = objectives.SigmoidLoss()
  start = {"model.temperature": 0.1, "model.bias": -10.0, "model.largest_scale": None}
  return changed(base, {"objective": pair, "evals": asked(base, pair), **start})


def changed(base, overrides):
  """Those that are not so already, which `arms` would refuse."""
  return {path: x for path, x in overrides.items() if _at(base, path) != x}


def _at(value, path):
  for name in path.split("."):
    value = value[name] if isinstance(value, dict) else getattr(value, name)
  return value


CLAIMS = (
  Claim(
    "pairs_or_words",
    paper="Radford et al., 2021",
    where="figure 2",
    sentence="With as many pairs, contrasting them transfers better than predicting their words.",
    better="pairs",
    worse="words",
    metric="retrieval.image_to_text_at_10",
    lower=False,
  ),
)
