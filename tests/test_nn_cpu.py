"""What is particular to a CPU computes what the plain paths compute, and so do its C++ kernels."""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.mesh import RULES, Sharding
from research.nn import Mask, attend, contract, native
from research.nn.cpu import applies
from research.nn.cross_entropy import cross_entropy
from research.nn.matmul import contract_all
from research.nn.platform import compiling_for
from research.nn.transformer import ACTIVATIONS, _activate
from research.sharding import Layout, use

COMPILED = pytest.mark.skipif(not native.available(), reason="no AVX-512 with bfloat16, or no g++")
MATRICES = pytest.mark.skipif(not native.matrix_tiles(), reason="no matrix instructions (AMX)")
TOLERANCE = {"float32": 2e-5, "bfloat16": 2e-2}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)


@contextlib.contextmanager
def one_cpu():
  """The tests have eight devices; the CPU's own paths are for one."""
  with use(Layout(Sharding().make_mesh(jax.devices()[:1]), RULES)):
    assert applies()
    yield


@contextlib.contextmanager
def without_kernels(monkeypatch):
  with monkeypatch.context() as patch, one_cpu():
    patch.setattr(native, "available", lambda: False)
    yield


def random(*shape, dtype="float32", seed=0):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def evaluated(function, *inputs):
  """The value and the gradients of a function whose result is weighed unevenly."""

  def total(*inputs):
    y = function(*inputs).astype(jnp.float32)
    return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)), y

  gradients, y = jax.jit(jax.grad(total, tuple(range(len(inputs))), has_aux=True))(*inputs)
  return [y, *gradients]


def same(found, wanted, tolerance):
  for a, b in zip(found, wanted, strict=True):
    assert a.dtype == b.dtype
    b = np.asarray(b, np.float32)
    np.testing.assert_allclose(np.asarray(a, np.float32), b, atol=tolerance * np.abs(b).max())


@DTYPES
@pytest.mark.parametrize(
  ("equation", "x", "w", "bias"),
  [
    ("BLD,DF->BLF", (2, 6, 8), (8, 24), (24,)),
    ("BLD,DF->BLF", (2, 6, 24), (24, 8), (8,)),
    ("BLD,DHK->BLHK", (2, 6, 8), (8, 3, 4), (3, 4)),
    ("BLHK,HKD->BLD", (2, 6, 3, 4), (3, 4, 8), (8,)),
    ("BLD,VD->BLV", (2, 6, 8), (11, 8), None),
    ("BLD,VD->BLV", (2, 6, 12), (4, 12), None),
    ("BD,DC->BC", (7, 9), (9, 3), None),
  ],
)
def test_products_and_their_gradients_are_those_of_einsum(equation, x, w, bias, dtype):
  inputs = [random(*x, dtype=dtype), random(*w, seed=1)]
  inputs += [] if bias is None else [random(*bias, seed=2)]

  def product(*inputs):
    return contract(equation, *inputs)

  with one_cpu():
    found = evaluated(product, *inputs)
  same(found, evaluated(product, *inputs), TOLERANCE[dtype])


@DTYPES
@pytest.mark.parametrize("biased", [True, False])
def test_products_of_one_input_together_are_each_alone(biased, dtype):
  x = random(2, 40, 8, dtype=dtype)
  weights = [random(8, 3, 4, seed=1), random(8, 1, 4, seed=2), random(8, 24, seed=3)]
  biases = [random(*w.shape[1:], seed=4) if biased else None for w in weights]
  equations = ["BLD,DHK->BLHK", "BMD,DGK->BMGK", "BLD,DF->BLF"]

  def together(x, weights, biases):
    ys = contract_all(list(zip(equations, weights, biases)), x)
    return jnp.concatenate([y.reshape(2, 40, -1) for y in ys], axis=2)

  def run(x, weights, biases):
    y, pull = jax.vjp(together, x, weights, biases)
    return jax.tree.leaves((y, pull(jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype))))

  with one_cpu():
    found = jax.jit(run)(x, weights, biases)
    text = jax.jit(together).lower(x, weights, biases).as_text()
  assert text.count("stablehlo.dot_general") == 1
  same(found, jax.jit(run)(x, weights, biases), TOLERANCE[dtype])


MASKS = {
  "none": None,
  "causal": Mask(causal=True),
  "band": Mask(causal=True, window=17),
  "window": Mask(window=9),
  "documents": Mask(
    causal=True,
    segments_BL=jnp.asarray(np.repeat([[1, 2, 3, 0], [1, 1, 2, 2]], 40, axis=1)),
  ),
}


@pytest.mark.parametrize("kernels", [pytest.param(True, marks=COMPILED), False])
@pytest.mark.parametrize("G", [4, 2])
@pytest.mark.parametrize("name", MASKS)
@DTYPES
def test_attention_and_its_gradients_are_the_plain_ones(name, G, dtype, kernels, monkeypatch):
  q = random(2, 160, 4, 32, dtype=dtype)
  k, v = (random(2, 160, G, 32, dtype=dtype, seed=seed) for seed in (1, 2))

  def attention(q, k, v):
    return attend(q, k, v, MASKS[name])

  with one_cpu() if kernels else without_kernels(monkeypatch):
    found = evaluated(attention, q, k, v)
  # The plain path in float32 is exact for both.
  exact = evaluated(attention, *(x.astype(jnp.float32) for x in (q, k, v)))
  same([x.astype(jnp.float32) for x in found], exact, TOLERANCE[dtype])


