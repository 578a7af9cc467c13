"""LiT: texts that learn to read what a locked image tower sees (Zhai et al., 2022).

  research import hf vit-base-patch16-224-in21k/ --workdir runs/vit     # a ViT that others trained
  research run experiments/lit.py table=mine.tsv folder=pictures/ vocabulary=bert/
  research run experiments/lit.py size=L/16 images=... cached=False ...
  research run experiments/lit.py:smoke

`images` is a run with a ViT in the size that `size` names; `table` and `folder` are those of
clip.py, `vocabulary` a tokenizer with an end-of-text. The image tower starts from that run and is
frozen, without a projection of its own; the text tower starts from chance ("Lu" in the paper's
section 3). Since the tower never changes, each picture goes through it once: what it gives is kept
(`Features`), and a step is one of the text tower. `cached=False` sees other crops in every epoch.

Followed: the paper's section 3 and its authors' example of a configuration (big_vision's
siglip_lit_coco.py): captions of 16 tokens, InfoNCE over the global batch with a learned temperature
that starts at a scale of 10, learning rate 1e-3 with a linear warmup and a cosine to zero,
gradients clipped at 1, decay 1e-4 that their code does not multiply by the rate (so 0.1 here). Ours
to choose, and not compared with the paper: batches of 16,384, 900 million pairs seen, 10,000
updates of warmup. Other than there, the optimizer is AdamW instead of Adafactor with a first
moment, and the text tower CLIP's causal one, read at its end, instead of BERT's.

Expect: its authors' own models on public pairs (CC12M, YFCC100M) have a zero-shot accuracy on
ImageNet of 73.9 % (B/16, with a text tower that started from BERT) and 75.7 % (L/16); nothing was
trained here at these sizes. `smoke` shows that it runs: its tower is by chance.
"""

import dataclasses

import clip

from research import (
  Eval,
  Experiment,
  Features,
  InitFrom,
  Retrieval,
  Sharding,
  data,
  models,
  objectives,
  optim,
)

SIZES = {  # patch; image: width, depth, heads; text: width, depth, heads
  "B/32": (32, (768, 12, 12), (768, 12, 12)),
  "B/16": (16, (768, 12, 12), (768, 12, 12)),
  "L/16": (16, (1_024, 24, 16), (1_024, 24, 16)),
}


def experiment(
  images="runs/vit",
  table="pairs.tsv",
  folder="pictures",
  vocabulary="bert",
  vocab_size=30_522,
  size="B/16",
  image_size=224,
  seen=900_000_000,
  batch=16_384,
  cached=True,
):
  patch, (image_width, image_depth, image_heads), text = SIZES[size]
  text_width, text_depth, text_heads = text
  pair = objectives.InfoNCE()
  pictures = data.ImageText(
    data.Captioned(table, folder),
    data.HuggingFace(vocabulary),
    image_size=image_size,
    length=16,
    split=data.ByHash(0.01),
  )
  return Experiment(
    name=f"lit_{size.replace('/', '')}",
    data=Features(pictures, images) if cached else pictures,
    model=models.CLIP(
      vocab_size=vocab_size,
      max_length=16,
      image_size=image_size,
      patch=patch,
      embedding=image_width,
      image_width=image_width,
      image_depth=image_depth,
      image_heads=image_heads,
      text_width=text_width,
      text_depth=text_depth,
      text_heads=text_heads,
      first_norm=False,
      projections="text",
      mean=(0.5, 0.5, 0.5),
      deviation=(0.5, 0.5, 0.5),
      temperature=0.1,
      activation="gelu_exact",
      epsilon=1e-12,
      dtype="bfloat16",
    ),
    objective=pair,
    init_from=InitFrom(
      images,
      parts=(("image/", ""),),
      new=("^text/", "^project_text/", "^log_scale$"),
      unused=("^classify/", "^represent/"),
    ),
    optimizer=optim.AdamW(
      optim.Cosine(1e-3, warmup=10_000),
      weight_decay=0.1,
      clip=1.0,
      groups=optim.Groups(frozen=("^image/",)),
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


def smoke():
  """Two small towers on drawn shapes, the locked one by chance: seconds."""
  small = experiment(cached=False, batch=32, seen=1_920).vary("shapes", clip.SMALL)
  locked = dataclasses.replace(small, init_from=None)
  return locked.vary("smoke", clip.TINY)
