"""Optimizers against the equations of their papers, and layers scanned against layers looped."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import unflatten_dict

from research import optim
from research.errors import UserError
from research.optim.groups import names
from research.optim.muon import COEFFICIENTS, orthogonalize
from research.overrides import override

D, H, K, F, V, LAYERS = 6, 2, 4, 10, 12, 4
SHAPES = {
  "attention/query/kernel": (D, H, K),
  "attention/query/bias": (H, K),
  "attention/out/kernel": (H, K, D),
  "mlp/up/kernel": (D, F),
  "mlp/down/kernel": (F, D),
  "norm/scale": (D,),
}
SCHEDULES = [
  optim.Constant(1e-3, warmup=5),
  optim.Linear(1e-3, warmup=5, final=1e-4),
  optim.Cosine(1e-3, warmup=5, final=1e-4),
  optim.InverseSquareRoot(warmup=5, width=64),
  optim.InverseSquareRoot(warmup=5, peak=1e-3),
  optim.WarmupStableDecay(1e-3, warmup=5, decay=0.5),
]
OPTIMIZERS = [
  optim.AdamW(1e-2, weight_decay=0.1, clip=1.0),
  optim.Adafactor(1e-2, smallest=4, weight_decay=0.1, clip=1.0),
  optim.Lion(1e-3, weight_decay=0.1, clip=1.0),
  optim.SGD(1e-1, momentum=0.9, nesterov=True, weight_decay=0.1, clip=1.0),
  optim.Muon(1e-2, weight_decay=0.1, clip=1.0),
]
by_name = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)


def looped(seed, scale=1.0):
  """Random numbers shaped as the parameters of a small model."""
  random = np.random.default_rng(seed)
  flat = {"embed/table": (V, D), "final_norm/scale": (D,)}
  flat |= {f"blocks/{i}/{name}": s for i in range(LAYERS) for name, s in SHAPES.items()}
  flat = {name: jnp.asarray(random.normal(0, scale, s), "float32") for name, s in flat.items()}
  return unflatten_dict(flat, sep="/")


def scanned(tree, period=1):
  """The same numbers with every `period`-th layer stacked."""
  stacks = {
    f"{j}::{period}": jax.tree.map(
      lambda *x: jnp.stack(x), *(tree["blocks"][str(i)] for i in range(j, LAYERS, period))
    )
    for j in range(period)
  }
  return {**tree, "blocks": stacks}


def run(optimizer, params, grads, steps=10):
  transformation = optimizer.build(steps)
  state = transformation.init(params)
  update = jax.jit(transformation.update)
  for g in grads:
    updates, state = update(g, state, params)
    params = optax.apply_updates(params, updates)
  return params


def small(seed):
  """A decayed matrix, an undecayed bias."""
  random = np.random.default_rng(seed)
  shapes = {"kernel": (3, 5), "bias": (5,)}
  return {"up": {n: jnp.asarray(random.normal(size=s), "float32") for n, s in shapes.items()}}


def check_equations(optimizer, new):
  """Three updates of `small` parameters equal the NumPy generator `new(p, decay)`."""
  params, grads = small(0), [small(i) for i in (1, 2, 3)]
  result = run(optimizer, params, grads)
  for leaf, decay in (("kernel", 0.1), ("bias", 0.0)):
    p = np.asarray(params["up"][leaf], np.float64)
    expected = new(p, [np.asarray(g["up"][leaf], np.float64) for g in grads], decay)
    np.testing.assert_allclose(result["up"][leaf], expected, rtol=2e-5, atol=2e-6)


# Optimizers


def test_adamw_is_its_paper():
  def equations(p, grads, decay, lr=0.01, b1=0.9, b2=0.99, eps=1e-8):
    m = v = 0
    for t, g in enumerate(grads, 1):
      m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
      p = p - lr * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * p)
    return p

  check_equations(optim.AdamW(0.01, b2=0.99, weight_decay=0.1), equations)


def test_lion_is_its_paper():
  def equations(p, grads, decay, lr=0.01, b1=0.9, b2=0.99):
    m = 0
    for g in grads:
      p = p - lr * (np.sign(b1 * m + (1 - b1) * g) + decay * p)
      m = b2 * m + (1 - b2) * g
    return p

  check_equations(optim.Lion(0.01, weight_decay=0.1), equations)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_its_equations(momentum, nesterov):
  def equations(p, grads, decay, lr=0.01):
    m = 0
    for g in grads:
      m = momentum * m + g
      p = p - lr * ((g + momentum * m if nesterov else m) + decay * p)
    return p

  check_equations(optim.SGD(0.01, momentum, nesterov, weight_decay=0.1), equations)


def newton_schulz(x):
  x = x / np.linalg.norm(x)
  for _ in range(5):
    a, b, c = COEFFICIENTS
    x = a * x + b * x @ x.T @ x + c * x @ x.T @ x @ x.T @ x
  return x


@pytest.mark.parametrize("rms", [None, 0.2])
def test_muon_is_its_definition_on_matrices_of_inputs_by_outputs(rms):
  params, grads = looped(0), [looped(i) for i in (1, 2, 3)]
  new = run(optim.Muon(0.02, rms=rms, weight_decay=0.1), params, grads)
  views = {"query": (D, H * K), "out": (H * K, D), "up": (D, F), "down": (F, D)}
  for layer, leaf in (("attention", "query"), ("attention", "out"), ("mlp", "up"), ("mlp", "down")):
    fan_in, fan_out = views[leaf]
    size = max(1, fan_out / fan_in) ** 0.5 if rms is None else rms * max(fan_in, fan_out) ** 0.5
    p, *all_grads, result = (
      np.asarray(tree["blocks"]["2"][layer][leaf]["kernel"], np.float64).reshape(fan_in, fan_out)
      for tree in (params, *grads, new)
    )
    m = 0
    for g in all_grads:
      m = 0.95 * m + g
      p = p - 0.02 * (size * newton_schulz(g + 0.95 * m) + 0.1 * p)
    np.testing.assert_allclose(result, p, rtol=1e-4, atol=1e-5)


def test_muon_leaves_the_rest_to_adamw_at_its_own_rate():
  params, grads = looped(0), [looped(1), looped(2)]
  muon = run(optim.Muon(0.02, adam_rate=0.1, b2=0.95, weight_decay=0.1), params, grads)
  adam = run(optim.AdamW(0.002, b2=0.95, weight_decay=0.1), params, grads)
  for a, b in ((muon["embed"], adam["embed"]), (muon["final_norm"], adam["final_norm"])):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)
  biases = (tree["blocks"]["0"]["attention"]["query"]["bias"] for tree in (muon, adam))
  np.testing.assert_allclose(*biases, rtol=1e-6)


def test_newton_schulz_is_that_of_optax_and_makes_singular_values_alike():
  for shape in ((30, 20), (3, 20, 30)):
    x = jax.random.normal(jax.random.key(0), shape)
    y = jax.jit(orthogonalize, static_argnums=1)(x, 5)
    axes = optax.contrib.MuonDimensionNumbers(len(shape) - 2, len(shape) - 1)
    theirs = optax.contrib.scale_by_muon(
      beta=0.0, nesterov=False, weight_dimension_numbers={"kernel": axes}
    )
    theirs, _ = jax.jit(theirs.update)({"kernel": x}, theirs.init({"kernel": x}))
    np.testing.assert_allclose(y, theirs["kernel"], atol=1e-5)
    values = np.linalg.svd(np.asarray(y), compute_uv=False)
    assert values.min() > 0.5 and values.max() < 1.3
  assert not np.any(orthogonalize(jnp.zeros((3, 4)), 5))


@pytest.mark.parametrize("smallest", [3, 128])
@pytest.mark.parametrize("min_scale", [1e-3, None])
def test_adafactor_is_that_of_optax_on_matrices(smallest, min_scale):
  params, grads = small(0), [small(i) for i in (1, 2, 3)]
  ours = run(optim.Adafactor(0.01, smallest=smallest, min_scale=min_scale), params, grads)
  theirs = optax.adafactor(
    0.01,
    min_dim_size_to_factor=smallest,
    multiply_by_parameter_scale=min_scale is not None,
  )
  p, state = params, theirs.init(params)
  for g in grads:
    updates, state = theirs.update(g, state, p)
    p = optax.apply_updates(p, updates)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), ours, p)


def test_adafactor_factors_heads_as_one_matrix():
  state = optim.Adafactor(0.01, smallest=4).build(3).init(looped(0))["direction"]
  heads = state.rows["blocks"]["0"]["attention"]["query"], state.columns["blocks"]["0"]["attention"]
  assert heads[0]["kernel"].shape == (D,) and heads[1]["query"]["kernel"].shape == (H, K)
  assert heads[1]["out"]["kernel"].shape == (D,)
  assert state.whole["blocks"]["0"]["attention"]["query"]["bias"].shape == (H, K)


@by_name
def test_scanned_layers_update_as_looped_ones(optimizer):
  rates = (("blocks/[13]/.*up", 0.5), ("blocks/", 0.8))
  optimizer = dataclasses.replace(
    optimizer, groups=optim.Groups(decay="blocks/[012]/.*kernel|table", rates=rates)
  )
  # Layers of different sizes: a statistic shared between them would show.
  params = looped(0)
  for i in range(LAYERS):
    params["blocks"][str(i)] = jax.tree.map(lambda x, i=i: x * 3.0**i, params["blocks"][str(i)])
  grads = [looped(i) for i in (1, 2, 3)]
  one_by_one = scanned(run(optimizer, params, grads), 2)
  together = run(optimizer, scanned(params, 2), [scanned(g, 2) for g in grads])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one_by_one, together
  )


@by_name
def test_state_of_scanned_layers_is_the_stack_of_looped_states(optimizer):
  """Which is what lets a checkpoint store one layer at a time."""

  def shapes(tree):
    state = jax.eval_shape(optimizer.build(3).init, tree)
    return {
      name: x.shape[1:] if "::" in jax.tree_util.keystr(path) else x.shape
      for path, x in jax.tree.leaves_with_path(state)
      for name in names(path, x)
    }

  assert shapes(scanned(looped(0), 2)) == shapes(looped(0))


# Clipping, decay, groups


def test_clip_scales_the_whole_gradient_only_when_it_is_too_long():
  params, grads = small(0), small(1)
  norm = float(optax.tree.norm(grads))
  for clip in (norm / 3, norm * 2):
    new = run(optim.SGD(1.0, clip=clip), params, [grads])
    moved = jax.tree.map(jnp.subtract, params, new)
    np.testing.assert_allclose(optax.tree.norm(moved), min(norm, clip), rtol=1e-5)


def test_decay_pulls_weights_but_not_biases_and_scales():
  params = scanned(looped(0))
  zeros = jax.tree.map(jnp.zeros_like, params)
  new = run(optim.AdamW(0.1, weight_decay=0.5), params, [zeros])
  for (path, p), q in zip(jax.tree.leaves_with_path(params), jax.tree.leaves(new)):
    kept = 0.95 if str(path[-1].key) in ("kernel", "table") else 1.0
    np.testing.assert_allclose(q, kept * p, rtol=1e-6)


@by_name
def test_frozen_parameters_stay_and_have_no_state(optimizer):
  params, grads = scanned(looped(0)), scanned(looped(1))
  frozen = optim.Groups(frozen=("^embed/", "/query/"))
  optimizer = dataclasses.replace(optimizer, groups=frozen)
  new = run(optimizer, params, [grads])
  state = optimizer.build(10).init(params)
  for (path, p), q in zip(jax.tree.leaves_with_path(params), jax.tree.leaves(new)):
    name = names(path, p)[0]
    assert np.array_equal(p, q) == frozen.freezes(name), name
  for path, leaf in jax.tree.leaves_with_path(state):
    assert not frozen.freezes(names(path, leaf)[0])


def test_frozen_parameters_do_not_count_in_the_norm():
  params, grads = scanned(looped(0)), scanned(looped(1))
  groups = optim.Groups(frozen=("^embed/",))
  new = run(optim.SGD(1.0, clip=1e-2, groups=groups), params, [grads])
  moved = jax.tree.map(jnp.subtract, params, new)
  np.testing.assert_allclose(optax.tree.norm(moved), 1e-2, rtol=1e-3)


def test_rates_multiply_the_learning_rate_and_the_first_match_wins():
  params, grads = scanned(looped(0)), scanned(looped(1))
  groups = optim.Groups(rates=(("^embed/", 0.1), ("kernel$", 0.5), ("table", 7.0)))
  apart = run(optim.AdamW(0.01, weight_decay=0.1, groups=groups), params, [grads])
  alike = run(optim.AdamW(0.01, weight_decay=0.1), params, [grads])
  for (path, p), a, b in zip(
    jax.tree.leaves_with_path(params), jax.tree.leaves(apart), jax.tree.leaves(alike)
  ):
    factor = groups.rate(names(path, p)[0])
    np.testing.assert_allclose(a - p, factor * (b - p), rtol=1e-4, atol=1e-6)
  assert groups.rate("embed/table") == 0.1 and groups.rate("final_norm/scale") == 1.0


@by_name
@pytest.mark.parametrize("frozen", [(), ("^embed/",)])
def test_optax_finds_the_parameters_in_the_state(optimizer, frozen):
  optimizer = dataclasses.replace(optimizer, groups=optim.Groups(frozen=frozen))
  transformation, params = optimizer.build(10), scanned(looped(0))
  state = transformation.init(params)

  def absent(x):
    return isinstance(x, optax.MaskedNode)

  spelled = jax.tree.map_with_path(lambda path, _: jax.tree_util.keystr(path), params)
  mapped = optax.tree_map_params(
    transformation,
    lambda leaf, name: leaf if absent(leaf) else name,
    state,
    spelled,
    transform_non_params=lambda leaf: "",
    is_leaf=absent,
  )
  found = {}
  for path, name in jax.tree.leaves_with_path(mapped):
    found.setdefault(bool(name), []).append(path)
    # The path of a moment ends in the path of its parameter: shardings follow it.
    assert jax.tree_util.keystr(path).endswith(name)
  assert len(found[True]) >= len(jax.tree.leaves(params)) - len(frozen)
  assert all(jax.tree_util.keystr(path).endswith(".count") for path in found[False])


@pytest.mark.parametrize(
  "groups, words",
  [
    (optim.Groups(frozen=("atention",)), ["frozen='atention'", "Did you mean 'attention'?"]),
    (optim.Groups(rates=(("blocks/9/", 0.1),)), ["rates='blocks/9/'", "Paths are blocks/"]),
    (optim.Groups(decay="weights$"), ["decay='weights$'", "matches no parameter"]),
    (optim.Groups(frozen=("kernel|table",)), ["decay=", "matches no parameter that is trained"]),
    (optim.Groups(frozen=("(",)), ["frozen='('", "not a regular expression"]),
    (optim.Groups(frozen="embed"), ["must be a tuple", "('embed',)"]),
    (optim.Groups(frozen=("",)), ["leaves no parameter to train"]),
    (optim.Groups(frozen=("blocks/0/",)), ["not every layer", "layers='loop'"]),
  ],
)
def test_an_expression_that_matches_nothing_says_what_exists(groups, words):
  transformation = optim.AdamW(1e-3, weight_decay=0.1, groups=groups).build(3)
  with pytest.raises(UserError) as error:
    jax.eval_shape(transformation.init, scanned(looped(0)))
  assert all(word in str(error.value) for word in words), error.value


def test_muon_refuses_what_is_no_matrix():
  for matrices, word in (("scale", "blocks/0/norm/scale"), ("nothing", "matrices='nothing'")):
    with pytest.raises(UserError, match=word):
      optim.Muon(1e-2, matrices=matrices).build(3).init(looped(0))


@pytest.mark.parametrize(
  "optimizer, word",
  [
    (optim.AdamW(1e-3, b2=1.0), "b2=1.0"),
    (optim.AdamW(1e-3, clip=0.0), "clip=0.0"),
    (optim.SGD(1e-3, weight_decay=-1.0), "weight_decay=-1.0"),
    (optim.SGD("fast"), "learning_rate='fast'"),
    (optim.SGD(-1.0), "value=-1.0"),
    (optim.SGD(math.nan), "value=nan"),
  ],
)
def test_impossible_hyperparameters_are_the_users_mistake(optimizer, word):
  with pytest.raises(UserError, match=word):
    optimizer.build(10)


def test_describe_counts_how_parameters_are_treated():
  groups = optim.Groups(frozen=("^embed/",), rates=(("blocks/0/.*up/kernel", 0.5),))
  optimizer = optim.Muon(0.02, weight_decay=0.1, groups=groups)
  for params in (looped(0), scanned(looped(0))):
    lines = optim.describe(optimizer, jax.eval_shape(lambda p=params: p)).splitlines()
    assert f"frozen: {V * D} numbers in 1 arrays, as embed/table" in lines
    assert any(
      line.startswith(f"Muon, learning rate x 0.5, weight decay 0.1: {D * F} num") for line in lines
    )
    assert any(line.startswith("AdamW, learning rate x 0.1, weight decay 0:") for line in lines)
    assert len(lines) == 4


def test_optimizers_are_values_with_dotted_overrides():
  optimizer = optim.AdamW(optim.Cosine(1e-3, warmup=10), clip=1.0)
  changed = override(
    {"optimizer": optimizer},
    {"optimizer.learning_rate.peak": 2e-3, "optimizer.groups.frozen": ("^embed/",)},
  )["optimizer"]
  assert changed.learning_rate == optim.Cosine(2e-3, warmup=10)
  assert changed.groups.frozen == ("^embed/",)
  assert override({"o": optimizer}, {"o.learning_rate": 1e-4})["o"].learning_rate == 1e-4
  assert hash(optimizer) == hash(optim.AdamW(optim.Cosine(1e-3, warmup=10), clip=1.0))


# Schedules


def test_transformer_schedule_is_the_papers():
  rate = optim.InverseSquareRoot(warmup=4000, width=512).build(100_000)
  for t in (1, 100, 3999, 4000, 4001, 50_000, 100_000):
    paper = 512**-0.5 * min(t**-0.5, t * 4000**-1.5)
    np.testing.assert_allclose(rate(t - 1), paper, rtol=1e-6)
  same = optim.InverseSquareRoot(warmup=4000, peak=2048_000**-0.5).build(100_000)
  np.testing.assert_allclose(same(77), rate(77), rtol=1e-6)


def test_schedules_at_known_points():
  linear = optim.Linear(1.0, warmup=10, final=0.2).build(110)
  cosine = optim.Cosine(1.0, warmup=10, final=0.2).build(110)
  stable = optim.WarmupStableDecay(1.0, warmup=10, decay=0.5, final=0.2).build(100)
  for i, value in ((0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (60, 0.6), (35, 0.8)):
    np.testing.assert_allclose(linear(i), value, rtol=1e-6)
  for i in (0, 4, 9, 10, 30, 60, 109):
    fall = 0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * max(0, i - 10) / 100))
    np.testing.assert_allclose(cosine(i), min((i + 1) / 10, fall), rtol=1e-5)
  for i, value in ((0, 0.1), (9, 1.0), (50, 1.0), (75, 0.6), (99, 0.2 + 0.8 / 50), (100, 0.2)):
    np.testing.assert_allclose(stable(i), value, rtol=1e-6)
  assert optim.Constant(0.3).build(1)(0) == np.float32(0.3)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_no_update_is_spent_at_zero(schedule):
  steps = 20
  rate = schedule.build(steps)
  values = np.asarray(jax.jit(jax.vmap(rate))(jnp.arange(steps)))
  assert values.dtype == np.float32 and values.min() > 0
  peak = values.max()
  np.testing.assert_allclose(values[:5], peak * np.arange(1, 6) / 5, rtol=1e-6)
  assert np.all(np.diff(values[5:]) <= 1e-9)
  assert rate(10 * steps) <= values[-1] + 1e-9  # beyond the end it does not rise again


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_a_warmup_that_fills_the_run_is_the_users_mistake(schedule):
  with pytest.raises(UserError, match=r"warmup=5 .*steps=5"):
    schedule.build(5)


@pytest.mark.parametrize(
  "schedule, word",
  [
    (optim.InverseSquareRoot(warmup=5), "exactly one"),
    (optim.InverseSquareRoot(warmup=5, width=4, peak=1.0), "exactly one"),
    (optim.InverseSquareRoot(warmup=0, width=4), "warmup=0"),
    (optim.WarmupStableDecay(1.0, warmup=5, decay=0.9), "decay=0.9"),
    (optim.WarmupStableDecay(1.0, warmup=5, decay=0.0), "decay=0.0"),
    (optim.Cosine(1.0, warmup=-1), "warmup=-1"),
    (optim.Cosine(math.inf, warmup=1), "peak=inf"),
  ],
)
def test_impossible_schedules_are_the_users_mistake(schedule, word):
  with pytest.raises(UserError, match=word):
    schedule.build(20)


def test_the_logged_rate_is_the_one_used():
  optimizer = optim.SGD(optim.Cosine(0.1, warmup=3))
  transformation, params = optimizer.build(10), {"kernel": jnp.ones(2)}
  state = transformation.init(params)
  for i in range(6):
    updates, state = transformation.update(params, state, params)
    rate = optim.learning_rate(optimizer, 10, jnp.asarray(i))
    np.testing.assert_allclose(-updates["kernel"], rate, rtol=1e-6)
  assert optim.learning_rate(optim.AdamW(3e-4), 10, 4) == np.float32(3e-4)


# Average


def test_average_forgets_its_start_and_then_decays():
  mean = value = 5.0
  tree = {"kernel": jnp.full(3, 5.0)}
  for t in range(200):
    p = math.sin(t)
    tree = jax.jit(optim.average, static_argnums=2)(tree, {"kernel": jnp.full(3, p)}, 0.9, t)
    keep = min(0.9, (1 + t) / (10 + t))
    mean = keep * mean + (1 - keep) * p
  np.testing.assert_allclose(tree["kernel"], mean, rtol=1e-4, atol=1e-6)
  assert abs(mean) < 1 < value
  with pytest.raises(UserError, match="decay of a mean"):
    optim.average(tree, tree, 1.5, 0)
