"""What every run imports: done once, in the server that their processes are forked from.

Nothing here may compute: a process must be forked before JAX has a backend, whose threads a fork
would lose.
"""

import importlib

for name in (
  "grain",
  "jax.experimental.multihost_utils",
  "orbax.checkpoint",
  "tensorboardX",
  *(
    f"research.{room}"
    for room in (
      "attempt", "data", "generate", "matching", "models", "nn.cpu", "objectives", "optim"
    )
  ),
):  # fmt: skip
  importlib.import_module(name)
