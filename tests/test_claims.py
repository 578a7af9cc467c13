"""Claims are borne out where the runs bear them out, and never by noise."""

import dataclasses
import math

import numpy as np
import pytest

import research
from research import statistics
from research.claims import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Outcome, Results
from research.errors import UserError
from research.power_laws import Chinchilla, Kaplan, fit

SAID = {"paper": "Xiong et al. 2020", "where": "figure 4", "sentence": "Pre-LN trains better."}
PRE = research.Claim("pre", better="pre", worse="post", metric="heldout.loss", **SAID)


def results(arms, **more):
  """Results of losses by arm, one for each seed."""
  return Results(
    {
      arm: {seed: Outcome({"heldout.loss": x}, **more) for seed, x in enumerate(values)}
      for arm, values in arms.items()
    }
  )


def noisy(values, seed, noise=0.01, seeds=3, shared=1.0):
  """Losses around these, by arm; the seeds have noise of their own, which pairs take out."""
  random = np.random.default_rng(seed)
  shared = shared * random.normal(size=seeds)
  return results({arm: x + shared + noise * random.normal(size=seeds) for arm, x in values.items()})


def test_an_arm_that_is_better_in_every_seed_is_better():
  verdict = PRE.judge(noisy({"pre": 1.0, "post": 1.2}, 0))
  assert verdict.outcome == REPRODUCED
  assert verdict.effect.low < 0.2 < verdict.effect.high
  assert len(verdict.pairs) == 3 and math.isnan(verdict.paper)


def test_the_opposite_is_not_reproduced():
  assert PRE.judge(noisy({"pre": 1.2, "post": 1.0}, 0)).outcome == NOT_REPRODUCED


def test_more_can_be_better():
  claim = dataclasses.replace(PRE, lower=False, numbers=(0.9, 0.7))
  verdict = claim.judge(noisy({"pre": 1.2, "post": 1.0}, 0))
  assert verdict.outcome == REPRODUCED and verdict.paper == pytest.approx(0.2)


def test_nothing_is_better_inside_of_the_noise():
  """A planted null: two equal arms with other seeds, a hundred times."""
  found = [PRE.judge(noisy({"pre": 1.0, "post": 1.0}, seed)).outcome for seed in range(100)]
  assert found.count(REPRODUCED) <= 8 and found.count(NOT_REPRODUCED) <= 8


def test_an_effect_of_the_size_that_could_be_seen_is_seen():
  """A planted effect, of the size that is stated for the true noise of a pair's difference."""
  noise = 0.01
  effect = statistics.detectable(noise * math.sqrt(2), 3)
  arms = {"pre": 1.0, "post": 1.0 + effect}
  found = [PRE.judge(noisy(arms, seed, noise)).outcome for seed in range(200)]
  assert found.count(REPRODUCED) >= 0.75 * 200
  assert found.count(NOT_REPRODUCED) == 0


ALIKE = research.Alike("same", one="pre", other="post", within=0.05, metric="heldout.loss", **SAID)


def positive(values, seed, noise=0.01):
  """As losses are, so that shares of them can be taken."""
  return noisy(values, seed, noise, shared=0.1)


def test_arms_are_alike_where_no_difference_that_matters_has_room():
  equal, apart = {"pre": 1.0, "post": 1.0}, {"pre": 1.0, "post": 1.2}
  assert ALIKE.judge(positive(equal, 0)).outcome == REPRODUCED
  assert ALIKE.judge(positive(apart, 0)).outcome == NOT_REPRODUCED
  assert ALIKE.judge(positive({"pre": 1.2, "post": 1.0}, 0)).outcome == NOT_REPRODUCED
  verdict = dataclasses.replace(ALIKE, numbers=(4.92, 4.90)).judge(positive(equal, 0, noise=0.1))
  assert verdict.outcome == INCONCLUSIVE and "partly" in verdict.reason
  assert verdict.paper == pytest.approx(4.90 / 4.92 - 1) and verdict.asked == (-0.05, 0.05)


