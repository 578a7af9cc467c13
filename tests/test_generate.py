"""Decoding: the cache changes nothing, neither do the neighbours; samplers against NumPy."""

import dataclasses
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import cli, screen
from research.data import Bytes
from research.data.hugging_face import HuggingFaceVocabulary
from research.errors import UserError
from research.generate import Greedy, Sample, Samples, generate, language, sampling, stream
from research.generate.samples import continued, opening
from research.models import GPT

V, L, STEPS = 40, 24, 16
SMALL = GPT(vocab_size=V, max_length=L, width=16, depth=2, heads=4)
MODERN = dict(norm="rms", positions="rotary", activation="swiglu", bias=False, tied=False)
VARIANTS = {
  "gpt1": SMALL.clone(norm_position="post"),
  "gpt2": SMALL,
  "gpt3": SMALL.clone(windows=(None, 3), layers="scan"),
  "modern": SMALL.clone(**MODERN, kv_heads=2),
}
RANDOM = np.random.default_rng(0)
PROMPTS = [RANDOM.integers(0, V, n).astype(np.int32) for n in (3, 7, 1)]
WARM = Sample(temperature=1.5)
KEY = jax.random.key(5)


def parameters(model, scale=0.2):
  """Random ones, larger than those that training starts from: every one should matter."""
  tokens = jnp.zeros((1, 4), jnp.int32)
  abstract = nn.meta.unbox(jax.eval_shape(model.init, jax.random.key(0), tokens))["params"]
  leaves, structure = jax.tree.flatten(abstract)
  random = np.random.default_rng(1)
  values = [jnp.asarray(scale * random.standard_normal(x.shape), x.dtype) for x in leaves]
  return jax.tree.unflatten(structure, values)


PARAMS = parameters(SMALL)


def write(prompts, model=SMALL, params=PARAMS, **settings):
  defaults = dict(steps=STEPS, sampler=WARM, key=KEY, end=None)
  return generate(model, params, prompts, **(defaults | settings))


@pytest.mark.parametrize("model", VARIANTS.values(), ids=VARIANTS)
def test_greedy_decoding_is_the_argmax_of_the_full_forward(model):
  params = parameters(model)
  written = write(PROMPTS, model, params, sampler=Greedy())
  assert written.shape == (3, STEPS)
  forward = jax.jit(model.apply)
  for prompt, row in zip(PROMPTS, written):
    text = list(prompt)
    for token in row:
      tokens_1L = np.pad(text, (0, L - len(text)))[None]
      logits_1LV = forward({"params": params}, tokens_1L)
      assert token == np.argmax(logits_1LV[0, len(text) - 1])
      text.append(token)
  assert len(np.unique(written)) > 1


@pytest.mark.parametrize("name", ["gpt3", "modern"])
def test_a_text_does_not_depend_on_its_neighbours(name):
  model = VARIANTS[name]
  params = parameters(model)
  together = write(PROMPTS, model, params)
  np.testing.assert_array_equal(write(PROMPTS[:1], model, params)[0], together[0])
  others = write([PROMPTS[2], PROMPTS[1], PROMPTS[2]], model, params)
  np.testing.assert_array_equal(others[1], together[1])


def test_padding_of_prompts_changes_nothing():
  longer = [*PROMPTS[:2], np.arange(18, dtype=np.int32)]  # the next power of two
  # Of the row with 18 tokens only 7 more fit.
  np.testing.assert_array_equal(write(longer)[:2], write(PROMPTS)[:2])


@pytest.mark.parametrize("chunk", [1, 4])
def test_pieces_are_the_whole(chunk):
  settings = dict(steps=STEPS, sampler=WARM, key=KEY, end=None)
  pieces = list(stream(SMALL, PARAMS, PROMPTS, **settings, chunk=chunk))
  assert all(piece.shape[1] <= max(chunk, 1) for piece in pieces)
  np.testing.assert_array_equal(np.concatenate(pieces, axis=1), write(PROMPTS))


def test_other_keys_write_other_texts_and_rows_differ():
  same = [PROMPTS[0]] * 3
  first, again, other = write(same), write(same), write(same, key=jax.random.key(6))
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()
  assert (first[0] != first[1]).any()


def test_a_text_ends_with_the_end_token_and_the_others_go_on():
  free = write(PROMPTS)
  end = int(free[0, 4])
  ended = write(PROMPTS, end=end)
  for row, without in zip(ended, free):
    stop = list(without).index(end) + 1 if end in without else STEPS
    np.testing.assert_array_equal(row[:stop], without[:stop])
    assert (row[stop:] == language.NOTHING).all()
  assert (ended[0] == language.NOTHING).any()


