"""Pictures with captions: read, resized, cropped by arithmetic; what is broken is named."""

import dataclasses
import io
import json
import math
import pathlib
import zipfile

import numpy as np
import PIL.Image
import pytest

from research import Features, data, load, train
from research.data import captioned, captions, draws, images, pipeline, shapes
from research.data.bad_records import BadRecords
from research.data.splits import SPLITS
from research.errors import UserError
from research.matching.encoded import Words

RED = (255, 0, 0)


def picture(path, size=(40, 20), colour=RED, mode="RGB", **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.new("RGB", size, colour).convert(mode).save(path, **options)


def folder(tmp_path, count=200):
  """Grey pictures whose brightness is their number, a gradient along each."""
  lines = []
  for i in range(count):
    gradient = np.tile(np.arange(40, dtype=np.uint8), (20, 1)) + i
    (tmp_path / "pictures").mkdir(exist_ok=True)
    PIL.Image.fromarray(gradient).save(tmp_path / "pictures" / f"{i}.png")
    lines.append(json.dumps({"image": f"{i}.png", "caption": f"picture {i}"}))
  (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
  return tmp_path


def dataset(tmp_path, table="pairs.jsonl", **fields):
  fields = {"image_size": 16, "length": 16, "split": data.ByHash(0.1), **fields}
  pictures = data.Captioned(str(tmp_path / table), str(tmp_path / "pictures"))
  return data.ImageText(pictures, data.Bytes(), **fields)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  return dataset(folder(tmp_path_factory.mktemp("pairs"))).prepare()


def test_a_batch_is_of_pictures_beside_their_captions(prepared):
  source = prepared.source("heldout")
  batch = source.take(np.arange(4), 0)
  assert batch["image"].shape == (4, 16, 16, 3) and batch["image"].dtype == np.uint8
  for image, tokens, end in zip(batch["image"], batch["caption"], batch["caption_end"]):
    assert tokens[end] == 256 and not tokens[end + 1 :].any()
    number = int(bytes(tokens[8:end].astype(np.uint8)))
    # The middle of the gradient, of which 16 of 32 columns are kept after resizing.
    assert abs(float(image.mean()) - (number + 19.5)) < 1


def test_the_example_has_the_shapes_of_the_batch(prepared):
  batch = prepared.source("train").take(np.zeros(1, int), 0)
  example = prepared.dataset.example()
  assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
    k: (v.shape, v.dtype) for k, v in example.items()
  }


def test_crops_are_a_function_of_seed_index_and_epoch(prepared):
  source = prepared.source("train")
  whole = source.take(np.arange(8), 3)["image"]
  np.testing.assert_array_equal(source.take(np.array([5, 2]), 3)["image"], whole[[5, 2]])
  assert (source.take(np.arange(8), 4)["image"] != whole).any(axis=(1, 2, 3)).sum() >= 6
  heldout = prepared.source("heldout")
  np.testing.assert_array_equal(
    heldout.take(np.arange(3), 0)["image"], heldout.take(np.arange(3), 9)["image"]
  )


def test_batches_are_a_function_of_seed_and_step(prepared):
  source = prepared.source("train")
  read = pipeline.batches(source, 64, seed=7, threads=0)
  fifth = [next(read) for _ in range(5)][-1]
  again = next(pipeline.batches(source, 64, seed=7, start=4, threads=0))
  for name in fifth:
    np.testing.assert_array_equal(fifth[name], again[name])


def test_chances_are_even_and_independent():
  x = draws.uniform(0, 1, np.arange(20_000), 2)
  assert x.min() >= 0 and x.max() < 1
  counts, _, _ = np.histogram2d(*x.T, bins=4)
  assert np.all(abs(counts - 1250) < 5 * math.sqrt(1250))
  assert abs(np.corrcoef(x[:-1, 0], x[1:, 0])[0, 1]) < 0.03
  for other in (
    draws.uniform(0, 2, np.arange(20_000), 2),
    draws.uniform(1, 1, np.arange(20_000), 2),
  ):
    assert abs(np.corrcoef(x[:, 0], other[:, 0])[0, 1]) < 0.03


def test_broken_pictures_are_left_out_and_named(tmp_path, capsys):
  home = folder(tmp_path)
  whole = (home / "pictures" / "7.png").read_bytes()
  (home / "pictures" / "7.png").write_bytes(whole[:60])
  prepared = dataset(home).prepare()
  assert prepared.summary["left_out"] == 1 and "7.png" in prepared.summary["named"][0]
  said = capsys.readouterr().err
  assert "1 of 200 records cannot be used and are left out" in said
  assert "pairs.jsonl, line 8: 7.png cannot be read" in said
  assert len(prepared.source("train")) + len(prepared.source("heldout")) == 199


def test_too_many_broken_pictures_are_an_error(tmp_path):
  home = folder(tmp_path)
  for i in range(3):
    (home / "pictures" / f"{i}.png").unlink()
  with pytest.raises(UserError, match=r"3 of 200 records .* more than skip=0\.01.*0\.png"):
    dataset(home).prepare()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 700)
  picture(tmp_path / "big.png")
  with pytest.raises(UserError, match=r"big\.png has 800 pixels, more than Pillow's limit of 700"):
    images.read(tmp_path / "big.png", 8)
  picture(tmp_path / "huge.png", (400, 200))
  with pytest.raises(UserError, match=r"huge\.png: .*leave it out"):
    images.read(tmp_path / "huge.png", 8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode):
  kind = "tiff" if mode == "CMYK" else "png"
  picture(tmp_path / f"x.{kind}", mode=mode)
  found = images.read(tmp_path / f"x.{kind}", 10)
  assert found.shape == (10, 20, 3)
  assert np.all(abs(found.astype(int) - RED) <= 2)


