"""What ablations of language models need besides: problems in context, probes of states, masks."""

import dataclasses
import itertools
import json
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_experiments import ROOT, arguments

from research import InitFrom, UserError, checkpoint, data, load
from research.arms import arm_of
from research.cli import main
from research.data import masking
from research.in_context import InContext
from research.text_probe import TextProbe

MAPS = data.SymbolMaps(maps=40, pairs=8, asked=200)
ABLATIONS = ROOT / "experiments" / "ablations"
FILES = (
  "bert_masking",
  "bert_size",
  "bert_tasks",
  "gpt1_transfer",
  "gpt1_zero_shot",
  "gpt_fewshot",
  "gpt_scale",
  "ngram_crossing",
  "norm_position",
  "transformer_variants",
)


# Problems.


@dataclasses.dataclass(frozen=True)
class Vowels:
  """Texts of five letters; the label is a letter that only texts with this label have."""

  def read(self):
    draws = np.random.RandomState(0)
    for _ in range(200):
      label = draws.choice(list("aeo"))
      rest = "".join(draws.choice(list("bcdfg"), 4))
      yield {"texts": [rest[:2] + label + rest[2:]], "label": label}


def test_a_map_says_the_same_of_a_symbol_throughout_its_text():
  texts = list(MAPS.read())
  assert len(texts) == len(set(texts)) == 40
  for text in texts:
    pairs = set(text.split())
    assert len({pair[0] for pair in pairs}) == len(pairs)


def test_problems_of_few_shots_are_the_first_of_more_and_are_in_no_text():
  texts = {text[:24] for text in MAPS.read()}
  few, many = (list(MAPS.problems(shots)) for shots in (2, 7))
  for a, b in zip(few, many):
    assert (a.context[-1], a.answer) == (b.context[-1], b.answer)
    assert b.context.startswith(a.context[:-1])
    assert b.context[:21] not in {text[:21] for text in texts}


def test_what_was_shown_says_the_answer():
  shown = [p for p in MAPS.problems(16) if p.context[-1] in p.context[:-1]]
  assert 0.8 < len(shown) / 200 < 0.95  # 1 - (7 / 8)^16 = 0.88
  assert all(p.context[-1] + p.answer in p.context for p in shown)


def test_problems_of_a_file_are_shown_solved_before_the_one_that_is_asked(tmp_path):
  path = tmp_path / "sums.jsonl"
  rows = [{"context": f"Q: {i} + 1?\nA:", "completion": str(i + 1)} for i in range(5)]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  zero, two = (list(data.ProblemFile(str(path)).problems(shots)) for shots in (0, 2))
  assert zero[3] == ("Q: 3 + 1?\nA:", " 4\n\n", ())
  for number, problem in enumerate(two):
    asked = [int(n) for n in re.findall(r"Q: (\d)", problem.context)]
    assert asked[-1] == number and len(set(asked)) == 3 and problem.answer == zero[number].answer
    assert problem.context.startswith(f"Q: {asked[0]} + 1?\nA: {asked[0] + 1}\n\n")
  with pytest.raises(UserError, match="too few to show 5"):
    next(data.ProblemFile(str(path)).problems(5))


def test_problems_in_a_txt_are_refused(tmp_path):
  (tmp_path / "a.txt").write_text("Q: 1 + 1?\n")
  with pytest.raises(
    UserError, match=r"a\.txt: a \.txt has no columns; name it \.jsonl, \.csv, \.tsv"
  ):
    data.ProblemFile(str(tmp_path / "a.txt")).problems(0)


def test_every_label_has_its_text_and_the_right_one_comes_first():
  problems = data.WhichLabel(Vowels(), "{label} {text}\n", (("a", "alpha"),)).problems(0)
  for problem, record in zip(problems, Vowels().read()):
    word = "alpha" if record["label"] == "a" else record["label"]
    assert problem.answer == f"{word} {record['texts'][0]}\n"
    said = {text.split(" ")[0] for text in (problem.answer, *problem.others)}
    assert said == {"alpha", "e", "o"} and len(problem.others) == 2
  with pytest.raises(UserError, match="must have the places"):
    data.WhichLabel(Vowels(), "{text}")


# Answers.