def test_decoding_stops_when_all_texts_have_ended():
  same = [PROMPTS[0]] * 3
  end = int(write(same, sampler=Greedy())[0, 0])
  assert write(same, sampler=Greedy(), end=end).shape == (3, 1)


def test_rows_that_only_fill_the_table_are_never_written():
  assert write(PROMPTS).max() >= V - 8
  never = language.wordless(SMALL, types.SimpleNamespace(vocab_size=V - 8))
  assert 0 <= write(PROMPTS, never=never).max() < V - 8


def test_fewer_steps_are_a_prefix():
  np.testing.assert_array_equal(write(PROMPTS, steps=3), write(PROMPTS)[:, :3])


def test_each_text_stops_where_the_model_is_full():
  # The last token is not read again, so that one more than max_length is written.
  prompts = [np.arange(n, dtype=np.int32) for n in (12, 16, L)]
  lengths = (write(prompts) != language.NOTHING).sum(axis=1)
  np.testing.assert_array_equal(lengths, [13, 9, 1])


@pytest.mark.parametrize(
  ("prompts", "settings", "message"),
  [
    ([np.zeros(L + 3, np.int32)], {}, "27 tokens is longer than the model's max_length=24; "),
    ([np.zeros(0, np.int32)], {}, "no tokens; begin with the end-of-text"),
    ([], {}, "no tokens"),
    (PROMPTS, {"steps": 0}, "steps=0 writes nothing"),
  ],
)
def test_prompts_that_cannot_be_continued_say_why(prompts, settings, message):
  with pytest.raises(UserError, match=message):
    write(prompts, **settings)


def test_programs_are_shared_between_lengths():
  model = SMALL.clone(epsilon=2e-5, depth=1)  # nobody else's
  params = parameters(model)
  before = language.read._cache_size(), language._write._cache_size()
  for length, steps in ((3, 10), (9, 16), (16, 12)):
    list(
      stream(
        model, params, [np.ones(length, np.int32)], steps=steps, sampler=WARM, key=KEY, end=None
      )
    )
  after = language.read._cache_size(), language._write._cache_size()
  assert [b - a for a, b in zip(before, after)] == [1, 1]


def test_bfloat16_models_write_as_with_float32_parameters():
  model = SMALL.clone(dtype="bfloat16", tied=False, depth=1)
  params = parameters(model)
  narrow = language.cast(params, "bfloat16")
  assert narrow["blocks"]["0"]["mlp"]["up"]["kernel"].dtype == jnp.bfloat16
  assert narrow["blocks"]["0"]["mlp_norm"]["scale"].dtype == jnp.float32
  written = write(PROMPTS, model, params, sampler=Greedy())
  np.testing.assert_array_equal(written, write(PROMPTS, model, narrow, sampler=Greedy()))
  tokens_BL = np.concatenate([np.tile(PROMPTS[1], (1, 1)), written[1:2]], axis=1)
  logits_BLV = jax.jit(model.apply)({"params": params}, tokens_BL)
  chosen = np.take_along_axis(logits_BLV[:, 6:-1], written[1:2, :, None], axis=-1)[..., 0]
  best, worst = logits_BLV[:, 6:-1].max(axis=-1), logits_BLV[:, 6:-1].min(axis=-1)
  assert (best - chosen < 0.02 * (best - worst)).all()


def test_parameters_spread_over_devices_write_the_same():
  mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))

  def spread(x):
    axes = ["fsdp" if size % 8 == 0 else None for size in x.shape]
    first = [a if a and i == axes.index(a) else None for i, a in enumerate(axes)]
    return jax.device_put(x, jax.NamedSharding(mesh, jax.P(*first)))

  np.testing.assert_array_equal(write(PROMPTS, params=jax.tree.map(spread, PARAMS)), write(PROMPTS))


LOGITS = np.random.default_rng(2).normal(0, 3, (5, 100)).astype(np.float32)


def softmax(logits):
  weights = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
  return weights / weights.sum(axis=-1, keepdims=True)


def kept(cut, logits):
  cut_BV = np.asarray(cut)
  np.testing.assert_array_equal(cut_BV[np.isfinite(cut_BV)], logits[np.isfinite(cut_BV)])
  return np.isfinite(cut_BV)


TIED = np.repeat(np.array([[3.0, 1.0, 0.0, -1.0]], np.float32), 5, axis=1)[
  :, RANDOM.permutation(20)
]
UNIFORM = np.zeros((1, 16), np.float32)