def test_of_nothing_there_is_no_share():
  verdict = ALIKE.judge(results({"pre": [0.0, 1.0, 1.0], "post": [1.0, 1.0, 1.0]}))
  assert verdict.outcome == INCONCLUSIVE and "not above 0" in verdict.reason
  with pytest.raises(UserError, match="not above 0"):
    dataclasses.replace(ALIKE, numbers=(0.0, 4.9))


def test_arms_that_differ_by_more_than_the_tolerance_are_seldom_called_alike():
  """A planted difference at the edge of the tolerance: called alike by chance, one time in 40."""
  edge = {"pre": 1.0, "post": 1.0 + ALIKE.within}
  found = [ALIKE.judge(positive(edge, seed)).outcome for seed in range(200)]
  assert found.count(REPRODUCED) <= 0.08 * 200


@pytest.mark.parametrize(
  ("change", "told"), [({"within": 0.0}, "no tolerance"), ({"numbers": (1.0,)}, r"\(one, other\)")]
)
def test_a_claim_of_likeness_that_cannot_be_judged_is_told(change, told):
  with pytest.raises(UserError, match=told):
    dataclasses.replace(ALIKE, **change)


def test_an_effect_as_the_papers_can_be_excluded():
  arms = {"pre": 1.0, "post": 1.0}
  claim = dataclasses.replace(PRE, numbers=(1.0, 1.5))
  assert claim.judge(noisy(arms, 1)).outcome == NOT_REPRODUCED
  assert dataclasses.replace(claim, least=0.3).judge(noisy(arms, 1)).outcome == NOT_REPRODUCED
  # In another unit nothing is excluded by it.
  assert dataclasses.replace(claim, unit="BLEU").judge(noisy(arms, 1)).outcome == INCONCLUSIVE


def test_what_is_surely_better_by_too_little_is_not_reproduced():
  little = noisy({"pre": 1.0, "post": 1.1}, 1)
  assert PRE.judge(little).outcome == REPRODUCED
  assert dataclasses.replace(PRE, least=0.3).judge(little).outcome == NOT_REPRODUCED
  # Less than in the paper, whose scale is another, is borne out all the same.
  assert dataclasses.replace(PRE, numbers=(1.0, 1.5)).judge(little).outcome == REPRODUCED
  exact = results({"pre": [1.0] * 3, "post": [1.1] * 3})
  assert dataclasses.replace(PRE, least=0.3).judge(exact).outcome == NOT_REPRODUCED


def test_arms_without_noise_are_told_apart():
  verdict = PRE.judge(results({"pre": [1.0] * 3, "post": [1.1] * 3}))
  assert verdict.outcome == REPRODUCED and "no noise" in verdict.reason
  assert PRE.judge(results({"pre": [1.0] * 3, "post": [1.0] * 3})).outcome == NOT_REPRODUCED


@pytest.mark.parametrize(
  "found, said",
  [
    (results({"pre": [1.0] * 3}), "There is no arm 'post'"),
    (results({"pre": [1.0] * 3, "post": [1.1] * 2}), "2 of 3 seeds are complete"),
    (results({"pre": [1.0] * 3, "post": [1.1, math.nan, 1.2]}), "post/seed_1 diverged"),
    (
      Results({arm: {s: Outcome({"test.loss": 1.0}) for s in range(3)} for arm in ("pre", "post")}),
      "did not measure heldout.loss. Did you mean 'test.loss'?",
    ),
    (
      Results({arm: {s: Outcome(failure="failed") for s in range(3)} for arm in ("pre", "post")}),
      "0 of 3 seeds are complete: pre failed with seeds 0, 1, 2; post failed",
    ),
  ],
)
def test_what_is_missing_decides_nothing_and_is_named(found, said):
  verdict = PRE.judge(found)
  assert verdict.outcome == INCONCLUSIVE and said in verdict.reason and verdict.effect is None


@pytest.mark.parametrize(
  "wrong, said",
  [
    ({"worse": "pre"}, "twice"),
    ({"metric": "loss"}, "heldout.loss"),
    ({"seeds": 1}, "at least 2"),
    ({"numbers": (1.0,)}, "better, worse"),
    ({"numbers": (1.0, 0.9)}, "better, worse"),
    ({"where": ""}, "where"),
    ({"least": -1.0}, "size"),
  ],
)
def test_a_claim_that_cannot_be_judged_is_refused(wrong, said):
  with pytest.raises(UserError, match=said):
    dataclasses.replace(PRE, **wrong)


