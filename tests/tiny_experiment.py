"""A GPT of one layer that learns in seconds; what the launchers are tried with.

research run tests/tiny_experiment.py text=FILE
research run tests/tiny_experiment.py:widths text=FILE
"""

from research import Eval, Experiment, Sharding, data, models, objectives, optim


def experiment(text: str, steps=40, width=16):
  next_token = objectives.NextToken()
  return Experiment(
    name="tiny",
    data=data.Text(data.Files(text, separator="\n"), data.Bytes(), length=32),
    model=models.GPT(vocab_size=264, max_length=32, width=width, depth=1, heads=2),
    objective=next_token,
    optimizer=optim.AdamW(optim.Cosine(1e-2, warmup=2)),
    steps=steps,
    batch_size=8,
    evals={"heldout": Eval(next_token, batches=2)},
    save_every=10,
    log_every=1,
    sharding=Sharding(mesh={"data": -1}),
  )


def widths(text: str, steps=40):
  """Three runs."""
  for width in (8, 16, 32):
    yield experiment(text, steps, width).vary(f"width_{width}", {"save_every": steps})