def test_transparency_is_white_and_16_bits_become_8(tmp_path):
  PIL.Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
  assert images.read(tmp_path / "clear.png", 8).min() == 255
  PIL.Image.fromarray(np.full((8, 8), 0x8080, np.uint16)).save(tmp_path / "deep.png")
  assert np.all(images.read(tmp_path / "deep.png", 8) == 0x80)


def test_a_line_is_no_picture(tmp_path):
  picture(tmp_path / "line.png", (100, 2))
  with pytest.raises(images.Unreadable, match="100 x 2 pixels"):
    images.read(tmp_path / "line.png", 8)


@pytest.mark.parametrize(
  ("name", "text", "said"),
  [
    ("a.tsv", "image\tcaption\n../x.png\thi\n", "names '../x.png', which lies outside"),
    ("a.tsv", "image\tcaptoin\nx.png\thi\n", "Did you mean 'captoin'?"),
    ("a.csv", "image,caption\nx.png,  \n", "a.csv, line 2: 'caption' is empty"),
    ("a.jsonl", '{"image": "x.png"\n', "a.jsonl, line 1: this is not JSON"),
    ("a.jsonl", "[]\n", "a.jsonl, line 1: a list instead of an object"),
    ("a.jsonl", "", "is empty"),
    ("a.jsonl", "\n", "names no pictures"),
    ("a.txt", "", "its name ends in one of .jsonl, .csv, .tsv"),
  ],
)
def test_a_table_that_cannot_be_used_is_said(tmp_path, name, text, said):
  (tmp_path / name).write_text(text)
  with pytest.raises(UserError) as error:
    list(data.Captioned(str(tmp_path / name), str(tmp_path)).read(BadRecords(0.0)))
  assert said in str(error.value)


def test_a_split_may_be_a_column(tmp_path):
  lines = ["image\tcaption\tsplit"]
  for i, split in enumerate(["train", "test", "train", "validation"]):
    picture(tmp_path / "pictures" / f"{i}.png")
    lines.append(f"{i}.png\tcaption {i}\t{split}")
  (tmp_path / "pairs.tsv").write_text("\n".join(lines))
  prepared = dataset(tmp_path, "pairs.tsv", split=data.Column()).prepare()
  assert (len(prepared.source("train")), len(prepared.source("heldout"))) == (2, 1)


def test_lines_that_put_a_picture_into_two_splits_are_told(tmp_path):
  lines = ["image\tcaption\tsplit"]
  for name, split in ("a", "train"), ("b", "train"), ("b", "test"), ("c", "test"):
    picture(tmp_path / "pictures" / f"{name}.png")
    lines.append(f"{name}.png\tcaption\t{split}")
  (tmp_path / "pairs.tsv").write_text("\n".join(lines))
  said = r"pairs\.tsv, line 3, and .*line 4: 'split' of b\.png is 'train' and 'test'"
  with pytest.raises(UserError, match=said):
    dataset(tmp_path, "pairs.tsv", split=data.Column()).prepare()


