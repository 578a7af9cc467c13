"""A model that compiles in a moment, on words that are in no file; for tests.

research run tests/small_experiment.py
"""

import planted_faults
import small_model

from research import Experiment, Sharding, optim


def experiment(width=16, rate=0.01, layers="loop", seed=0, steps=6, mesh="data", batch=16):
  return Experiment(
    name="small",
    data=planted_faults.Words(length=16),
    model=small_model.Small(vocab_size=32, width=width, layers=layers),
    objective=small_model.next_token,
    optimizer=optim.AdamW(rate),
    steps=steps,
    batch_size=batch,
    seed=seed,
    save_every=2,
    log_every=1,
    sharding=Sharding(mesh={mesh: -1}),
  )


def two():
  """Two experiments, as a sweep has them."""
  yield experiment().vary("slow", {"optimizer.learning_rate": 0.001})
  yield experiment().vary("fast", {"optimizer.learning_rate": 0.1})
