"""A batch through a model in pieces, for losses that compare all of its examples.

Such a loss cannot be added up over microbatches. Here only the encoding is cut: the backward pass
makes the states of one piece at a time again, so the memory is that of a piece, and the gradient
is that of the whole batch (Gao et al., 2021, "Scaling deep contrastive learning batch size under
memory limited setup").
"""

from typing import Any

import flax.linen as nn
import jax

from research.errors import UserError


def in_pieces(model: nn.Module, method: str, pieces: int, *inputs: jax.Array) -> Any:
  """`getattr(model, method)(*inputs)`, over so many pieces of the rows of every input.

  Args:
    model: bound; it may drop out, but keep nothing.
    method: its name; the rows of the result are those of the inputs.
    pieces: 1 for the plain call.
    *inputs: arrays with the rows first.

  Raises:
    UserError: the pieces do not divide the rows.
  """
  if pieces == 1 or model.is_initializing():
    return getattr(model, method)(*inputs)
  rows = inputs[0].shape[0]
  if rows % pieces:
    raise UserError(f"{pieces} pieces do not divide a batch of {rows} rows; choose a divisor.")
  dropout = model.make_rng("dropout") if model.has_rng("dropout") else None
  model, variables = model.unbind()

  @jax.checkpoint
  def piece(i_and_inputs):
    i, inputs = i_and_inputs
    rngs = {} if dropout is None else {"dropout": jax.random.fold_in(dropout, i)}
    return model.apply(variables, *inputs, method=method, rngs=rngs)

  # Row by row in turn, so that each device keeps its own examples.
  cut = [x.reshape(-1, pieces, *x.shape[1:]).swapaxes(0, 1) for x in inputs]
  outputs = jax.lax.map(piece, (jax.numpy.arange(pieces), cut))
  return jax.tree.map(lambda y: y.swapaxes(0, 1).reshape(rows, *y.shape[2:]), outputs)