def test_a_long_caption_is_cut_and_counted_and_keeps_its_end():
  tokens, ends, cut = captions.rows(data.Bytes().fit(), ["abcdef", "ab"], 5, start=7)
  assert cut == 1
  np.testing.assert_array_equal(tokens, [[7, 97, 98, 99, 256], [7, 97, 98, 256, 0]])
  np.testing.assert_array_equal(ends, [4, 3])
  padded, _, _ = captions.rows(data.Bytes().fit(), ["abcdef", "ab"], 5, start=7, pad=256)
  np.testing.assert_array_equal(padded, [[7, 97, 98, 99, 256], [7, 97, 98, 256, 256]])


def test_what_fills_captions_up_is_that_of_the_dataset_in_data_and_evaluations(tmp_path):
  home = folder(tmp_path, count=40)
  plain, padded = (dataset(home, pad=pad) for pad in (0, 256))
  batches = [x.source("train").take(np.arange(3), 0) for x in (plain, padded)]
  for batch, pad in zip(batches, (0, 256)):
    beyond = np.arange(16) > batch["caption_end"][:, None]
    assert beyond.any() and (batch["caption"][beyond] == pad).all()
  assert Features(padded, "runs/x").pad == 256
  words = Words.of(padded, data.Bytes().fit())
  np.testing.assert_array_equal(words.rows(["a"])[0][0], [97, *[256] * 15])


def test_a_drawing_shows_what_its_caption_says():
  for first, second, relation in shapes.all_said()[::97]:
    image = shapes.draw(first, second, relation, 32, np.full(6, 0.5))
    centres = []
    for thing in (first, second):
      colour, _ = shapes.THINGS[thing]
      inside = (image == shapes.COLOURS[colour]).all(axis=-1)
      assert inside.sum() > 8
      centres.append(np.argwhere(inside).mean(axis=0))
    if shapes.THINGS[first][0] != shapes.THINGS[second][0]:
      assert (centres[0] - centres[1]) @ np.array(shapes.RELATIONS[relation]) > 8


def test_drawings_are_a_function_of_their_number():
  source = data.Shapes(image_size=16, length=48, examples=100, heldout=20).source("train")
  whole = source.take(np.arange(10), 2)
  part = source.take(np.array([7, 3]), 2)
  for name, x in part.items():
    np.testing.assert_array_equal(x, whole[name][[7, 3]])
  later = source.take(np.arange(10), 3)
  np.testing.assert_array_equal(later["caption"], whole["caption"])
  assert (later["image"] != whole["image"]).any()


@pytest.mark.parametrize("given", [{"length": 0}, {"image_size": 0}, {"examples": -4}])
def test_drawings_of_which_there_can_be_none_are_refused(given):
  ((name, value),) = given.items()
  sizes = {"image_size": 16, "length": 48, "examples": 100, "heldout": 20}
  with pytest.raises(UserError, match=f"{name}={value} "):
    data.Shapes(**{**sizes, **given})


@pytest.mark.slow
def test_the_small_clip_learns_what_is_drawn(tmp_path):
  smoke = load.recipe("experiments/clip.py:smoke").experiment()
  heldout = train.train(smoke, tmp_path).evaluations["heldout"]
  assert heldout["loss"] < math.log(32) - 0.2


def test_table_and_pictures_may_lie_in_an_archive(tmp_path):
  home = folder(tmp_path, count=40)
  with zipfile.ZipFile(tmp_path / "pairs.zip", "w") as archive:
    for path in sorted(home.rglob("*.*")):
      if path.suffix in (".png", ".jsonl"):
        archive.write(path, path.relative_to(home))
  pictures = data.Captioned(f"{tmp_path}/pairs.zip/pairs.jsonl", f"{tmp_path}/pairs.zip/pictures")
  packed = data.ImageText(pictures, data.Bytes(), image_size=8, length=12)
  found = packed.source("train").take(np.arange(4), epoch=0)
  wanted = dataset(tmp_path, image_size=8, length=12).source("train").take(np.arange(4), epoch=0)
  np.testing.assert_array_equal(found["image"], wanted["image"])