@pytest.mark.parametrize("logits", [LOGITS, TIED, UNIFORM])
@pytest.mark.parametrize("k", [1, 7, 16, 1000])
def test_top_k_is_that_of_numpy(logits, k):
  order = np.argsort(-logits, axis=-1, kind="stable")[:, :k]
  expected = np.zeros(logits.shape, bool)
  np.put_along_axis(expected, order, True, axis=-1)
  np.testing.assert_array_equal(
    kept(jax.jit(sampling.top_k, static_argnums=1)(logits, k), logits), expected
  )


@pytest.mark.parametrize("logits", [LOGITS, TIED, UNIFORM])
@pytest.mark.parametrize("p", [1e-6, 0.1, 0.52, 0.9, 0.999, 1.0])
def test_top_p_is_that_of_numpy(logits, p):
  order = np.argsort(-logits, axis=-1, kind="stable")
  sums = np.cumsum(np.take_along_axis(softmax(logits), order, axis=-1), axis=-1)
  before = np.pad(sums[:, :-1], ((0, 0), (1, 0)))
  expected = np.zeros(logits.shape, bool)
  np.put_along_axis(expected, order, (before < p) | (p == 1), axis=-1)
  np.testing.assert_array_equal(
    kept(jax.jit(sampling.top_p, static_argnums=1)(logits, p), logits), expected
  )


def test_the_nucleus_of_many_tokens_reaches_p_and_no_less_would():
  logits = np.random.default_rng(3).normal(0, 4, (2, 50_257)).astype(np.float32)
  chosen = kept(sampling.top_p(logits, 0.95), logits)
  probs = softmax(logits)
  for row in range(2):
    mass, least = probs[row, chosen[row]].sum(), probs[row, chosen[row]].min()
    assert mass >= 0.95 - 1e-5 > mass - least - 2e-5
    assert probs[row, ~chosen[row]].max() <= least


@pytest.mark.parametrize(
  "sampler",
  [
    Sample(),
    Sample(0.5),
    Sample(2.0, top_k=9),
    Sample(top_p=0.8),
    Sample(1.5, top_k=20, top_p=0.9),
  ],
  ids=str,
)
def test_frequencies_are_those_of_the_distribution(sampler):
  n, logits = 40_000, LOGITS[:1]
  keys = jax.random.split(jax.random.key(7), n)
  drawn = jax.jit(sampler)(keys, jnp.broadcast_to(jnp.asarray(logits), (n, 100)))
  counts = np.bincount(np.asarray(drawn), minlength=100)

  expected = softmax(logits / sampler.temperature)[0]
  order = np.argsort(-expected, kind="stable")
  expected[order[sampler.top_k or 100 :]] = 0
  expected /= expected.sum()
  sums = np.cumsum(expected[order])
  expected[order[1:][sums[:-1] >= (sampler.top_p or 2)]] = 0
  expected *= n / expected.sum()
  assert (counts[expected == 0] == 0).all()
  often, rare = expected >= 5, (expected > 0) & (expected < 5)
  observed = np.append(counts[often], counts[rare].sum())
  wanted = np.append(expected[often], max(expected[rare].sum(), 1e-9))
  chi_square = ((observed - wanted)[wanted > 1] ** 2 / wanted[wanted > 1]).sum()
  freedom = (wanted > 1).sum() - 1
  assert chi_square < freedom + 4 * np.sqrt(2 * freedom) + 4  # beyond 4 standard deviations


def test_rare_tokens_are_drawn_as_often_as_they_should():
  # 50,000 tokens of probability 1e-6 each behind one of 0.95: beyond the sums of float32.
  logits = np.full(50_001, np.log(1e-6), np.float32)
  logits[0] = np.log(0.95)
  keys = jax.random.split(jax.random.key(8), 4000)
  drawn = np.asarray(jax.jit(jax.vmap(sampling.draw, (0, None)))(keys, logits))
  rare = drawn[drawn > 0]
  assert abs(len(rare) - 200) < 4 * np.sqrt(200)
  assert abs(rare.mean() - 25_000) < 4 * 50_000 / np.sqrt(12 * 200)


def test_the_impossible_is_never_drawn():
  logits = np.full((1000, 10), -np.inf, np.float32)
  logits[:, 9] = -3
  drawn = jax.jit(Sample())(jax.random.split(KEY, 1000), logits)
  assert (np.asarray(drawn) == 9).all()


