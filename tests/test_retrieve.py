"""Pictures found by words and told apart by names, by a run, from the command line."""

import csv
import dataclasses
import io
import json
import os
import pathlib

import jax
import numpy as np
import PIL.Image
import pytest
from flax import linen as nn

from research import checkpoint, load, models, record, report, retrieve
from research.cli import main
from research.retention import Keep
from research.retrieve import command, index
from research.retrieve.towers import Towers

FILE = pathlib.Path(__file__).with_name("tiny_pairs.py")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run with a checkpoint of weights by chance."""
  workdir = tmp_path_factory.mktemp("runs") / "pairs"
  recipe = load.recipe(str(FILE))
  made = recipe.experiment()
  record.remember(workdir, recipe, made)
  rows = {name: np.repeat(x, 2, axis=0) for name, x in made.data.example().items()}
  shapes = jax.eval_shape(nn.init(made.objective, made.model), jax.random.key(0), rows)
  random = np.random.RandomState(0)
  params = jax.tree.map(
    lambda x: jax.numpy.asarray(random.normal(size=x.shape) / 2, x.dtype),
    nn.meta.unbox(shapes)["params"],
  )
  with checkpoint.Checkpoints(workdir / "checkpoints", keep=Keep()) as checkpoints:
    checkpoints.save(0, {"params": params})
  return workdir


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Pictures of one colour each, one of them in a folder of its own, and one that is none."""
  home = tmp_path_factory.mktemp("pictures")
  (home / "more").mkdir()
  for name, colour in (
    ("red.png", (220, 40, 40)),
    ("blue.jpg", (50, 80, 220)),
    ("more/a b.png", 3),
  ):
    PIL.Image.new("RGB" if isinstance(colour, tuple) else "L", (40, 24), colour).save(home / name)
  (home / "broken.png").write_bytes(b"nothing")
  (home / "notes.txt").write_text("no picture")
  return home


def test_a_search_finds_the_nearest_and_shows_them(run, folder, capsys):
  assert main(["search", str(run), "a <red> circle", "--images", str(folder), "--top", "2"]) == 0
  printed = capsys.readouterr()
  towers = Towers(run)
  names = ["blue.jpg", "more/a b.png", "red.png"]
  vectors = towers.encoder.images(np.stack([towers.picture(folder / name) for name in names]))
  query = towers.encoder.texts(*towers.words.rows(["a <red> circle"]))[0]
  scores = dict(zip(names, vectors @ query))
  best = sorted(names, key=lambda name: -scores[name])[:2]
  assert printed.out.splitlines()[:2] == [f"{scores[name]:.3f}  {name}" for name in best]
  assert "left out: broken.png cannot be read" in printed.err
  text = (run / "search.html").read_text()
  assert "a &lt;red&gt; circle" in text and text.count('src="data:image/jpeg;base64,') == 2


def test_an_index_is_made_once_and_anew_when_a_picture_changes(run, folder, monkeypatch):
  first = index.of_folder(Towers(run), folder)
  monkeypatch.setattr(Towers, "picture", lambda self, path: pytest.fail("encoded again"))
  again = index.of_folder(Towers(run), folder)
  np.testing.assert_array_equal(again.vectors_NE, first.vectors_NE)
  monkeypatch.undo()
  PIL.Image.new("RGB", (30, 30), (240, 210, 50)).save(folder / "yellow.png")
  try:
    assert "yellow.png" in index.of_folder(Towers(run), folder).names
  finally:
    (folder / "yellow.png").unlink()


def test_an_index_is_of_one_folder_and_of_its_pictures_as_they_are(run, tmp_path):
  def write(name, contents):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(contents)
    os.utime(path, ns=(0, 0))
    return index.of_folder(Towers(run), path.parent)

  red, blue = io.BytesIO(), io.BytesIO()  # a .bmp is as large whatever it shows
  PIL.Image.new("RGB", (30, 30), (220, 40, 40)).save(red, "BMP")
  PIL.Image.new("RGB", (30, 30), (50, 80, 220)).save(blue, "BMP")
  write("one/x.bmp", red.getvalue())
  assert write("one/y.bmp", bytes(len(red.getvalue()))).broken
  found = write("one/y.bmp", red.getvalue())
  assert not found.broken
  np.testing.assert_array_equal(found.vectors_NE[0], found.vectors_NE[1])
  write("two/x.bmp", red.getvalue())
  other = write("two/y.bmp", blue.getvalue())
  assert not np.allclose(other.vectors_NE[0], other.vectors_NE[1])


