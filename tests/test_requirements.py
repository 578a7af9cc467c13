"""The lock file is of what setup.py asks for, whole, and for every Python that we support."""

import ast
import re
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
# `name==version ; marker \`, then its hashes.
LINE = re.compile(
  r"^([a-z0-9][a-z0-9.-]*==[^\s;]+(?: ; [^\\\n]+?)?) \\\n((?:    --hash=\S+(?: \\)?\n)+)", re.M
)


def asked() -> list[Requirement]:
  """What setup.py installs, and for its extras `dev` and `hf`."""
  tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
  values = {t.id: n.value for n in tree.body if isinstance(n, ast.Assign) for t in n.targets}
  setup = next(
    n.value for n in tree.body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)
  )
  given = {keyword.arg: keyword.value for keyword in setup.keywords}
  extras = dict(
    zip(map(ast.literal_eval, given["extras_require"].keys), given["extras_require"].values)
  )
  lists = [given["install_requires"], extras["dev"], extras["hf"]]
  lists = [values[node.id] if isinstance(node, ast.Name) else node for node in lists]
  return [Requirement(text) for node in lists for text in ast.literal_eval(node)]


def pinned() -> list[tuple[Requirement, list[str]]]:
  text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
  assert not LINE.sub("", re.sub(r"^#.*\n", "", text, flags=re.M)).strip()
  return [
    (Requirement(what), re.findall(r"--hash=(\S+)", hashes)) for what, hashes in LINE.findall(text)
  ]


def canonical(name: str) -> str:
  return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_holds_what_setup_asks_for(python):
  here = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
  there: dict[str, str] = {}
  for pin, _ in pinned():
    if pin.marker is None or pin.marker.evaluate(here):
      assert canonical(pin.name) not in there, f"{pin.name} is pinned twice"
      there[canonical(pin.name)] = next(iter(pin.specifier)).version
  for requirement in asked():
    version = there.get(canonical(requirement.name))
    assert version, f"{requirement.name} is not in the lock; make it again, as its first lines say"
    assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: {version}"


def test_every_pin_has_hashes():
  pins = pinned()
  assert len(pins) > 50
  for pin, hashes in pins:
    assert [s.operator for s in pin.specifier] == ["=="] and hashes
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", found) for found in hashes), pin


def test_the_lock_says_how_it_is_made_and_names_no_other_index():
  text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
  command = text.split("\n")[1].removeprefix("#").strip()
  assert command.startswith("uv pip compile setup.py --universal --python-version 3.11 --extra dev")
  assert command in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
  assert not re.search(r"https?://|file:|--index|--find-links|--trusted-host", text)