SIZES = research.Trend("sizes", ordered=("s", "m", "l"), metric="heldout.loss", **SAID)


def test_a_trend_goes_on_all_the_way():
  verdict = SIZES.judge(noisy({"s": 1.4, "m": 1.2, "l": 1.0}, 0))
  assert verdict.outcome == REPRODUCED
  assert verdict.effect.low < 0.2 < verdict.effect.high
  assert SIZES.judge(noisy({"s": 1.0, "m": 1.2, "l": 1.4}, 0)).outcome == NOT_REPRODUCED


def test_a_curve_that_turns_is_no_trend():
  verdict = SIZES.judge(noisy({"s": 1.6, "m": 1.0, "l": 1.2}, 0))
  assert verdict.outcome == NOT_REPRODUCED and "m to l" in verdict.reason
  unclear = SIZES.judge(results({"s": [1.6] * 3, "m": [1.0, 1.1, 0.9], "l": [1.02, 1.08, 0.93]}))
  assert unclear.outcome == INCONCLUSIVE and "m to l" in unclear.reason


def test_the_papers_figures_go_the_way_of_the_trend():
  with pytest.raises(UserError, match="lower=False"):
    dataclasses.replace(SIZES, numbers=(0.6, 0.7, 0.8))


def test_equal_arms_are_no_trend():
  found = [SIZES.judge(noisy({"s": 1, "m": 1, "l": 1}, seed)).outcome for seed in range(100)]
  assert found.count(REPRODUCED) <= 8


DATA = research.Crossing(
  "data",
  first=("ngram_1k", "ngram_10k", "ngram_100k"),
  then=("gpt_1k", "gpt_10k", "gpt_100k"),
  at=(1e3, 1e4, 1e5),
  scale="tokens",
  metric="heldout.loss",
  **SAID,
)


def curves(first, then):
  return dict(zip(DATA.arms(), (*first, *then), strict=True))


def test_curves_that_cross():
  verdict = DATA.judge(noisy(curves((2.0, 1.8, 1.6), (3.0, 1.9, 1.5)), 0))
  assert verdict.outcome == REPRODUCED
  # From 0.1 behind to 0.1 ahead: halfway between 1e4 and 1e5 on a logarithmic scale.
  name, place = verdict.facts[0]
  assert name == "crossing" and 2.6e4 < float(place.split()[0].replace(",", "")) < 4e4
  assert verdict.effect.low < 0.1 < verdict.effect.high
  assert [(line.name, len(line.points)) for line in verdict.lines] == [("ngram", 9), ("gpt", 9)]


def test_curves_that_do_not_cross():
  verdict = DATA.judge(noisy(curves((2.0, 1.8, 1.6), (3.0, 2.9, 2.5)), 0))
  assert verdict.outcome == NOT_REPRODUCED and "At 100,000" in verdict.reason
  assert "none between" in verdict.facts[0][1]


def test_curves_that_may_cross_decide_nothing():
  noise = noisy(curves((2.0, 1.8, 1.6), (3.0, 1.9, 1.6)), 0)
  assert DATA.judge(noise).outcome == INCONCLUSIVE


def test_a_crossing_shows_the_end_that_decides():
  wide = {"gpt_100k": [1.0, 1.2, 2.0], "ngram_100k": [1.6] * 3}
  found = {arm: [x] * 3 for arm, x in curves((2.0, 1.8, 1.6), (2.1, 1.9, 1.5)).items()} | wide
  verdict = DATA.judge(results(found))
  assert verdict.outcome == INCONCLUSIVE and "At 100,000" in verdict.reason
  assert verdict.effect.low < 0 < verdict.effect.high


def test_crossing_places_ascend():
  with pytest.raises(UserError, match="ascend"):
    dataclasses.replace(DATA, at=(1e3, 1e5, 1e4))
  with pytest.raises(UserError, match="as many"):
    dataclasses.replace(DATA, at=(1e3, 1e4))


