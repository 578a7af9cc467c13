"""What we write is asked of transformers itself, where an interpreter has it and torch.

RESEARCH_PEER_PYTHON=/path/to/python python -m pytest tests/test_hf_live.py
"""

import os
import pathlib
import subprocess

import hf_cases
import hf_ours
import jax
import numpy as np
import pytest
from hf_ours import CASES
from safetensors.numpy import load_file

from research import hf
from research.stacking import unstack

PEER = os.environ.get("RESEARCH_PEER_PYTHON")
SCRIPT = pathlib.Path(__file__).with_name("make_hf_goldens.py")
pytestmark = [
  pytest.mark.skipif(
    not PEER, reason="RESEARCH_PEER_PYTHON names no interpreter with transformers"
  ),
  pytest.mark.slow,
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
  """The folder that we wrote of every case, and the one that transformers made of it."""
  ours, theirs = (tmp_path_factory.mktemp(name) for name in ("ours", "theirs"))
  sources = tmp_path_factory.mktemp("sources")
  for name, case in CASES.items():
    found = hf.read(hf_ours.make(case, sources / name))
    numbers = {n: x for n, x in case.values.items() if n.endswith("token_id")}
    if case.kind in ("clip", "siglip"):
      numbers = {"text_config": hf_cases.TOKENS}
    about = {"model_type": case.kind, "architectures": [case.architecture], **numbers}
    hf.write(ours / name, found.model, unstack(found.params), config=about)
  subprocess.run([PEER, str(SCRIPT), str(ours), str(theirs)], check=True)
  return ours, theirs


@pytest.mark.parametrize("name", CASES)
def test_transformers_loads_what_we_write_and_predicts_what_we_do(name, asked):
  case, (ours, theirs) = CASES[name], asked
  found = hf.read(ours / name)
  wanted = dict(np.load(theirs / f"{name}.npz"))
  seen = hf_ours.differences(case, hf_ours.predicted(case, found.model, found.params), wanted)
  assert seen and max(seen.values()) < 1e-5, seen


@pytest.mark.parametrize("name", CASES)
def test_what_transformers_saves_is_what_it_was_given(name, asked):
  before, after = (load_file(folder / name / "model.safetensors") for folder in asked)
  assert {n: (x.shape, x.tobytes()) for n, x in before.items()} == {
    n: (x.shape, x.tobytes()) for n, x in after.items()
  }
  again = hf.read(asked[1] / name)
  assert again.model == hf.read(asked[0] / name).model
  jax.tree.map(np.testing.assert_array_equal, again.params, hf.read(asked[0] / name).params)