@COMPILED
@DTYPES
def test_under_vmap_the_kernels_give_what_they_give_each_by_itself(dtype):
  """As trials have it that share a batch: what is asked and answered differs, the rows do not."""
  q, k, v = (random(3, 2, 40, 4, 32, dtype=dtype, seed=seed) for seed in range(3))
  segments = Mask(causal=True, segments_BL=MASKS["documents"].segments_BL[:, ::4])

  def attention(q, k, v):
    return _activate("gelu", attend(q, k, v, segments))

  with one_cpu():
    found = evaluated(jax.vmap(attention), q, k, v)
    each = evaluated(lambda q, k, v: jnp.stack(list(map(attention, q, k, v))), q, k, v)
  same(found, each, 1e-6)


@COMPILED
def test_under_vmap_few_queries_and_few_rows_are_as_each_by_itself():
  """As trials have it: a token that pools its text, and a layer for one state of each."""
  q, k, w = random(3, 2, 1, 4, 32), random(3, 2, 37, 4, 32, seed=1), random(3, 128, 64, seed=2)

  def pooled(q, k, w):
    return contract("BD,DE->BE", attend(q, k, k).reshape(2, 128), w)

  with one_cpu():
    text = jax.jit(pooled).lower(q[0], k[0], w[0]).as_text()
    assert "research.FewQueries" in text and "research.Vectors" in text
    found = jax.jit(jax.vmap(pooled))(q, k, w)
    each = jnp.stack(list(map(jax.jit(pooled), q, k, w)))
  same([found], [each], 1e-6)


@COMPILED
def test_few_queries_keep_what_is_not_a_number():
  q, k = random(2, 1, 4, 32).at[1].set(jnp.nan), random(2, 37, 4, 32, seed=1)
  with one_cpu():
    y = np.asarray(attend(q, k, k))
  assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"z_loss": 0.01}], ids=str)
@pytest.mark.parametrize("pieces", [1, 5])
@DTYPES
def test_the_loss_and_its_gradients_are_the_plain_ones(settings, pieces, dtype, monkeypatch):
  from research.nn import cpu_cross_entropy

  B, L, D, V = 2, 21, 8, 30
  if pieces > 1:
    monkeypatch.setattr(cpu_cross_entropy, "LOGITS", V * 9)
  x, table = random(B, L, D, dtype=dtype), random(V, D, seed=1)
  targets = jnp.asarray(np.random.default_rng(2).integers(0, V, (B, L)))
  weights = jnp.asarray(np.random.default_rng(3).uniform(size=(B, L)), jnp.float32)

  def total(x, table):
    entropy = cross_entropy(x, table, targets, weights, **settings)
    return entropy.total, entropy

  run = jax.value_and_grad(total, (0, 1), has_aux=True)
  with one_cpu():
    (_, found), gradients = jax.jit(run)(x, table)
  (_, wanted), exact = jax.jit(run)(x, table)
  same([*found[:3], *gradients], [*wanted[:3], *exact], TOLERANCE[dtype])


@COMPILED
@DTYPES
@pytest.mark.parametrize(
  ("M", "N", "transposed"),
  [
    *itertools.product(range(1, 9), (96, 1024), [False]),
    *itertools.product([*range(1, 9), 11, 32], (96, 211), [True]),
  ],
)
@pytest.mark.parametrize("K", [64, 224])
def test_few_rows_times_a_weight_in_the_kernel(M, N, K, transposed, dtype):
  x = random(M, K, dtype=dtype)
  w = random(*((N, K) if transposed else (K, N)), dtype=dtype, seed=1)
  assert native.vectors_fit(x, w, transposed)
  y = jax.jit(native.vectors, static_argnames="transposed")(x, w, transposed=transposed)
  exact = np.asarray(x, np.float64) @ np.asarray(w.T if transposed else w, np.float64)
  np.testing.assert_allclose(y, exact, atol=2e-6 * np.abs(exact).max())