@pytest.mark.parametrize(
  "sampler",
  [Sample(0.0), Sample(1e-39), Sample(1e-60), Sample(5.0, top_k=1), Sample(top_p=1e-9)],
  ids=str,
)
def test_what_leaves_one_token_is_greedy(sampler):
  keys = jax.random.split(KEY, 5)
  np.testing.assert_array_equal(jax.jit(sampler)(keys, LOGITS), Greedy()(keys, LOGITS))


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"temperature": -1.0}, "temperature=-1.0 must be a number from 0"),
    ({"temperature": float("nan")}, "temperature=nan must"),
    ({"top_k": 0}, "top_k=0 keeps no token"),
    ({"top_p": 0.0}, "top_p=0.0 is a probability"),
    ({"top_p": 1.5}, "top_p=1.5 is a probability"),
  ],
)
def test_samplers_that_cannot_be_say_why(settings, message):
  with pytest.raises(UserError, match=message):
    Sample(**settings)


def test_a_seed_has_32_bits(capsys):
  for seed in ("-1", str(2**32), "99999999999999999999"):
    with pytest.raises(SystemExit, match="2"):
      cli.main(["sample", "run", f"--seed={seed}"])
    assert "must be from 0 to 4,294,967,295" in capsys.readouterr().err


def test_samples_during_training_are_pairs_of_prompt_and_text():
  model = SMALL.clone(vocab_size=257, max_length=32, depth=1)
  words = Bytes().fit()
  samples = Samples(prompts=("ab", ""), tokens=8)
  written = samples.write(model, parameters(model), words)
  assert [prompt for prompt, _ in written] == ["ab", ""]
  assert all(isinstance(text, str) for _, text in written)
  assert written == samples.write(model, parameters(model), words)
  with pytest.raises(UserError, match="41 tokens is longer than the model's max_length=32"):
    Samples(prompts=("a" * 40,)).encoded(words, 32)
  for wrong in ({"prompts": ()}, {"prompts": ("",), "tokens": 0}, {"prompts": ("",), "every": 0}):
    with pytest.raises(UserError):
      Samples(**wrong)
  assert hash(dataclasses.replace(samples, tokens=9)) != hash(samples)


def llama():
  """A tokenizer of letters as Llama's: of a text that is decoded, the first space is dropped."""
  from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

  pieces = ["<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "\u2581", *"acehmnost"]
  ids = {piece: i for i, piece in enumerate(pieces)}
  tokenizer = Tokenizer(models.BPE(ids, [], byte_fallback=True))
  tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<s>", "</s>")])
  tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
  parts = decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()
  tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
  return HuggingFaceVocabulary(tokenizer.to_str(), "</s>", "<s>")


def test_documents_begin_with_end_of_text_unless_told_otherwise():
  words = llama()
  assert opening(words, "cat").tolist() == [words.end, *words.encode("cat")]
  assert opening(words, "cat", words.begin)[0] == words.begin != words.end


def test_a_continuation_keeps_the_space_before_it(monkeypatch):
  words = llama()
  sat = words.encode("sat")
  assert words.decode(sat) == "sat"
  assert continued(words, words.encode("the cat"), sat) == " sat"
  assert continued(words, words.encode(""), sat) == "sat"
  written = [np.array([[*sat[:2]]]), np.array([[*sat[2:], words.end]])]
  asked = {}
  monkeypatch.setattr(
    "research.generate.samples.stream", lambda *args, **more: asked.update(more) or iter(written)
  )
  padded = SMALL.clone(vocab_size=words.vocab_size + 2)
  texts = Samples(prompts=("the cat",)).write(padded, PARAMS, words)
  assert texts == [("the cat", " sat")]
  assert list(asked["never"]) == [words.vocab_size, words.vocab_size + 1]


@pytest.mark.parametrize("stop, shown", [(None, "the cat sat on\n"), (" on", "the cat sat\n")])
def test_the_screen_shows_a_text_as_it_would_be_read_in_one(stop, shown, capsys):
  words = llama()
  ids = [*words.encode("sat on"), words.end]
  pieces = (np.array([ids[i : i + 2]]) for i in range(0, len(ids), 2))
  screen.write(pieces, words, prompt="the cat", samples=1, tokens=99, stop=stop)
  assert capsys.readouterr().out == shown


def test_a_letter_that_comes_in_bytes_is_shown_when_it_is_whole(capsys):
  words = llama()
  ids = words.encode("\u4e16\u754c a")[1:]  # without the mark of the first word
  assert len(ids) == 8
  pieces = [np.array([[token]]) for token in (*ids, words.end)]
  screen.write(iter(pieces), words, prompt="\U0001f600", samples=1, tokens=99, stop=None)
  assert capsys.readouterr().out == "\U0001f600\u4e16\u754c a\n"
  broken = continued(words, words.encode("\U0001f600"), ids[:1])
  assert broken == "\ufffd", "and no letter of the prompt is broken by one that is not"
