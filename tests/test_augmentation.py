"""Crops and changes of pictures: what they keep, and that chance is a number handed in."""

import dataclasses

import grain
import numpy as np
import pytest

from research import data
from research.data import augmentation
from research.errors import UserError
from tests.test_image_text import dataset, folder

NOISE = np.random.RandomState(0).randint(0, 256, (24, 40, 3)).astype(np.uint8)


def test_a_square_crop_reaches_every_corner():
  crop = data.SquareCrop()
  np.testing.assert_array_equal(crop(NOISE, 24, np.array([0.0, 0.0])), NOISE[:, :24])
  np.testing.assert_array_equal(crop(NOISE, 24, np.array([0.999, 0.999])), NOISE[:, 16:])


def test_a_resized_crop_of_all_of_a_square_is_all_of_it():
  square = NOISE[:, :24]
  crop = data.ResizedCrop((1.0, 1.0), ratio=(1.0, 1.0))
  np.testing.assert_array_equal(crop(square, 24, np.full(4, 0.3)), square)


def test_a_resized_crop_shows_the_share_that_it_should():
  rows, columns = np.mgrid[:200, :200]
  ramp = np.stack([rows, columns, columns], axis=-1).astype(np.uint8)
  crop = data.ResizedCrop((0.25, 0.25), ratio=(1.0, 1.0))
  shown = crop(ramp, 50, np.array([0.5, 0.5, 0.0, 1.0]))
  assert abs(int(shown[..., 0].max()) - 99) <= 1 and shown[..., 0].min() <= 1
  assert abs(int(shown[..., 1].min()) - 100) <= 1 and shown[..., 1].max() >= 198


def test_a_flip_happens_as_often_as_it_should():
  flip = data.Flip(0.25)
  np.testing.assert_array_equal(flip(NOISE, np.array([0.24])), NOISE[:, ::-1])
  np.testing.assert_array_equal(flip(NOISE, np.array([0.26])), NOISE)


def test_colours_change_as_pillow_changes_them():
  import PIL.Image
  import PIL.ImageEnhance

  image = PIL.Image.fromarray(NOISE)
  change = data.Colour(0.4, 0.4, 0.4)
  for field, enhance in enumerate(("Brightness", "Contrast", "Color")):
    chances = np.full(3, 0.5)
    chances[field] = 0.25
    wanted = np.asarray(getattr(PIL.ImageEnhance, enhance)(image).enhance(0.8)).astype(int)
    assert abs(change(NOISE, chances).astype(int) - wanted).max() <= 2
  np.testing.assert_array_equal(change(NOISE, np.full(3, 0.5)), NOISE)


def test_the_same_seed_and_step_give_the_same_pictures_whatever_the_batch(tmp_path):
  changes = (data.Flip(), data.Colour(0.2, 0.2, 0.2))
  fields = {"resize": 20, "crop": data.ResizedCrop((0.5, 1.0)), "augment": changes}
  plain = dataset(folder(tmp_path), resize=20)
  source = dataset(tmp_path, **fields).source("train")
  whole = source.take(np.arange(16), 5)["image"]
  np.testing.assert_array_equal(source.take(np.array([9, 3]), 5)["image"], whole[[9, 3]])
  assert (source.take(np.arange(16), 6)["image"] != whole).any(axis=(1, 2, 3)).all()
  other = dataclasses.replace(plain, seed=1, **fields).source("train")
  assert (other.take(np.arange(16), 5)["image"] != whole).any(axis=(1, 2, 3)).all()
  held_out = [x.source("heldout").take(np.arange(9), 0)["image"] for x in (plain, source.dataset)]
  np.testing.assert_array_equal(*held_out)


def test_grain_maps_them_by_its_seed_and_the_number_of_the_element():
  apply = augmentation.random_map(16, data.ResizedCrop((0.2, 1.0)), (data.Flip(),))
  mapped = grain.MapDataset.source([{"image": NOISE}] * 8).random_map(apply, seed=3)
  again = grain.MapDataset.source([{"image": NOISE}] * 8).random_map(apply, seed=3)
  for i in (5, 2):
    np.testing.assert_array_equal(mapped[i]["image"], again[i]["image"])
  assert (mapped[5]["image"] != mapped[2]["image"]).any()


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: data.ResizedCrop((0.9, 0.5)), r"area=\(0.9, 0.5\)"),
    (lambda: data.ResizedCrop((0.5, 0.9), ratio=(0.0, 1.0)), "ratio="),
    (lambda: data.Flip(1.5), "chance=1.5"),
    (lambda: data.Colour(contrast=2.0), "contrast=2.0"),
  ],
)
def test_numbers_that_cannot_be_are_said(make, said):
  with pytest.raises(UserError, match=said):
    make()
