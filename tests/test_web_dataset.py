"""Pictures with captions in tars: read by their places, and nothing that leads out of them."""

import io
import json
import tarfile

import numpy as np
import PIL.Image
import pytest

from research import data
from research.data.bad_records import BadRecords
from research.errors import UserError


def png(value):
  file = io.BytesIO()
  PIL.Image.new("L", (8, 8), value).save(file, "png")
  return file.getvalue()


def pack(path, members, mode="w", kind=tarfile.REGTYPE):
  with tarfile.open(path, mode) as archive:
    for name, contents in members:
      member = tarfile.TarInfo(name)
      member.size, member.type = len(contents), kind
      archive.addfile(member, io.BytesIO(contents))


def shard(tmp_path, number, samples=30):
  members = []
  for i in range(samples):
    key, value = f"part/{i:03}", number * samples + i
    told = {"captions": [f"no {value}", f"grey {value}"], "split": "test" if i == 7 else "train"}
    members += [
      (f"{key}.png", png(value)),
      (f"{key}.txt", f"picture {value}".encode()),
      (f"{key}.json", json.dumps(told).encode()),
    ]
  pack(tmp_path / f"shard-{number:03}.tar", members)


def test_samples_are_read_from_their_places_in_any_order(tmp_path):
  for number in range(3):
    shard(tmp_path, number)
  pictures = data.WebDataset(f"{tmp_path}/shard-{{000..002}}.tar")
  dataset = data.ImageText(pictures, data.Bytes(), 8, 16, data.Column(), keep="files")
  source = dataset.source("train")
  assert (len(source), len(dataset.source("heldout"))) == (87, 3)
  batch = source.take(np.array([80, 1, 40]), 0)
  for image, tokens, end in zip(batch["image"], batch["caption"], batch["caption_end"]):
    said = bytes(tokens[:end].astype(np.uint8)).decode()
    assert said == f"picture {image.max()}" and image.min() == image.max()


def test_places_are_those_of_the_tars_from_any_folder(tmp_path, monkeypatch):
  here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
  here.mkdir(), elsewhere.mkdir()
  shard(here, 0)
  shard(elsewhere, 1)
  (elsewhere / "shard-001.tar").rename(elsewhere / "shard-000.tar")

  def source(pattern):
    pictures = data.WebDataset(pattern)
    return data.ImageText(pictures, data.Bytes(), 8, 16, data.Column(), keep="files").source(
      "train"
    )

  monkeypatch.chdir(here)
  first = source("shard-000.tar").take(np.arange(9), 0)
  monkeypatch.chdir(elsewhere)
  again = source("../here/shard-000.tar").take(np.arange(9), 0)
  np.testing.assert_array_equal(again["image"], first["image"])


def test_captions_may_stand_in_json(tmp_path):
  shard(tmp_path, 0)
  pictures = data.WebDataset(f"{tmp_path}/*.tar", caption=("txt", "json/captions"))
  found = list(pictures.read(BadRecords(0.0)))
  assert found[4].captions == ("picture 4", "no 4", "grey 4")
  assert found[4].name == "shard-000.tar/part/004" and len(found) == 30


def test_a_sample_without_a_picture_or_a_caption_is_counted_and_named(tmp_path):
  pack(tmp_path / "x.tar", [("a.png", png(1)), ("b.txt", b"b"), ("c.png", png(3)), ("c.txt", b" ")])
  bad = BadRecords(1.0)
  assert not list(data.WebDataset(f"{tmp_path}/x.tar").read(bad))
  assert bad.count == 3
  assert "'a': no field 'txt'; there are: none" in bad.named[0]
  assert "'b': no picture beside txt" in bad.named[1]
  assert "'c': 'txt' is empty" in bad.named[2]


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png"])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
  pack(tmp_path / "x.tar", [(name, png(1))])
  with pytest.raises(UserError, match=rf"x\.tar: '{name}' (climbs|has an absolute name)"):
    list(data.WebDataset(f"{tmp_path}/x.tar").read(BadRecords(1.0)))


def test_links_are_refused(tmp_path):
  pack(tmp_path / "x.tar", [("a.png", b"")], kind=tarfile.SYMTYPE)
  with pytest.raises(UserError, match=r"'a\.png' is a link"):
    list(data.WebDataset(f"{tmp_path}/x.tar").read(BadRecords(1.0)))


def test_what_cannot_be_read_by_place_is_said(tmp_path):
  pack(tmp_path / "x.tar", [("a.png", png(1))], mode="w:gz")
  with pytest.raises(UserError, match=r"x\.tar is compressed, .* decompress it"):
    list(data.WebDataset(f"{tmp_path}/x.tar").read(BadRecords(1.0)))
  shard(tmp_path, 0)
  whole = (tmp_path / "shard-000.tar").read_bytes()
  (tmp_path / "shard-000.tar").write_bytes(whole[:20_000])
  with pytest.raises(UserError, match=r"shard-000\.tar is damaged at or after 'part/0"):
    list(data.WebDataset(f"{tmp_path}/shard-000.tar").read(BadRecords(1.0)))
  with pytest.raises(UserError, match=r"no tar matches .*shard-001\.tar"):
    data.WebDataset(f"{tmp_path}/shard-{{000..001}}.tar").paths()