@MATRICES
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("lies", list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize(
  ("M", "K", "N"), [(64, 64, 64), (33, 31, 17), (16, 5_000, 40), (100, 384, 70), (700, 33, 1)]
)
def test_matrices_are_multiplied_whichever_way_they_lie(M, K, N, lies, dtype, biased):
  a = random(*((K, M) if lies[0] else (M, K)), dtype="bfloat16")
  b = random(*((N, K) if lies[1] else (K, N)), dtype="bfloat16", seed=1)
  bias = random(N, seed=2) if biased else None
  y = native.product(a, b, bias, a_transposed=lies[0], b_transposed=lies[1], dtype=dtype)
  a, b = (np.asarray(x.T if turned else x, np.float64) for x, turned in zip((a, b), lies))
  exact = a @ b + (np.asarray(bias, np.float64) if biased else 0.0)
  assert y.dtype == jnp.dtype(dtype)
  half_a_digit = 2.0**-8 if dtype == "bfloat16" else 1e-6
  np.testing.assert_allclose(
    np.asarray(y, np.float64), exact, atol=half_a_digit * np.abs(exact).max()
  )


@MATRICES
@pytest.mark.parametrize("transposed", [False, True])
def test_a_layer_of_matrices_has_the_gradients_of_einsum(transposed):
  equation, shape = ("BLD,VD->BLV", (192, 96)) if transposed else ("BLD,DF->BLF", (96, 192))
  inputs = [random(2, 40, 96, dtype="bfloat16"), random(*shape, seed=1), random(192, seed=2)]

  def product(*inputs):
    return contract(equation, *inputs)

  with one_cpu():
    found = evaluated(product, *inputs)
    step = jax.jit(jax.value_and_grad(lambda *inputs: product(*inputs).sum(), (0, 1)))
    assert step.lower(*inputs).as_text().count("research.Product") == 3
    trials = [jnp.stack([x, x + 1]) for x in inputs]
    together = jax.jit(jax.vmap(product))(*trials)
    each = jnp.stack([product(*(x[i] for x in trials)) for i in range(2)])
  same(found, evaluated(product, *inputs), TOLERANCE["bfloat16"])
  np.testing.assert_array_equal(np.asarray(together), np.asarray(each))


@COMPILED
@DTYPES
@pytest.mark.parametrize("name", native.ACTIVATIONS)
def test_activations_and_their_gradients_in_the_kernel(name, dtype):
  x = random(3, 21_850, dtype=dtype) * 4  # 65,550 is no multiple of a vector
  x = x.at[0, :4].set(jnp.asarray([0.0, 30.0, -30.0, 1e8], dtype))

  def activated(x):
    return _activate(name, x)

  with one_cpu():
    assert "research.Activation" in jax.jit(activated).lower(x).as_text()
    found = evaluated(activated, x)
  exact = evaluated(ACTIVATIONS[name], x.astype(jnp.float32))
  for a, b in zip(found, exact):
    a, b = (np.asarray(y, np.float32) for y in (a, b))
    assert np.isfinite(a).all()
    np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=2e-5)


@COMPILED
@DTYPES
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("G", [4, 1])
def test_few_queries_look_at_a_cache_in_the_kernel(G, biased, dtype):
  """The second row has no slot yet that a query of its own document could see."""
  B, L, M = 3, 2, 37
  q = random(B, L, 4, 32, dtype=dtype)
  k, v = (random(B, M, G, 32, dtype=dtype, seed=seed) for seed in (1, 2))
  bias = random(1, 4, L, M, seed=3)
  documents = jnp.asarray([[1] * M, [0] * M, [2, 1] * 18 + [1]])
  mask = Mask(
    causal=True, segments_BL=jnp.ones((B, L), int), memory_segments_BM=documents, offset=20
  )

  def attention(q, k, v, bias):
    return attend(q, k, v, mask, None, bias if biased else None, 0.3)

  with one_cpu():
    assert "research.FewQueries" in jax.jit(attention).lower(q, k, v, bias).as_text()
    found = evaluated(attention, q, k, v, bias)
  exact = evaluated(attention, *(x.astype(jnp.float32) for x in (q, k, v)), bias)
  assert not np.asarray(found[0])[1].any()
  for a, b in zip(found, exact, strict=True):
    a, b = (np.asarray(x, np.float32) for x in (a, b))
    np.testing.assert_allclose(a, b, atol=TOLERANCE[dtype] * max(np.abs(b).max(), 1e-30))


def test_few_values_are_activated_where_they_are_used():
  with one_cpu():
    text = jax.jit(lambda x: _activate("gelu", x)).lower(random(1, 1, 64)).as_text()
  assert "research.Activation" not in text


@COMPILED
def test_decoding_takes_the_kernel_and_training_does_not():
  x, w = random(1, 1, 64, dtype="bfloat16"), random(64, 96)

  def program(x, w):
    with one_cpu():
      return jax.jit(lambda x, w: contract("BLD,DF->BLF", x, w)).lower(x, w).as_text()

  assert "research.Vectors" in program(x, w.astype("bfloat16"))
  assert "research.Vectors" not in program(random(4, 8, 64, dtype="bfloat16"), w)


def test_the_plain_paths_are_traced_for_other_machines():
  x, w = random(1, 1, 64, dtype="bfloat16"), random(64, 96, dtype="bfloat16")
  with one_cpu(), compiling_for("tpu"):
    assert not applies()
    text = jax.jit(lambda x, w: contract("BLD,DF->BLF", x, w)).lower(x, w).as_text()
  assert "custom_call" not in text and "optimization_barrier" not in text


def test_a_machine_without_a_compiler_goes_on_in_plain_jax(monkeypatch):
  from research.nn.native import library

  monkeypatch.setenv("CXX", "no-such-compiler")
  with pytest.raises(RuntimeError, match=r"no C\+\+ compiler|lacks"):
    library._library()
  library._kernels.cache_clear()
  assert library.available() is False
  monkeypatch.delenv("CXX")
  library._kernels.cache_clear()
