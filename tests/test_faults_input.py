"""Bad input is harmless: short runs of the faults that people and files make."""

import pytest

from tests.faults import experiments, fuzz, inputs


@pytest.mark.parametrize(
  ("kind", "n"),
  [(experiments, 16), (inputs, 24), (fuzz, 51)],
  ids=["experiments", "inputs", "fuzz"],
)
def test_bad_input_is_told_in_a_line(kind, n):
  outcome = kind.run(n, 0, lambda tried, of: None)
  assert not outcome.failures
  assert outcome.held == outcome.tried == n