def test_a_name_that_is_no_text_is_printed(run, tmp_path, capsys):
  PIL.Image.new("RGB", (30, 30)).save(tmp_path / os.fsdecode(b"\xff.png"))
  images = ["--images", str(tmp_path)]
  assert main(["search", str(run), "a circle", *images]) == 0
  assert main(["classify", str(run), *images, "--labels", "red,blue"]) == 0
  assert capsys.readouterr().out.count(r"\udcff.png") == 2


def test_a_model_without_a_temperature_does_not_classify(run, folder, monkeypatch, capsys):
  made, kept = record.open_run(run)
  words = models.ImageWords(257, image_size=16, patch=8, embedding=8, width=8, depth=1, heads=2)
  made = dataclasses.replace(made, model=words)
  monkeypatch.setattr(record, "open_run", lambda path: (made, kept))
  monkeypatch.setattr(index, "of_folder", lambda *_: pytest.fail("encoded"))
  assert main(["classify", str(run), "--images", str(folder), "--labels", "red,blue"]) == 2
  error = capsys.readouterr().err
  assert f"{run} has a ImageWords, without a temperature" in error and error.count("\n") == 1


def test_labels_are_told_apart_by_their_names(run, folder, tmp_path, monkeypatch, capsys):
  def interrupted(*_):
    raise KeyboardInterrupt

  words = ["classify", str(run), "--images", str(folder), "--labels", "red, blue"]
  assert main([*words, "--output", str(tmp_path / "labels.csv")]) == 0
  with open(tmp_path / "labels.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  assert [row["picture"] for row in rows] == ["blue.jpg", "more/a b.png", "red.png"]
  assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)
  capsys.readouterr()
  assert main([*words, "--template", "{}"]) == 0
  assert len(capsys.readouterr().out.splitlines()) == 3
  half = [*words, "--output", str(tmp_path / "half.csv")]
  with monkeypatch.context() as patch:
    patch.setattr(command.Output, "add", interrupted)
    assert main(half) == 130
  assert main([*half, "--template", "{}"]) == 2
  assert "begun with another" in capsys.readouterr().err


def test_vectors_are_written_with_their_names(run, folder, tmp_path):
  out = tmp_path / "vectors.npz"
  assert main(["embed", str(run), "--images", str(folder), "--output", str(out)]) == 0
  with np.load(out) as found:
    assert found["names"].tolist() == ["blue.jpg", "more/a b.png", "red.png"]
    np.testing.assert_allclose(np.linalg.norm(found["vectors"], axis=1), 1, atol=1e-5)
  (tmp_path / "texts.txt").write_text("a circle\n\na square\n")
  texts = ["embed", str(run), "--texts", str(tmp_path / "texts.txt"), "--output", str(out)]
  assert main(texts) == 0
  with np.load(out) as found:
    assert found["names"].tolist() == ["a circle", "a square"]


def test_mistakes_are_one_line(run, folder, tmp_path, capsys):
  empty = tmp_path / "empty"
  empty.mkdir()
  images = ["--images", str(folder)]
  for words, said in (
    (["search", str(run), " ", *images], "the query is empty"),
    (["search", str(run), "x", "--images", str(empty)], "holds no pictures"),
    (["search", str(run), "x", "--images", str(empty / "no")], "is no folder"),
    (["search", str(empty), "x", *images], "holds no run"),
    (["classify", str(run), *images, "--labels", "a,a"], "--labels a, a: give two classes"),
    (["classify", str(run), *images, "--labels", "a,b", "--template", "x"], "no place for a name"),
    (["embed", str(run), "--output", "x.npz"], "give --images FOLDER, or --texts FILE"),
    (["embed", str(run), *images, "--output", "x.txt"], "written to .npz"),
  ):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_gallery_shows_what_words_find_and_where_the_model_errs(run):
  found = json.loads(retrieve.write_gallery(run).read_text())
  assert len(found["queries"]) == 6 and len(found["queries"][0]["found"]) == 5
  pairs = Towers(run).experiment.data.source("heldout").take(np.arange(20), 0)
  said = {
    bytes(x[:end].astype(np.uint8)).decode()
    for x, end in zip(pairs["caption"], pairs["caption_end"])
  }
  assert {query["text"] for query in found["queries"]} <= said
  for mistake in found["mistakes"]:
    assert mistake["said"] != mistake["own"] and mistake["margin"] > 0
  assert np.shape(found["matrix"]) == (16, 16)
  text = report.write(run).read_text()
  assert "What words find" in text and "Its worst mistakes" in text
  assert text.count("<rect") >= 256
  (run / "gallery.json").write_text("[3]")
  assert "What words find" not in report.write(run).read_text()