class Looks(nn.Module):
  """Expects after a token what followed the last token equal to it, and nothing where none did."""

  vocab_size: int = 257
  max_length: int = 64

  def encode(self, tokens_BL, segments_BL):
    L = tokens_BL.shape[1]
    before_LL = np.tri(L, k=-1)
    same_BLL = (tokens_BL[:, :, None] == tokens_BL[:, None, :]) * before_LL
    last_BL = jnp.max(same_BLL * jnp.arange(1, L + 1), axis=-1).astype(int)  # 0 is none
    after_BL = jnp.take_along_axis(tokens_BL, jnp.minimum(last_BL, L - 1), axis=1)
    return jax.nn.one_hot(after_BL, 257) * (last_BL > 0)[..., None]

  def table(self):
    return jnp.eye(257)


class Bytes:
  """A dataset with nothing but its vocabulary."""

  def prepare(self):
    return self

  vocabulary = data.Bytes().fit()


def test_who_looks_answers_what_was_shown_and_nothing_else():
  shots = (0, 1, 4, 16)
  found = InContext(MAPS, shots, rows=100).total(Looks(), {}, Bytes())
  for k in shots:
    shown = np.mean([p.context[-1] in p.context[:-1] for p in MAPS.problems(k)])
    assert found[f"exact_{k}"].mean() == pytest.approx(shown, abs=1e-9)
  gained = found["exact_16"].mean() - found["exact_0"].mean()
  assert found["gain"].mean() == pytest.approx(gained)


class Pairs(nn.Module):
  """What follows a token depends on that token alone."""

  max_length: int = 64

  def encode(self, tokens_BL, segments_BL):
    return jax.nn.one_hot(tokens_BL, 257)

  def table(self):
    return jnp.asarray(PAIRS)


PAIRS = np.random.RandomState(0).normal(size=(257, 257)).astype(np.float32)


def test_the_likelier_text_is_the_answer_and_chance_is_told():
  problems = data.WhichLabel(Vowels(), "{label}{text}.")
  found = InContext(problems, (0,), limit=50, rows=40).total(Pairs(), {}, Bytes())
  log_p = PAIRS.T - np.log(np.exp(PAIRS.T).sum(axis=1, keepdims=True))
  right = 0
  for problem in itertools.islice(problems.problems(0), 50):
    means = []
    for text in (problem.answer, *problem.others):
      whole = [256, *text.encode()]
      means.append(-np.mean([log_p[a, b] for a, b in itertools.pairwise(whole)]))
    right += means[0] < min(means[1:])
  assert 0 < right < 50
  assert found["accuracy_0"].mean() == pytest.approx(right / 50)
  assert found["accuracy_0"].chance == pytest.approx(1 / 3) and "gain" not in found


def test_a_problem_that_is_too_long_is_told():
  with pytest.raises(UserError, match="has 65 tokens, and the model reads max_length=64"):
    InContext(MAPS, (0, 21)).total(Looks(), {}, Bytes())
  with pytest.raises(UserError, match="numbers of solved problems"):
    InContext(MAPS, (4, 1))
  assert InContext(MAPS, (0,)).total(Looks(), {}, Bytes(), lambda: True) is None


# Probes.


class Firsts(nn.Module):
  """States that say each token, or all alike."""

  knows: bool

  def encode(self, tokens_BL, segments_BL):
    return jax.nn.one_hot(tokens_BL, 257) if self.knows else jnp.ones((*tokens_BL.shape, 2))


def test_a_probe_learns_what_states_know_and_else_what_chance_knows():
  probe = TextProbe(Vowels(), 8, (None, None, None), data.ByHash(heldout=0.3), limit=100)
  knows, blind = (probe.total(Firsts(x), {}, Bytes())["accuracy"] for x in (True, False))
  assert knows.mean() == 1 and knows.chance == pytest.approx(1 / 3)
  assert blind.mean() < 0.6
  assert probe.total(Firsts(True), {}, Bytes(), lambda: True) is None


def test_a_probe_of_no_rows_is_told():
  with pytest.raises(UserError, match="rows=0 asks nothing"):
    TextProbe(Vowels(), 8, (None, None, None), data.ByHash(heldout=0.3), rows=0)


