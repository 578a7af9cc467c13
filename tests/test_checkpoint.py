"""Checkpoints hold one layer at a time, and give back what was saved or say what differs."""

import errno
import math
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import checkpoint, cli
from research.checkpoint import Checkpoints
from research.errors import IntegrityError, RunError, UserError
from research.fingerprint import fingerprints
from research.mesh import Sharding
from research.retention import Keep
from research.sharding import Layout
from research.stacking import names, restack, unstack

LAYOUT = Layout(Sharding().make_mesh(), Sharding().rules)


def scanned():
  return {
    "params": {
      "blocks": {
        "0::2": {"up": {"kernel": jnp.arange(12.0).reshape(2, 2, 3)}},
        "1::2": {"up": {"kernel": -jnp.arange(12.0).reshape(2, 2, 3)}},
      },
      "norm": {"scale": jnp.ones(3)},
    },
    "step": jnp.int32(7),
  }


def looped():
  flat = unstack(scanned())
  layers = {str(i): {"up": {"kernel": flat[f"params/blocks/{i}/up/kernel"]}} for i in range(4)}
  return {**scanned(), "params": {"blocks": layers, "norm": {"scale": jnp.ones(3)}}}


def abstract(tree):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=LAYOUT.replicated), tree
  )


def same(a, b):
  return jax.tree.structure(a) == jax.tree.structure(b) and all(
    np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def test_layers_are_stored_one_at_a_time_whatever_the_scan():
  assert sorted(unstack(scanned())) == sorted(names(looped()))
  assert same(restack(unstack(scanned()), abstract(scanned())), scanned())


@pytest.mark.parametrize("saved", [scanned, looped])
@pytest.mark.parametrize("wanted", [scanned, looped])
def test_what_was_saved_is_restored_also_under_the_other_scan(tmp_path, saved, wanted):
  checkpoints = Checkpoints(tmp_path, keep=Keep(2))
  checkpoints.save(3, saved())
  checkpoints.close()
  assert same(Checkpoints(tmp_path).restore(abstract(wanted())), wanted())


def test_a_part_can_be_restored_on_its_own(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=Keep(2))
  checkpoints.save(3, scanned())
  checkpoints.close()
  params = looped()["params"]
  assert same(Checkpoints(tmp_path).restore(abstract(params), under="params"), params)


@pytest.mark.parametrize(
  ("change", "told"),
  [
    (lambda t: t["params"]["norm"].update(scale=jnp.ones(4)), r"float32\[3\], wanted float32\[4\]"),
    (lambda t: t["params"]["norm"].update(scale=jnp.ones(3, jnp.bfloat16)), "wanted bfloat16"),
    (lambda t: t["params"]["norm"].update(bias=jnp.ones(3)), "params/norm/bias is missing"),
    (lambda t: t["params"].pop("norm"), "params/norm/scale is not of this model"),
  ],
)
def test_another_model_is_refused_with_what_differs(tmp_path, change, told):
  checkpoints = Checkpoints(tmp_path, keep=Keep(2))
  checkpoints.save(3, scanned())
  checkpoints.close()
  other = scanned()
  change(other)
  with pytest.raises(UserError, match=told):
    Checkpoints(tmp_path).restore(abstract(other))


def test_a_step_that_was_not_saved_names_those_that_were(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=Keep(2))
  checkpoints.save(3, scanned())
  checkpoints.close()
  with pytest.raises(UserError, match="no checkpoint of step 4; it has 3"):
    Checkpoints(tmp_path).restore(abstract(scanned()), step=4)


def numbered(step):
  return jax.tree.map(lambda x: x + jnp.asarray(step, x.dtype), scanned())


def save_all(folder, steps, keep=9):
  checkpoints = Checkpoints(folder, keep=Keep(keep))
  for step in steps:
    checkpoints.save(step, numbered(step))
  checkpoints.close()


def test_a_flipped_bit_of_an_array_is_seen_when_one_step_is_asked_for(tmp_path):
  save_all(tmp_path, [1])
  data = max((tmp_path / "1" / "d").iterdir(), key=lambda p: p.stat().st_size)
  content = bytearray(data.read_bytes())
  content[len(content) // 2] ^= 1
  data.write_bytes(content)
  with pytest.raises(IntegrityError, match="1 is damaged"):
    Checkpoints(tmp_path).restore(abstract(scanned()))


@pytest.mark.parametrize("part", ["", "d", "_CHECKPOINT_METADATA"])
def test_steps_that_have_changed_places_are_damaged(tmp_path, part):
  save_all(tmp_path, [1, 2])
  for old, new in ((f"1/{part}", "x"), (f"2/{part}", f"1/{part}"), ("x", f"2/{part}")):
    (tmp_path / old).rename(tmp_path / new)
  with pytest.raises(IntegrityError, match=r"no checkpoint in .* is whole \(2 moved to quarantine"):
    Checkpoints(tmp_path).restore_newest(abstract(scanned()))
  assert sorted(p.name for p in (tmp_path / "quarantine").iterdir()) == ["1-0", "2-0"]


def test_other_data_is_refused_and_nothing_is_touched(tmp_path):
  with Checkpoints(tmp_path, Keep(2), {"data": "old"}) as checkpoints:
    checkpoints.save(1, scanned())
  with pytest.raises(UserError, match=r"the data has changed .* was old, is new"):
    Checkpoints(tmp_path, Keep(2), {"data": "new"}).restore_newest(abstract(scanned()))
  assert Checkpoints(tmp_path).restore_newest(abstract(scanned()))[0] == 1


def test_what_is_best_or_pinned_or_a_multiple_stays(tmp_path):
  keep = Keep(1, every=4, lowest="heldout.loss", highest="heldout.accuracy")
  losses = [9.0, 2.0, 3.0, 1.5, math.nan, 1.8, 1.9]
  with Checkpoints(tmp_path, keep) as checkpoints:
    for step, loss in enumerate(losses, 1):
      checkpoints.save(step, numbered(step))
      checkpoints.scored(step, {"heldout.loss": loss, "heldout.accuracy": 1 / loss})
      if step == 3:
        checkpoints.wait()
        checkpoints.steps.pin(3, pinned=True)
  assert Checkpoints(tmp_path, keep).steps.all() == [3, 4, 7]
  with Checkpoints(
    tmp_path, Keep(1, lowest="heldout.loss")
  ) as checkpoints:  # scores are remembered
    checkpoints.steps.pin(3, pinned=False)
    checkpoints.save(9, numbered(9))
  assert Checkpoints(tmp_path).steps.all() == [4, 9]


def test_another_model_is_no_damage(tmp_path):
  save_all(tmp_path, [1])
  other = scanned()
  other["params"]["norm"].update(scale=jnp.ones(4))
  with pytest.raises(UserError, match="another model"):
    Checkpoints(tmp_path, keep=Keep(2)).restore_newest(abstract(other))
  assert not (tmp_path / "quarantine").exists()


def test_fingerprints_are_the_same_on_any_mesh_and_see_bits_and_places():
  whole = np.random.RandomState(0).normal(size=(16, 8)).astype(np.float32)
  once = {name: int(x) for name, x in jax.jit(fingerprints)({"x": whole}).items()}
  for devices in (1, 2, 4, 8):
    mesh = jax.make_mesh((devices,), ("a",), devices=jax.devices()[:devices])
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("a"))
    assert int(jax.jit(fingerprints)({"x": jax.device_put(whole, place)})["x"]) == once["x"]
  bits = whole.view(np.uint32)
  for bit in range(32):
    changed = bits.copy()
    changed[3, 5] ^= np.uint32(1 << bit)
    assert int(fingerprints({"x": changed.view(np.float32)})["x"]) != once["x"]
  assert int(fingerprints({"x": whole[::-1]})["x"]) != once["x"]
  for dtype in (jnp.bfloat16, jnp.int8, jnp.bool_):
    assert fingerprints({"x": jnp.ones((3, 3), dtype)})["x"].dtype == jnp.uint32


def test_only_so_many_are_kept_and_none_is_half_deleted(tmp_path):
  save_all(tmp_path, range(1, 7), keep=2)
  checkpoints = Checkpoints(tmp_path)
  for step in (5, 6):
    assert same(checkpoints.restore(abstract(scanned()), step), numbered(step))
  assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == ["5", "6"]
  assert not list(tmp_path.glob(".*"))


def test_who_only_reads_leaves_the_trash_of_a_run_alone(tmp_path):
  save_all(tmp_path, [1])
  (tmp_path / ".trash").mkdir()
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.restore(abstract(scanned()))
  assert (tmp_path / ".trash").is_dir()


def test_all_processes_restore_the_step_that_the_first_one_names(tmp_path, monkeypatch):
  save_all(tmp_path, [1, 2])
  monkeypatch.setattr(checkpoint.distributed, "agreed", lambda answer: 1)
  assert Checkpoints(tmp_path).restore_newest(abstract(scanned()))[0] == 1


def fails(error):
  def call(*_, **__):
    raise error

  return call


@pytest.mark.parametrize(
  "error",
  [
    MemoryError(),
    PermissionError(errno.EACCES, "Permission denied"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ESTALE, "Stale file handle"),
    ValueError("Error opening a file [os_error_code='24']"),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."),
  ],
  ids=repr,
)
@pytest.mark.parametrize("part", ["steps.check", "_files.read", "_fingerprints"])
def test_what_cannot_be_read_for_now_is_no_damage(tmp_path, error, part):
  save_all(tmp_path, [1])
  checkpoints = Checkpoints(tmp_path)
  *owner, name = part.split(".")
  place = getattr(checkpoints, owner[0]) if owner else checkpoints
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(place, name, fails(error))
    with pytest.raises(RunError, match=r"/1 cannot be read now: .*the same command") as told:
      checkpoints.restore_newest(abstract(scanned()))
  assert told.value.exit_code == 1
  assert checkpoints.restore_newest(abstract(scanned()))[0] == 1


@pytest.fixture
def full_disk():
  """A function that lets no file of this process grow beyond so many bytes; None lifts it."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)

  def limit(size):
    soft = before[0] if size is None else size
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, before[1]))

  yield limit
  limit(None)


def test_a_failed_save_is_told_and_made_up_for_and_never_the_newest(tmp_path, full_disk, capsys):
  checkpoints = Checkpoints(tmp_path, keep=Keep(9))
  checkpoints.save(1, numbered(1))
  checkpoints.wait()
  full_disk(100)
  checkpoints.save(2, numbered(2))
  while checkpoints.saving is not None:
    checkpoints.owed()
  assert checkpoints.owed()
  full_disk(None)
  assert checkpoints.latest() == 1
  checkpoints.save(3, numbered(3))
  assert not checkpoints.owed()
  checkpoints.close()
  warnings = [x for x in capsys.readouterr().err.splitlines() if x.startswith("warning: a check")]
  assert len(warnings) == 1 and "the next step is saved instead" in warnings[0]
  assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".trash") == ["1", "3"]
  assert Checkpoints(tmp_path, keep=Keep(9)).restore_newest(abstract(scanned()))[0] == 3


def test_a_run_that_cannot_save_its_end_does_not_end_well(tmp_path, full_disk, capsys):
  checkpoints = Checkpoints(tmp_path, keep=Keep(9))
  full_disk(100)
  checkpoints.save(1, numbered(1))
  with pytest.raises(IntegrityError, match="the last checkpoint could not be written"):
    checkpoints.close()


def test_the_third_failure_in_a_row_ends_the_run(tmp_path, full_disk, capsys):
  checkpoints = Checkpoints(tmp_path, keep=Keep(9))
  checkpoints.save(1, numbered(1))
  checkpoints.wait()
  full_disk(100)
  with pytest.raises(IntegrityError, match="the 3rd time in a row"):
    for step in range(2, 6):
      checkpoints.save(step, numbered(step))
  full_disk(None)
  assert Checkpoints(tmp_path).latest() == 1


def test_a_checkpoint_can_be_pinned_from_the_command_line(tmp_path, capsys):
  save_all(tmp_path / "checkpoints", [1, 2])
  assert cli.main(["pin", str(tmp_path), "1"]) == 0
  assert cli.main(["pin", str(tmp_path), "3"]) == 2
  assert "no checkpoint of step 3; it has 1, 2." in capsys.readouterr().err
  assert cli.main(["pin", str(tmp_path), "--release"]) == 2
  assert cli.main(["pin", str(tmp_path / "no")]) == 2
  assert "no holds no checkpoints" in capsys.readouterr().err
  save_all(tmp_path / "checkpoints", [3], keep=1)
  assert cli.main(["pin", str(tmp_path)]) == 0
  assert capsys.readouterr().out.split() == ["1", "pinned", "3"]
  assert cli.main(["pin", str(tmp_path), "1", "--release"]) == 0
  save_all(tmp_path / "checkpoints", [4], keep=1)
  assert Checkpoints(tmp_path / "checkpoints").steps.all() == [4]