def test_a_picture_may_have_several_captions(tmp_path):
  for name in "abcdefgh":
    picture(tmp_path / "pictures" / f"{name}.png")
  rows = [{"file": f"{x}.png", "names": {"en": f"an {x}"}, "words": [x, x * 2]} for x in "abcdefgh"]
  rows.append({"file": "a.png", "names": {"en": "once more"}, "words": []})
  (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
  pictures = data.Captioned(
    f"{tmp_path}/x.jsonl", f"{tmp_path}/pictures", "file", ("names/en", "words")
  )
  found = {picture.name: picture.captions for picture in pictures.read(BadRecords(0.0))}
  assert found["a.png"] == ("an a", "a", "aa", "once more")
  assert found["b.png"] == ("an b", "b", "bb")
  prepared = data.ImageText(pictures, data.Bytes(), 8, 16, data.ByHash(0.4)).prepare()
  assert prepared.summary["pictures"] == 8 and prepared.summary["pairs"] == 25
  seen = [set(prepared.source(split).pictures[prepared.source(split).numbers]) for split in SPLITS]
  assert not seen[0] & seen[1] and len(seen[0] | seen[1]) == 8
  batch = prepared.source("train").take(np.arange(3), 0)
  assert batch["picture"].tolist() == [batch["picture"][0]] * 3


def test_files_are_decoded_as_they_are_read_with_the_same_result(prepared):
  there = dataclasses.replace(prepared.dataset, keep="files").prepare()
  assert not (there.folder / "pixels.bin").exists()
  for split in SPLITS:
    ours, theirs = (p.source(split).take(np.arange(8), 3) for p in (there, prepared))
    for key in theirs:
      np.testing.assert_array_equal(ours[key], theirs[key])


def test_a_picture_that_breaks_later_is_padding_and_too_many_are_an_error(tmp_path):
  source = dataset(folder(tmp_path), keep="files", skip=0.01).source("train")
  names = [pathlib.Path(source._store._files[i]) for i in source.pictures[source.numbers[:3]]]
  names[1].unlink()
  batch = source.take(np.arange(3), 0)
  assert batch["weights"].tolist() == [1, 0, 1]
  assert not any(batch[key][1].any() for key in batch)
  assert source.bad.count == 1 and names[1].name in source.bad.named[0]
  source.take(np.arange(3), 1)
  assert source.bad.count == 1
  names[0].write_bytes(b"gone")
  with pytest.raises(UserError, match=r"more than skip=0\.01"):
    source.take(np.arange(3), 2)


def test_what_is_cut_and_what_has_no_caption_is_said(tmp_path):
  home = folder(tmp_path, count=60)
  picture(home / "pictures" / "alone.png")
  note = dataset(home, length=10).source("train").note
  assert "50 of 60 captions are longer than length=10 tokens" in note
  assert "pictures without a caption are left out: 1, for example alone.png" in note


def test_a_picture_with_a_caption_that_is_not_chosen_is_not_without_one(tmp_path):
  for name in "abc":
    picture(tmp_path / f"{name}.png")
  (tmp_path / "x.csv").write_text("image,caption,lang\na.png,one,en\nb.png,eins,de\n")
  pictures = data.Captioned(f"{tmp_path}/x.csv", str(tmp_path), only=(("lang", "en"),))
  assert pictures.uncaptioned() == ["c.png"]


def test_rows_of_an_array_are_pictures(tmp_path):
  pixels = np.random.RandomState(0).randint(0, 256, (20, 6, 8, 3)).astype(np.uint8)
  np.savez_compressed(tmp_path / "x.npz", rgb=pixels)
  rows = [json.dumps({"caption": f"no {i}", "split": "train" if i else "test"}) for i in range(20)]
  (tmp_path / "x.jsonl").write_text("\n".join(rows))
  pictures = data.CaptionedArray(f"{tmp_path}/x.jsonl", f"{tmp_path}/x.npz")
  source = data.ImageText(pictures, data.Bytes(), 6, 8, data.Column()).source("heldout")
  np.testing.assert_array_equal(source.take(np.arange(1), 0)["image"][0], pixels[0, :, 1:7])
  (tmp_path / "x.jsonl").write_text("\n".join(rows[1:]))
  with pytest.raises(UserError, match=r"19 lines and .* 20 pictures"):
    list(pictures.read(BadRecords(0.0)))
  wrong = dataclasses.replace(pictures, key="bgr")
  with pytest.raises(UserError, match="no array 'bgr'; choose with key= from rgb"):
    list(wrong.read(BadRecords(0.0)))


def damaged(raw):
  return raw[:200] + bytes(byte ^ 0xFF for byte in raw[200:260]) + raw[260:]


def encrypted(raw):
  for mark, place in (b"PK\x01\x02", 8), (b"PK\x03\x04", 6):
    at = raw.index(mark) + place
    raw = raw[:at] + bytes([raw[at] | 1]) + raw[at + 1 :]
  return raw


def endless(raw):
  file, header = io.BytesIO(), {"descr": "|u1", "fortran_order": False, "shape": (1 << 45, 4, 4)}
  with zipfile.ZipFile(file, "w") as archive, archive.open("arr_0.npy", "w") as member:
    np.lib.format.write_array_header_1_0(member, header)
  return file.getvalue()


@pytest.mark.parametrize("harm", [damaged, encrypted, endless])
def test_an_array_that_cannot_be_read_is_told(tmp_path, harm):
  pixels = np.random.RandomState(0).randint(0, 4, (4, 64, 64)).astype(np.uint8)
  np.savez_compressed(tmp_path / "x.npz", pixels)
  (tmp_path / "x.npz").write_bytes(harm((tmp_path / "x.npz").read_bytes()))
  (tmp_path / "x.csv").write_text("caption\none\n")
  pictures = data.CaptionedArray(f"{tmp_path}/x.csv", f"{tmp_path}/x.npz")
  with pytest.raises(UserError, match=r"x\.npz is no array of pictures \(.*; check it"):
    list(pictures.read(BadRecords(0.0)))


def test_an_array_that_has_changed_is_read_anew(tmp_path):
  (tmp_path / "x.csv").write_text("caption\none\n")
  pictures = data.CaptionedArray(f"{tmp_path}/x.csv", f"{tmp_path}/x.npy")
  for value in (1, 2):
    (tmp_path / "x.npy").unlink(missing_ok=True)
    np.save(tmp_path / "x.npy", np.full((1, 8 + value, 8), value, np.uint8))
    (picture,) = pictures.read(BadRecords(0.0))
    assert (pictures.load(picture.place) == value).all()
  (tmp_path / "x.npy").unlink()
  with pytest.raises(UserError, match=r"x\.npy is no array of pictures"):
    pictures.load(picture.place)


def test_what_lies_elsewhere_is_no_part_of_a_folder(tmp_path):
  (tmp_path / "in").mkdir()
  (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out.png")
  picture(tmp_path / "out.png")
  for name in ("../out.png", f"{tmp_path}/out.png", "link.png"):
    with pytest.raises(UserError, match="lies outside"):
      captioned.inside(tmp_path / "in", "line 1", name)


def test_of_several_columns_some_may_be_empty_and_none_may_be_mistaken(tmp_path):
  rows = [{"image": f"{i}.png", "name": f"no {i}", "capital": None} for i in range(3)]
  rows[1]["capital"] = "Paris"
  (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
  told = {"table": f"{tmp_path}/x.jsonl", "folder": str(tmp_path)}
  found = list(data.Captioned(**told, caption=("name", "capital")).read(BadRecords(0.0)))
  assert [x.captions for x in found] == [("no 0",), ("no 1", "Paris"), ("no 2",)]
  with pytest.raises(UserError, match=r"line 3, nothing has a field 'nmae'; .*Did you mean 'name'"):
    list(data.Captioned(**told, caption=("nmae", "name")).read(BadRecords(0.0)))
  with pytest.raises(UserError, match=r"line 1: no field 'nmae'"):
    list(data.Captioned(**told, caption="nmae").read(BadRecords(0.0)))


def test_a_caption_may_be_made_of_columns_and_lines_be_chosen_by_one(tmp_path):
  rows = [
    {"image": "a.png", "name": "fog", "words": ["cloud", "grey"], "kind": "sky", "old": False},
    {"image": "b.png", "name": "sun", "words": [], "kind": "sky", "old": False},
    {"image": "c.png", "name": "car", "words": ["red"], "kind": "thing", "old": True},
  ]
  (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
  told = {
    "table": f"{tmp_path}/x.jsonl",
    "folder": str(tmp_path),
    "caption": ("{name}: {words}", "name"),
  }

  def captions(**only):
    source = data.Captioned(**told, **only)
    return [x.captions for x in source.read(BadRecords(0.0))]

  assert captions() == [("fog: cloud, grey", "fog"), ("sun",), ("car: red", "car")]
  assert captions(only=(("kind", "sky"), ("old", False))) == captions()[:2]
  with pytest.raises(UserError, match=r"names no pictures with kind='sea'"):
    captions(only=(("kind", "sea"),))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
  home = folder(tmp_path, count=30)
  monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 700)
  with pytest.raises(UserError, match=r"0\.png has 800 pixels"):
    dataset(home, keep="files").prepare()
