"""SigLIP on pictures and captions of one's own (Zhai et al., 2023), in the published sizes.

  research run experiments/siglip.py table=mine.tsv folder=pictures/ vocabulary=siglip/
  research run experiments/siglip.py size=L/16 image_size=256 objective.exchange=ring ...
  research run experiments/siglip.py:smoke
  research run experiments/siglip.py:shapes

`table` and `folder` are those of clip.py; `vocabulary` is a tokenizer of 32,000 pieces with an
end-of-text, such as the tokenizer.json of google/siglip-base-patch16-224. `shapes` needs no files.

Checked against the configurations of the published weights: widths, layers, heads, MLPs, patches,
pooling by attention, one learned projection (of the texts), tanh's GELU, epsilon 1e-6, captions of
64 tokens, filled up with their end-of-text, which is number 1, that are read at their last place.
From the paper: the decisions about all pairs, summed and divided by the batch size (algorithm 1), a
scale of 10 and a bias of -10 at the start, batches of 32,768, which its abstract finds to be
enough, decay 0.95 of the second moment, which is steadier in large batches. The learning rate 1e-3
is that of its authors' example of a configuration, as is a decay that is not multiplied by the
rate: 1e-4, so 0.1 here; the 10,000 updates of warmup are ours to choose, the 9 billion pairs are
those of its figure 2. Other than theirs, whose Adafactor keeps a first moment and factors the
second, the optimizer keeps both; and it crops a square where they squeeze the picture into one.

Expect: nothing was trained here at these sizes; `research import hf` takes the published weights.
`shapes`: 1,000 updates of 128 pairs take minutes on two cores, to a held-out loss of 3.01 (5.85 by
chance) and a right caption among the first ten for 56 % of 512 pictures; clip.py:shapes, with the
same towers and as many pairs, is at 100 %.
"""

import clip

from research import Eval, Experiment, Retrieval, Sharding, data, models, objectives, optim

SIZES = {  # patch; width, depth, heads and MLP of both towers
  "B/16": (16, (768, 12, 12, 3_072)),
  "L/16": (16, (1_024, 24, 16, 4_096)),
  "So400m/14": (14, (1_152, 27, 16, 4_304)),
}


def experiment(
  table="pairs.tsv",
  folder="pictures",
  vocabulary="siglip",
  size="B/16",
  image_size=224,
  seen=9_000_000_000,
  batch=32_768,
  peak=1e-3,
):
  patch, (width, depth, heads, hidden) = SIZES[size]
  pair = objectives.SigmoidLoss()
  return Experiment(
    name=f"siglip_{size.replace('/', '')}",
    data=data.ImageText(
      data.Captioned(table, folder),
      data.HuggingFace(vocabulary),
      image_size=image_size,
      length=64,
      split=data.ByHash(0.01),
      pad=1,
    ),
    model=models.CLIP(
      vocab_size=32_000,
      max_length=64,
      image_size=image_size,
      patch=patch,
      embedding=width,
      image_width=width,
      image_depth=depth,
      image_heads=heads,
      image_hidden=hidden,
      text_width=width,
      text_depth=depth,
      text_heads=heads,
      text_hidden=hidden,
      pool="attention",
      first_norm=False,
      causal=False,
      text_pool="last",
      projections="text",
      mean=(0.5, 0.5, 0.5),
      deviation=(0.5, 0.5, 0.5),
      largest_scale=None,
      temperature=0.1,
      bias=-10.0,
      activation="gelu",
      epsilon=1e-6,
      dtype="bfloat16",
    ),
    objective=pair,
    optimizer=optim.AdamW(
      optim.Cosine(peak, warmup=10_000), b1=0.9, b2=0.95, weight_decay=0.1, clip=1.0
    ),
    steps=max(1, seen // batch),
    batch_size=batch,
    sharding=Sharding(mesh={"data": 1, "fsdp": -1}),
    evals={
      "heldout": Eval(pair, batches=10, batch_size=1_024),
      "health": Eval(objectives.PairHealth(pair), batches=1, batch_size=1_024),
      "retrieval": Retrieval(pairs=5_000),
    },
  )


def shapes(steps=1_000, batch=128, bias=-2.71):
  """Drawn shapes and colours: two small towers, minutes on two cores.

  The bias is for small batches, in which more than one pair in e^10 is right.
  """
  of_width = {"model.image_hidden": None, "model.text_hidden": None}
  changes = {**clip.SMALL, **of_width, "model.bias": bias, "steps": steps, "batch_size": batch}
  return experiment().vary("shapes", changes)


def smoke():
  """The same, small enough for a laptop: seconds."""
  return shapes(steps=60, batch=32).vary("smoke", clip.TINY)
