"""Runs that were never trained, made in a moment, with parameters at random."""

import flax.linen as nn
import jax
import numpy as np

from research import checkpoint, load, record, train
from research.retention import Keep


def made(file, workdir):
  """A run folder of an experiment file, as after step 0 of training."""
  recipe = load.recipe(file)
  experiment = recipe.experiment()
  record.remember(workdir, recipe, experiment)
  train._words_and_baselines(experiment, workdir, None, fresh=False)
  objective, model = experiment.objective, experiment.model
  batch = experiment.data.example()
  shapes = jax.eval_shape(nn.init(objective, model), jax.random.key(0), batch)["params"]
  leaves, tree = jax.tree.flatten(nn.meta.unbox(shapes))
  random = np.random.RandomState(0)
  params = tree.unflatten([random.randn(*x.shape).astype(np.float32) for x in leaves])
  with checkpoint.Checkpoints(workdir / "checkpoints", keep=Keep()) as checkpoints:
    checkpoints.save(0, {"params": params})
  return workdir
