"""Does bfloat16 learn what float32 learns? One model, both ways, the same three seeds each.

Products in bfloat16, with float32 sums, parameters, norms and softmax, are about twice as fast;
that is worth something only if the curves are the same.

  research run experiments/precision.py --workdir runs/precision
  research run experiments/precision.py seeds=5 steps=1000

Expect (2 cores, about 7 minutes): held-out losses that differ less between the two than between
seeds.
"""

import python_docs


def experiment(seeds=3, width=128, steps=200):
  for seed in range(1, seeds + 1):
    base = python_docs.experiment(width=width, steps=steps).vary(
      f"seed_{seed}", {"seed": seed, "samples": None, "baselines": {}}
    )
    yield base.vary("float32", {"model.dtype": "float32"})
    yield base.vary("bfloat16", {})


def smoke():
  return python_docs.smoke().vary("float32", {"model.dtype": "float32"})
