"""Every way to compute attention gives what the plain way gives, and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.mesh import RULES, Sharding
from research.nn import attention, gpu_attention, ring_attention, tpu_attention
from research.nn.masks import Mask, padding
from research.sharding import use

B, L, H, K = 2, 256, 4, 16


def inputs(kv_heads=2, dtype=jnp.float32):
  random = np.random.RandomState(0)
  shapes = (B, L, H, K), (B, L, kv_heads, K), (B, L, kv_heads, K)
  return [jnp.asarray(random.normal(size=shape), dtype) for shape in shapes]


def segments():
  """Two documents, padding after them in the second row, and one that is a single token."""
  ids = np.ones((B, L), np.int32)
  ids[:, 100:] = 2
  ids[1, 101:] = 3
  ids[1, 230:] = 0
  return jnp.asarray(ids)


MASKS = {
  "bidirectional": lambda: Mask(),
  "causal": lambda: Mask(causal=True),
  "band": lambda: Mask(causal=True, window=40),
  "band_both_ways": lambda: Mask(window=40),
  "segments": lambda: Mask(causal=True, segments_BL=segments()),
  "band_in_segments": lambda: Mask(causal=True, window=40, segments_BL=segments()),
  "padding": lambda: padding(segments(), L),
  "prefix": lambda: Mask(causal=True, prefix_B=jnp.asarray([70, 0])),
}


def value_and_gradients(attend, arrays):
  def total(*arrays):
    y = attend(*arrays)
    return jnp.sum(jnp.sin(y.astype(jnp.float32)) * jnp.arange(K)), y

  (_, y), gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))(*arrays)
  return y, *gradients


def plainly(mask):
  return lambda q, k, v: attention.attend(q, k, v, mask)


def close(ours, plain, tolerance):
  for a, b in zip(ours, plain, strict=True):
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    assert np.max(np.abs(a - b)) <= tolerance * np.max(np.abs(b))


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("devices", [2, 8])
def test_a_ring_of_devices_attends_as_one(name, devices):
  mask = MASKS[name]()
  layout = Sharding({"context": devices}).layout(
    Sharding({"context": devices}).make_mesh(jax.devices()[:devices])
  )
  ring = value_and_gradients(lambda q, k, v: ring_attention.attend(q, k, v, mask, layout), inputs())
  close(ring, value_and_gradients(plainly(mask), inputs()), 1e-5)


def test_a_ring_scores_its_keys_in_pieces(monkeypatch):
  monkeypatch.setattr(ring_attention, "KEYS", 32)
  test_a_ring_of_devices_attends_as_one("band_in_segments", 2)


def test_attention_takes_the_ring_where_a_text_is_split():
  sharding = Sharding({"context": 4, "tensor": 2})
  mask = MASKS["segments"]()
  with use(sharding.layout(sharding.make_mesh())):
    program = jax.jit(plainly(mask)).lower(*inputs()).compile()
    close([program(*inputs())], [plainly(mask)(*inputs())], 1e-5)
  text = program.as_text()
  assert "collective-permute" in text and "all-gather" not in text


UNSHARED = tuple(rule for rule in RULES if rule[0] != "G")


def split_heads(**others):
  """Four devices hold two query heads each, of eight that share two key/value heads."""
  sharding = Sharding({"tensor": 4, **others}, rules=UNSHARED)
  random = np.random.RandomState(1)
  arrays = [jnp.asarray(random.normal(size=(B, L, heads, K)), jnp.float32) for heads in (8, 2, 2)]
  return sharding.layout(sharding.make_mesh()), arrays


def test_on_a_ring_every_device_has_the_keys_of_its_own_queries():
  mask = Mask(causal=True)
  layout, arrays = split_heads(context=2)
  ring = value_and_gradients(lambda q, k, v: ring_attention.attend(q, k, v, mask, layout), arrays)
  close(ring, value_and_gradients(plainly(mask), arrays), 1e-5)


@pytest.mark.parametrize("name", [name for name in MASKS if name != "prefix"])
def test_splash_attends_as_the_plain_way(name):
  mask = MASKS[name]()
  splash = value_and_gradients(
    lambda q, k, v: tpu_attention.attend(q, k, v, mask, interpret=True), inputs()
  )
  close(splash, value_and_gradients(plainly(mask), inputs()), 2e-5)


def test_splash_on_a_mesh_keeps_rows_and_heads_apart():
  mask = MASKS["segments"]()
  layout, arrays = split_heads(fsdp=2)
  plain = plainly(mask)(*arrays)
  with use(layout):
    split = jax.jit(lambda q, k, v: tpu_attention.attend(q, k, v, mask, interpret=True))(*arrays)
  close([split], [plain], 2e-5)


def test_splash_gives_zeros_to_who_sees_no_slot_of_a_memory():
  q, k, v = (x[:, :128] for x in inputs())
  mask = Mask(segments_BL=segments()[:, :128], memory_segments_BM=jnp.ones((B, 128), int))
  y = jax.jit(lambda q, k, v: tpu_attention.attend(q, k, v, mask, interpret=True))(q, k, v)
  assert not np.asarray(y[:, 100:]).any()
  close([y], [plainly(mask)(q, k, v)], 2e-5)


def test_parts_of_a_text_look_at_a_memory_by_splash_where_it_can():
  """Two devices hold half of the queries each: whole vectors of them, or too few."""
  (q, _, _), (_, k, v) = inputs(), [x[:, :128] for x in inputs()]
  sharding = Sharding({"context": 2})
  plain = plainly(Mask())(q, k, v)
  with use(sharding.layout(sharding.make_mesh(jax.devices()[:2]))):
    split = jax.jit(lambda q, k, v: tpu_attention.attend(q, k, v, Mask(), interpret=True))
    close([split(q, k, v)], [plain], 2e-5)
    assert tpu_attention.attend(q[:, :128], k, v, Mask()) is None
    assert tpu_attention.attend(q, k, v, Mask(causal=True)) is None
    narrow = [x.astype(jnp.bfloat16) for x in (q, k, v)]
    assert gpu_attention.attend(*narrow, Mask()) is None


@pytest.mark.parametrize(
  ("mask", "length"),
  [
    (lambda: Mask(causal=True, prefix_B=jnp.asarray([70, 0])), L),
    (lambda: Mask(causal=True, offset=jnp.zeros((), jnp.int32)), L),
    (lambda: Mask(causal=True), L - 1),
  ],
)
def test_splash_leaves_what_it_does_not_know_to_the_plain_way(mask, length):
  q, k, v = inputs()
  assert tpu_attention.attend(q[:, :length], k[:, :length], v[:, :length], mask()) is None


@pytest.mark.parametrize("name", MASKS)
def test_the_gpu_is_asked_for_the_same_attention(name):
  """JAX's own implementation stands in for cuDNN, which takes the same arguments."""
  mask = MASKS[name]()
  arrays = inputs(dtype=jnp.bfloat16)
  asked = value_and_gradients(
    lambda q, k, v: gpu_attention.attend(q, k, v, mask, kernel="xla"), arrays
  )
  plain = value_and_gradients(plainly(mask), [x.astype(jnp.float32) for x in arrays])
  close(asked, plain, 2e-2)


def test_cudnn_is_asked_for_no_band_to_both_sides(monkeypatch):
  """It refuses one; as a matrix it takes any mask."""
  asked = {}

  def cudnn(q, k, v, **how):
    asked.update(how)
    return q

  monkeypatch.setattr(jax.nn, "dot_product_attention", cudnn)
  gpu_attention.attend(*inputs(dtype=jnp.bfloat16), Mask(window=40))
  assert "local_window_size" not in asked
  np.testing.assert_array_equal(asked["mask"], Mask(window=40).dense(L, L))


def test_cudnn_has_keys_that_are_split_as_the_queries_are():
  layout, arrays = split_heads(fsdp=2)
  with use(layout):
    narrow = [x.astype(jnp.bfloat16) for x in arrays]
    text = jax.jit(lambda q, k, v: gpu_attention.attend(q, k, v, None, kernel="xla"))
    text = text.lower(*narrow).as_text()
  assert "tensor<2x256x4x16xbf16>" in text  # two heads, each on two devices
