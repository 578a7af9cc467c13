"""How much text a Transformer needs to be better than counting: where two curves cross.

  research reproduce experiments/ablations/ngram_crossing.py vocabulary=gpt2/ --workdir runs/cross
  research reproduce experiments/ablations/ngram_crossing.py:small --workdir runs/cross
  research run experiments/ablations/ngram_crossing.py:smoke

A 5-gram model with modified Kneser-Ney smoothing and a Transformer read the same part of a corpus
and are asked for the same held-out text; bits of a byte do not depend on the pieces. That counting
wins on little data and is overtaken is known of translation: Koehn and Knowles (2017, figure 3)
see neural systems cross phrase-based ones at about 15 million words.

Text grows from place to place by four. `experiment` takes 1 to 64 MB of C4 and a GPT-2 small with
dropout, in batches of 32,768 tokens, sixteen times through each text and at least 500 updates.
`small` takes 36 kB to all 2.3 MB of the documentation that every Python carries, vocabularies of
512 to 4,096 pieces, which both models share, and the decoder of python_docs.py: 30 to 330 updates,
9 times through the least text and twice through the most. On the two least texts more would make
it worse, as it learns them by heart (3.38 after 60, 3.24 after 30): they have the number, of a few,
that was best on held-out text with seed 0. Seeds change nothing of what is counted.

Expect of `small`, bits per byte of the 5-grams and of the Transformer: 2.87 and 3.24, 2.23 and
2.44, 1.80 and 1.93, 1.526 and 1.528 on 1, 4, 16 and 64 times the least text: counting is ahead on
little text, and at the end of this much they meet (0.002, -0.008 to 0.012), which leaves it open;
with 420 updates instead of 330 on all of the text the Transformer is ahead (python_docs.py).
`small`: 24 runs, 13 min 41 s on two cores.
"""

import dataclasses

import gpt2
import python_docs

from research import Eval, models, objectives
from research.arms import arms
from research.claims import Crossing

PLACES = {"tiny": 1, "less": 4, "more": 16, "most": 64}
SMALL = {  # bytes, pieces of the vocabulary, updates
  "tiny": (36_000, 512, 30),
  "less": (144_000, 1_024, 70),
  "more": (576_000, 2_048, 120),
  "most": (None, 4_096, 330),
}


def experiment(
  vocabulary="gpt2", corpus="c4", order=5, least=1_000_000, passes=16, batch_size=32, seeds=3
):
  base = gpt2.experiment(vocabulary, corpus).vary("dropout", {"model.dropout": 0.1})
  base = dataclasses.replace(base, name="ngram_crossing", batch_size=batch_size)
  variants = {}
  for place, times in reversed(PLACES.items()):
    tokens = least * times / 4  # about four bytes each
    steps = max(500, round(passes * tokens / (batch_size * base.data.length)))
    training = {"steps": steps, "optimizer.learning_rate.warmup": steps // 10}
    variants |= _both(place, {"data.limit": least * times}, order, training)
  yield from arms(base, variants, seeds)


def small(order=5, seeds=3):
  """Parts of the Python documentation, from 36 kB to all 2.3 MB: minutes, no download."""
  base, variants = _docs(vocab_size=SMALL["most"][1]), {}
  # The longest first, here and above: no core waits for the other at the end.
  for place, (size, pieces, steps) in reversed(SMALL.items()):
    text = {"data.limit": size, "data.tokenizer.vocab_size": pieces} if size else {}
    table = {"model.vocab_size": pieces} if size else {}
    training = {"steps": steps, "optimizer.learning_rate.warmup": steps // 25 + 1}
    variants |= _both(place, text, order, {**table, **training})
  yield from arms(base, variants, seeds)


def smoke():
  """The decoder on little text, in seconds."""
  tiny = {"model.width": 64, "model.heads": 1, "model.depth": 1, "data.length": 32}
  base = _docs(vocab_size=512).vary("smoke", {**tiny, "optimizer.learning_rate.warmup": 1})
  few = {"steps": 2, "batch_size": 8, "evals.heldout.batches": 2}
  return next(arms(base, {"transformer_tiny": {"data.limit": 50_000, **few}}, seeds=1))


def _docs(vocab_size):
  base = python_docs.experiment(vocab_size=vocab_size)
  return dataclasses.replace(
    base,
    name="ngram_crossing",
    samples=None,
    baselines={},
    evals={"heldout": Eval(objectives.NextToken(), every=base.steps)},
    save_every=base.steps,
  )


def _both(place, text, order, training):
  """The arms at one place: counted once, and trained for as long as so much text is worth."""
  counted = {"model": models.NGram(order), "objective": None, "optimizer": None}
  return {f"ngram_{place}": {**text, **counted}, f"transformer_{place}": {**text, **training}}


CLAIMS = (
  Crossing(
    "crossing",
    paper="Koehn and Knowles, 2017",
    where="section 3.2, figure 3, of translation",
    sentence="On little data counting is better than a neural model; on more, it is worse.",
    first=tuple(f"ngram_{place}" for place in PLACES),
    then=tuple(f"transformer_{place}" for place in PLACES),
    at=tuple(PLACES.values()),
    scale="times the least text",
    metric="heldout.bits_per_byte",
  ),
)
