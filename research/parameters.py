"""The parameters that a run has come to, on one device: to write, to predict and to look with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn

from research import checkpoint
from research.experiment import Experiment
from research.mesh import Sharding
from research.sharding import Layout


def under(experiment: Experiment) -> str:
  """Where a checkpoint keeps what is used: the moving average where there is one."""
  return "params" if experiment.average is None else "average"


def parameters(
  experiment: Experiment, workdir: Path, step: int | None, init: Callable[[jax.Array], Any]
) -> Any:
  """Those of a checkpoint, as `init` names them; adapters are made part of the weights.

  Args:
    experiment: of the run.
    workdir: its folder.
    step: of the checkpoint; None for the newest.
    init: key -> variables of the model, or of a part of it; called for its shapes alone.

  Raises:
    UserError: no such checkpoint, or it is of another model.
    IntegrityError: it is damaged.
  """
  key = jax.random.key(0)
  boxed = jax.eval_shape(init, key)["params"]
  adapters = experiment.adapters
  if adapters is not None:
    boxed = jax.eval_shape(adapters.add, key, boxed)
  place = Layout(Sharding().make_mesh(jax.local_devices()[:1]), ()).replicated
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), nn.meta.unbox(boxed)
  )
  with checkpoint.of_run(workdir) as checkpoints:
    params = checkpoints.restore(like, step, under=under(experiment))
  return params if adapters is None else jax.jit(adapters.merged)(params)


def fingerprint(workdir: Path, step: int, *beside: Any) -> str:
  """Changes with any bit of a checkpoint, and with the `repr` of what is given beside."""
  with checkpoint.of_run(workdir) as checkpoints:
    arrays = checkpoints.stored(step).arrays
  said = sorted((name, array.fingerprint) for name, array in arrays.items())
  return hashlib.blake2b(repr((said, *beside)).encode(), digest_size=16).hexdigest()
