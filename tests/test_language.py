"""The chunked loss is the dense one, and NextToken counts what it should."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.mesh import Sharding
from research.models import GPT
from research.nn.cross_entropy import cross_entropy
from research.nn.platform import compiling_for
from research.objectives import NextToken
from research.sharding import use

B, L, D, V = 2, 11, 8, 30


def random(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


X, TABLE = random(B, L, D), random(V, D, seed=1)
TARGETS = np.random.default_rng(2).integers(0, V, (B, L), np.int32)
WEIGHTS = np.random.default_rng(3).integers(0, 2, (B, L)).astype(np.float32)


@functools.cache
def oracle(smoothing, z_loss):
  dense_of = functools.partial(dense, smoothing=smoothing, z_loss=z_loss)
  return jax.jit(jax.value_and_grad(dense_of, (0, 1), has_aux=True))(X, TABLE)


def dense(x, table, smoothing, z_loss):
  """-sum over v of q(v) log p(v), with q the smoothed target; and z times log(Z)²."""
  logits = x @ table.T
  q = (1 - smoothing) * jax.nn.one_hot(TARGETS, V) + smoothing / V
  loss = -jnp.sum(q * jax.nn.log_softmax(logits), axis=-1)
  loss += z_loss * jax.nn.logsumexp(logits, axis=-1) ** 2
  return jnp.sum(loss * WEIGHTS), loss


@pytest.mark.parametrize("target", [None, "tpu"])  # this machine's path, and the plain one
@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize(("smoothing", "z_loss"), [(0.0, 0.0), (0.1, 0.01)])
def test_the_chunked_loss_is_the_dense_one(monkeypatch, target, pieces, smoothing, z_loss):
  monkeypatch.setattr("research.nn.cross_entropy.LOGITS", B * L * V // pieces)

  def chunked(x, table):
    with compiling_for(target or jax.default_backend()):
      entropy = cross_entropy(x, table, TARGETS, WEIGHTS, label_smoothing=smoothing, z_loss=z_loss)
    return entropy.total, entropy

  (_, entropy), gradients = jax.jit(jax.value_and_grad(chunked, (0, 1), has_aux=True))(X, TABLE)
  (total, loss_BL), expected = oracle(smoothing, z_loss)
  np.testing.assert_allclose(entropy.total, total, rtol=1e-5)
  np.testing.assert_allclose(entropy.loss_BL, loss_BL, rtol=1e-5)
  np.testing.assert_allclose(entropy.nats_BL, oracle(0.0, 0.0)[0][1], rtol=1e-5)
  np.testing.assert_array_equal(entropy.correct_BL, (X @ TABLE.T).argmax(-1) == TARGETS)
  for gradient, right in zip(gradients, expected):
    np.testing.assert_allclose(gradient, right, atol=2e-5)


@pytest.mark.parametrize("pieces", [1, 4])
def test_a_text_of_any_length_has_its_loss_where_texts_are_split(monkeypatch, pieces):
  """Eleven tokens divide neither between two devices nor into four pieces for each."""
  monkeypatch.setattr("research.nn.cross_entropy.LOGITS", B * L * V // pieces)

  def total(x, table):
    entropy = cross_entropy(x, table, TARGETS, WEIGHTS)
    return entropy.total, entropy.loss_BL

  sharding = Sharding({"context": 2, "tensor": 2})
  with use(sharding.layout(sharding.make_mesh(jax.devices()[:4]))):
    found = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(X, TABLE)
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), found, oracle(0.0, 0.0))


def batch():
  segments = np.ones((B, L), np.int32)
  segments[1, 6:] = 0
  return {
    "tokens": np.roll(TARGETS, 1, axis=1),
    "targets": TARGETS,
    "segments": segments,
    "positions": np.broadcast_to(np.arange(L, dtype=np.int32), (B, L)),
    "bytes": np.full((B, L), 3, np.int32),
  }


MODEL = GPT(vocab_size=V, max_length=L, width=8, depth=1, heads=2)


def measure(objective, batch):
  initialize = nn.init(objective, MODEL)
  abstract = nn.meta.unbox(jax.eval_shape(initialize, jax.random.key(0), batch))
  random = np.random.default_rng(0)
  params = jax.tree.map(lambda x: 0.05 * random.standard_normal(x.shape, x.dtype), abstract)
  return jax.jit(nn.apply(objective, MODEL))(params, batch)


def test_next_token_measures_the_tokens_that_are_there():
  metrics = measure(NextToken(), batch())
  assert set(metrics) == {"loss", "nats", "accuracy", "bits_per_byte"}
  assert metrics["nats"].weight == L + 6
  assert abs(metrics["nats"].mean() - np.log(V)) < 0.05  # before training: any word
  np.testing.assert_allclose(metrics["loss"].mean(), metrics["nats"].mean(), rtol=1e-6)
  bits = metrics["nats"].total / np.log(2) / (3 * (L + 6))
  np.testing.assert_allclose(metrics["bits_per_byte"].mean(), bits, rtol=1e-6)
  assert metrics["nats"].standard_error() > 0


def test_padding_changes_nothing():
  padded, other = batch(), batch()
  other["tokens"] = np.where(other["segments"] > 0, other["tokens"], 7)
  other["targets"] = np.where(other["segments"] > 0, other["targets"], 7)
  a, b = measure(NextToken(), padded), measure(NextToken(), other)
  np.testing.assert_array_equal(a["loss"].total, b["loss"].total)


def test_smoothing_changes_the_loss_and_not_the_nats():
  plain, smoothed = measure(NextToken(), batch()), measure(NextToken(0.1, 1e-3), batch())
  np.testing.assert_allclose(plain["nats"].total, smoothed["nats"].total, rtol=1e-6)
  assert smoothed["loss"].total > plain["loss"].total


def test_initializing_needs_no_other_input_than_a_batch():
  variables = jax.eval_shape(nn.init(NextToken(), MODEL), jax.random.key(0), batch())
  assert set(variables) == {"params"}
  assert variables["params"]["embed"]["table"].value.shape == (V, 8)
