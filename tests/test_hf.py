"""Hugging Face's models are ours on the same weights; folders go in and out without a bit changed.

What theirs predict is stored in golden/hf.npz; make_hf_goldens.py made it. `test_hf_live.py` asks
them again where they are installed.
"""

import functools
import json

import hf_cases
import hf_ours
import pytest
from hf_ours import CASES, GOLDEN
from safetensors.numpy import load_file

from research import hf
from research.stacking import names

TOLERANCE = 1e-5  # of the largest value


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
  """name -> the model of a case, read once for all tests, from the folder beside it."""
  folders = tmp_path_factory.mktemp("cases")

  @functools.cache
  def of(name):
    return hf.read(hf_ours.make(CASES[name], folders / name)), folders / name

  return of


@pytest.mark.parametrize("name", CASES)
def test_what_is_predicted_is_what_hugging_face_predicts(name, imported):
  case, (found, _) = CASES[name], imported(name)
  seen = hf_ours.differences(
    case, hf_ours.predicted(case, found.model, found.params), hf_ours.golden(case)
  )
  assert seen
  assert max(seen.values()) < TOLERANCE, seen


WRITING = [case.name for case in CASES.values() if case.greedy or case.beam]


@pytest.mark.parametrize("name", WRITING)
def test_what_is_written_is_the_same_token_for_token(name, imported):
  case, (found, _) = CASES[name], imported(name)
  way = "greedy" if case.greedy else "beam"
  written = hf_ours.written(case, found.model, found.params)
  for ours, theirs in zip(written, GOLDEN[f"{name}/{way}"], strict=True):
    theirs = theirs[: len(ours)] if hf_cases.END in theirs else theirs
    assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("name", CASES)
def test_what_came_in_goes_out_as_it_was(name, imported, tmp_path):
  (found, source) = imported(name)
  flat = dict(zip(names(found.params), flatten(found.params), strict=True))
  hf.write(tmp_path / "out", found.model, flat, config=found.config)
  before, after = (load_file(f / "model.safetensors") for f in (source, tmp_path / "out"))
  assert {n: (x.dtype, x.shape) for n, x in before.items()} == {
    n: (x.dtype, x.shape) for n, x in after.items()
  }
  assert all(before[n].tobytes() == after[n].tobytes() for n in before)
  config = json.loads((tmp_path / "out" / "config.json").read_text())
  assert config == found.config


def flatten(params):
  import jax

  return jax.tree.leaves(params)