LAW = Chinchilla(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)
GRID = {f"n{i}_d{j}": (7e7 * 6**i, 1e9 * 6**j) for i in range(3) for j in range(3)}
SCALING = research.ScalingLaw(
  "law",
  fitted=tuple(GRID),
  held_back="large",
  metric="heldout.loss",
  within=0.02,
  numbers=(0.34, 0.28),
  **SAID,
)


def scaled(law, noise, off=1.0):
  """Runs on the grid, and a larger one that misses the law by a factor."""
  random = np.random.default_rng(0)
  outcomes = {}
  for arm, (N, D) in {**GRID, "large": (7e10, 1e12)}.items():
    loss = law.loss(N, D) * (off if arm == "large" else 1)
    outcomes[arm] = {
      seed: Outcome({"heldout.loss": loss * math.exp(noise * random.normal())}, N, D)
      for seed in range(3)
    }
  return Results(outcomes)


def test_a_law_is_found_again():
  N, D = np.array(list(GRID.values())).T
  found = fit(N, D, LAW.loss(N, D))
  np.testing.assert_allclose(dataclasses.astuple(found), dataclasses.astuple(LAW), rtol=1e-4)
  spoiled = LAW.loss(N, D) * np.where(np.arange(len(N)) == 3, 1.5, 1.0)
  np.testing.assert_allclose(fit(N, D, spoiled).loss(7e10, 1e12), LAW.loss(7e10, 1e12), rtol=3e-3)


def test_in_one_size_it_is_kaplans_law():
  N = np.array([1e6, 1e7, 1e8])
  found = fit(N, np.full(3, 1e9), Kaplan(8.8e13, 0.076, "parameters").loss(N, N))
  assert found.of == "parameters"
  np.testing.assert_allclose((found.S, found.alpha), (8.8e13, 0.076), rtol=1e-6)
  assert fit(np.full(3, 1e9), N, np.array([3.0, 2.5, 2.1])).of == "tokens"


def test_sizes_that_fix_no_law_are_refused():
  with pytest.raises(UserError, match="three of each"):
    fit(np.array([1e6, 1e7, 1e7]), np.array([1e9, 1e9, 1e8]), np.ones(3))


def test_few_points_fix_no_law_of_five_numbers():
  N = np.array([1e6, 4e6, 1.6e7])
  with pytest.raises(UserError, match="3 pairs"):
    fit(N, 20 * N, LAW.loss(N, 20 * N))


def test_a_flat_line_is_no_power_law():
  N = np.array([1e6, 4e6, 1.6e7])
  with pytest.raises(UserError, match="hardly changes"):
    fit(N, np.full(3, 1e9), 2.0 - 1e-4 * np.log(N / 1e6))


def test_a_law_of_one_size_foretells_nothing_of_the_other():
  alone = dataclasses.replace(SCALING, fitted=("n0_d0", "n1_d0", "n2_d0"))
  verdict = alone.judge(scaled(LAW, noise=1e-3))
  assert verdict.outcome == INCONCLUSIVE and "nothing of tokens" in verdict.reason


def test_small_runs_foretell_a_large_one():
  verdict = SCALING.judge(scaled(LAW, 0.0002))
  assert verdict.outcome == REPRODUCED
  facts = dict(verdict.facts)
  assert facts["exponents in the paper"] == "0.34, 0.28" and "N^0.3" in facts["law"]
  # A line for each amount of data, on which the runs lie; the held-back one has its own.
  assert len(verdict.lines) == 4 and verdict.across == "parameters"
  (x, y), *_ = verdict.lines[-1].points
  assert x == 7e10 and y == pytest.approx(float(LAW.loss(7e10, 1e12)), rel=0.01)


def test_a_run_that_the_law_misses():
  assert SCALING.judge(scaled(LAW, 0.0002, off=1.1)).outcome == NOT_REPRODUCED
  assert SCALING.judge(scaled(LAW, 0.01)).outcome == INCONCLUSIVE


def test_a_law_needs_sizes_that_runs_wrote():
  bare = results({arm: [1.0, 1.1, 1.2] for arm in SCALING.arms()})
  assert "did not write its parameters" in SCALING.judge(bare).reason
