"""Two towers of one narrow layer each, on drawn shapes; for tests.

research run tests/tiny_pairs.py
"""

from research import Experiment, Retrieval, data, models, objectives, optim


def experiment():
  return Experiment(
    name="tiny_pairs",
    data=data.Shapes(image_size=16, length=48, examples=100, heldout=20),
    model=models.CLIP(
      vocab_size=257,
      max_length=48,
      image_size=16,
      patch=8,
      embedding=8,
      image_width=8,
      image_depth=1,
      image_heads=2,
      text_width=8,
      text_depth=1,
      text_heads=2,
      layers="loop",
    ),
    objective=objectives.InfoNCE(),
    optimizer=optim.AdamW(1e-3),
    steps=2,
    batch_size=8,
    evals={"retrieval": Retrieval()},
  )
