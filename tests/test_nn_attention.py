"""Attention and its masks, against a loop in NumPy that knows nothing of either."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.nn import Attention, Dropout, Mask, attend, padding, show

B, L, H, K = 2, 9, 4, 8
SEGMENTS = np.array([[1, 1, 1, 1, 2, 2, 2, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1, 1]], np.int32)

MASKS = {
  "none": (None, lambda b, q, m: True),
  "causal": (Mask(causal=True), lambda b, q, m: m <= q),
  "band": (Mask(causal=True, window=3), lambda b, q, m: 0 <= q - m < 3),
  "window": (Mask(window=2), lambda b, q, m: abs(q - m) < 2),
  "segments": (
    Mask(causal=True, segments_BL=jnp.array(SEGMENTS)),
    lambda b, q, m: m <= q and SEGMENTS[b, q] == SEGMENTS[b, m] > 0,
  ),
  "prefix": (
    Mask(causal=True, prefix_B=jnp.array([3, 0])),
    lambda b, q, m: m <= q or m < (3, 0)[b],
  ),
  "padding": (padding(jnp.array(SEGMENTS), L), lambda b, q, m: SEGMENTS[b, m] > 0),
}


def random(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def oracle(q_BLHK, k_BMGK, v_BMGK, sees):
  """softmax(q k / sqrt(K)) v, one number at a time."""
  y = np.zeros(q_BLHK.shape)
  shared = q_BLHK.shape[2] // k_BMGK.shape[2]
  for b, q, h in np.ndindex(q_BLHK.shape[:3]):
    seen = [m for m in range(k_BMGK.shape[1]) if sees(b, q, m)]
    if seen:
      scores = np.array([q_BLHK[b, q, h] @ k_BMGK[b, m, h // shared] for m in seen]) / K**0.5
      weights = np.exp(scores) / np.exp(scores).sum()
      y[b, q, h] = sum(w * v_BMGK[b, m, h // shared] for w, m in zip(weights, seen))
  return y


@pytest.mark.parametrize("G", [H, 2])
@pytest.mark.parametrize("name", MASKS)
def test_attention_is_what_a_loop_computes(name, G):
  mask, sees = MASKS[name]
  q, k, v = random(B, L, H, K), random(B, L, G, K, seed=1), random(B, L, G, K, seed=2)
  y = jax.jit(attend)(q, k, v, mask)
  np.testing.assert_allclose(y, oracle(q, k, v, sees), atol=2e-6)


def test_a_query_that_sees_nothing_gets_zeros_and_finite_gradients():
  mask = Mask(segments_BL=jnp.zeros((B, L), jnp.int32))
  q, k, v = (jnp.asarray(random(B, L, H, K, seed=s)) for s in range(3))
  y, gradients = jax.value_and_grad(lambda q, k, v: attend(q, k, v, mask).sum(), (0, 1, 2))(q, k, v)
  assert y == 0
  assert all((g == 0).all() for g in gradients)


def test_heads_that_share_unequally_are_told():
  q, k = random(B, L, 3, K), random(B, L, 2, K)
  with pytest.raises(UserError, match="kv_heads=2 does not divide heads=3"):
    attend(q, k, k)


def test_a_window_without_the_token_itself_is_told():
  with pytest.raises(UserError, match="window=0 would hide a token from itself"):
    Mask(causal=True, window=0)


def test_attention_in_bfloat16_is_close_to_float32():
  q, k, v = random(B, L, H, K), random(B, L, H, K, seed=1), random(B, L, H, K, seed=2)
  exact = attend(q, k, v, Mask(causal=True))
  rounded = attend(*(jnp.asarray(x, jnp.bfloat16) for x in (q, k, v)), Mask(causal=True))
  assert rounded.dtype == jnp.bfloat16
  np.testing.assert_allclose(rounded.astype(jnp.float32), exact, atol=0.03)


def test_masks_print():
  mask = Mask(causal=True, window=2, segments_BL=jnp.array([[1, 1, 1, 2, 2, 0]]))
  assert show(mask, 6).splitlines() == ["#.....", "##....", ".##...", "...#..", "...##.", "......"]


def test_a_memory_is_projected_once_while_cached():
  x, memory = jnp.asarray(random(B, 1, 16)), jnp.asarray(random(B, 5, 16, seed=1))
  attention = Attention(heads=4)
  variables = attention.init(jax.random.key(0), x, memory)
  assert set(variables) == {"params"}
  y, cache = attention.apply(variables, x, memory, mutable=["cache"])
  again, _ = attention.apply({**variables, **cache}, x, 0 * memory, mutable=["cache"])
  np.testing.assert_array_equal(y, again)


def test_dropout_acts_exactly_when_given_a_key():
  x, dropout = jnp.ones((100, 100)), Dropout(0.25)
  np.testing.assert_array_equal(dropout.apply({}, x), x)
  dropped = dropout.apply({}, x, rngs={"dropout": jax.random.key(0)})
  assert set(np.unique(dropped)) == {0, np.float32(1 / 0.75)}
  assert abs(dropped.mean() - 1) < 0.02