# Masks.


@pytest.mark.parametrize(("masked", "random"), [(1.0, 0.0), (0.0, 1.0), (0.3, 0.2)])
def test_what_is_hidden_has_its_share_of_masks_and_random_tokens(masked, random):
  draws = np.random.RandomState(0)
  tokens = draws.randint(2, 10_000, (200, 64))
  hidden, places, targets = masking.mask(
    tokens,
    np.ones(tokens.shape, bool),
    np.full(200, 24),
    draws.uniform(size=(200, 3, 64)),
    room=24,
    stands_for=1,
    vocab_size=10_000,
    masked=masked,
    random=random,
  )
  now = np.take_along_axis(hidden, places, axis=1)
  assert np.mean(now == 1) == pytest.approx(masked, abs=0.03)
  assert np.mean(now == targets) == pytest.approx(1 - masked - random, abs=0.03)


def test_shares_of_masks_are_shares():
  words = data.SentencePiece(512, special=data.MARKS)
  with pytest.raises(UserError, match="1 at most together"):
    data.SentencePairs(data.TFDS("python_docs"), words, 64, 0.1, 0.0, masked=0.9, random=0.2)


# The files.


def test_arms_take_the_first_layers_of_the_other_run():
  made = load.recipe(f"{ABLATIONS / 'gpt1_transfer.py'}:small", ["start=run"]).experiments()
  starts = {e.name.split("/")[1]: e.init_from for e in made}
  assert starts["no_pretraining"] is None
  leaf = jax.ShapeDtypeStruct((2,), np.float32)
  there = {f"blocks/{i}/mlp/up/kernel": leaf for i in range(4)} | {"embed/table": leaf}
  here = {f"body/{name}": leaf for name in there} | {"head/kernel": leaf}
  for arm, layers in (("no_layer", 0), ("quarter_of_layers", 1), ("full", 4)):
    assert isinstance(starts[arm], InitFrom)
    match = starts[arm].match(here, there, "run")
    taken = sorted(re.findall(r"blocks/(\d)", " ".join(match.taken)))
    assert taken == [str(i) for i in range(layers)]
    assert "body/embed/table" in match.taken and "head/kernel" in match.new


def test_masks_are_asked_of_the_size_that_is_named():
  file = f"{ABLATIONS / 'bert_masking.py'}"
  for words, depth in (([], 12), (["size=large"], 24)):
    made = load.recipe(file, ["train=FILE", "seeds=1", *words]).experiments()
    assert {e.model.depth for e in made} == {depth}
    assert {e.evals["probe"].every for e in made} == {made[0].steps}


@pytest.mark.parametrize("name", FILES)
def test_claims_name_arms_of_both_scales(name):
  path = ABLATIONS / f"{name}.py"
  functions = load.functions(path)
  claims = functions["experiment"].__globals__["CLAIMS"]
  assert claims and len({claim.name for claim in claims}) == len(claims)
  for scale in ("experiment", "small"):
    knobs = {**arguments(functions[scale]), "seeds": 1}
    made = load.Recipe(path, scale, knobs, {}).experiments()
    there = {arm_of(e.name)[0] for e in made}
    for claim in claims:
      assert set(claim.arms()) <= there, (scale, claim.name)
      assert claim.metric.rpartition(".")[0] in made[0].evals


@pytest.mark.slow
def test_half_of_the_layers_are_those_of_the_other_run(tmp_path):
  file, few = ABLATIONS / "gpt1_transfer.py", "evals.heldout.batches=1"
  start, workdir = tmp_path / "start", tmp_path / "half"
  read = ["width=64", "steps=2", "limit=200000", few, "--workdir", str(start)]
  assert main(["run", f"{file}:pretrain", *read]) == 0
  small = [f"start={start}", "records=64", "steps=2", "seeds=1", few]
  small += ["model.body.width=64", "model.body.heads=1", "--workdir", str(workdir)]
  only = ["--only", "gpt1_transfer/half_of_layers/seed_0"]
  assert main(["run", f"{file}:small", *small, *only]) == 0
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    origin = checkpoints.stored(2).about["init_from"]
  assert str(start) in origin and "body/blocks/2/" in origin and "body/blocks/1/" not in origin
