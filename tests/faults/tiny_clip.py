"""A CLIP of two towers of one layer, on drawn shapes: it learns in seconds and needs no files.

research run tests/faults/tiny_clip.py
"""

from research import Eval, Experiment, Sharding, data, models, objectives, optim


def experiment(steps=40):
  pair = objectives.InfoNCE()
  return Experiment(
    name="tiny_clip",
    data=data.Shapes(image_size=16, length=48, examples=100, heldout=32),
    model=models.CLIP(
      vocab_size=264,
      max_length=48,
      image_size=16,
      patch=8,
      embedding=16,
      image_width=16,
      image_depth=1,
      image_heads=2,
      text_width=16,
      text_depth=1,
      text_heads=2,
    ),
    objective=pair,
    optimizer=optim.AdamW(optim.Cosine(1e-2, warmup=2)),
    steps=steps,
    batch_size=8,
    evals={"heldout": Eval(pair)},
    save_every=10,
    log_every=1,
    sharding=Sharding(mesh={"data": -1}),
  )
