"""Glyphs: a picture is what its caption says, and what is held out is new in the way it says."""

import dataclasses
import itertools

import numpy as np
import pytest

from research import data
from research.data import glyph_styles, glyph_words, glyphs, pipeline
from research.errors import UserError

FEW = ("serif", "bold serif", "italic serif", "bold italic serif", "computer modern")
SMALL = data.Glyphs(image_size=32, length=96, styles=FEW, unseen=("bold italic serif",))


@pytest.fixture(scope="module")
def prepared():
  return SMALL.prepare()


def described(source):
  return source.attributes(np.arange(len(source)))


def test_thousands_of_pairs_and_no_two_of_the_same_outline(prepared):
  assert len(prepared.source("train")) + len(prepared.source("heldout")) > 8_000
  found = glyph_styles.glyphs(glyph_styles.named(FEW[:2]))
  pairs = {(glyph.character, glyph.style.words) for glyph in found}
  assert ("A", "serif") in pairs and ("A", "bold serif") in pairs
  # The Greek letter has the Latin one's outline, and a full block is not bolder in bold.
  assert ("\u0391", "serif") not in pairs and ("\u2588", "bold serif") not in pairs


def test_the_splits_are_new_in_the_way_they_say(prepared):
  seen = described(prepared.source("train"))
  characters, styles = {x.character for x in seen}, {x.style for x in seen}
  combinations = {(x.character, x.style) for x in seen}
  for x in described(prepared.source("characters")):
    assert x.character not in characters
  for x in described(prepared.source("combinations")):
    assert x.character in characters and x.style in styles
    assert (x.character, x.style) not in combinations
  for x in described(prepared.source("styles")):
    assert x.style == "bold italic serif" and x.style not in styles
    assert x.character in characters
  parts = [prepared.source(split) for split in glyphs.UNSEEN]
  assert sorted(itertools.chain(*(part.numbers for part in parts))) == sorted(
    prepared.source("heldout").numbers
  )


def test_only_some_characters_in_inks_that_are_darker():
  few = dataclasses.replace(
    SMALL, among="abc7", inks=("black", "blue"), grounds=("white", "yellow")
  )
  source = few.source("train")
  assert {x.character for x in described(source)} == set("abc7")
  assert {x.ink for x in described(source)} == {"black", "blue"}
  images = source.drawn(np.arange(len(source))).astype(int).sum(axis=-1)
  assert (images[:, 0, 0] == images.max(axis=(1, 2))).all()
  with pytest.raises(UserError, match="none of them is drawn"):
    dataclasses.replace(SMALL, among="\ue000").prepare()


def test_what_is_learned_of_captions_does_not_hang_on_the_seed(tmp_path, monkeypatch):
  few = dataclasses.replace(SMALL, among="abcdefg", tokenizer=data.SentencePiece(300))
  models = []
  for seed in (0, 1):
    monkeypatch.setenv("RESEARCH_CACHE", str(tmp_path / str(seed)))
    models.append(dataclasses.replace(few, seed=seed).prepare().vocabulary.model)
  assert models[0] == models[1]


def test_a_pair_stays_in_its_split_when_others_come():
  letters = [chr(code) for code in range(0x4E00, 0x4E00 + 500)]
  styles = glyph_styles.named(FEW)
  few, more = (
    [glyph_styles.Glyph(letter, style, 0.3) for letter in letters for style in chosen]
    for chosen in (styles[:-1], styles)
  )
  before, after = (
    dict(zip(((x.character, x.style.words) for x in found), glyphs.divide(found, 0.1, 0.2, ())))
    for found in (few, more)
  )
  assert sum(after[pair] != split for pair, split in before.items()) < 0.005 * len(before)
  shares = [list(after.values()).count(split) / len(after) for split in glyphs.UNSEEN[:2]]
  assert abs(shares[0] - 0.1) < 0.05 and abs(shares[1] - 0.9 * 0.2) < 0.05


def test_no_character_is_held_out_in_all_of_its_styles_but_by_itself():
  letters = [chr(code) for code in range(0x4E00, 0x4E00 + 200)]
  found = [glyph_styles.Glyph(x, s, 0.3) for x in letters for s in glyph_styles.named(FEW[:2])]
  split_of = glyphs.divide(found, 0.1, 0.9, ())
  for letter in letters:
    splits = {split for glyph, split in zip(found, split_of) if glyph.character == letter}
    assert splits == {"characters"} or "train" in splits


def test_a_picture_has_the_colours_that_its_caption_names(prepared):
  source = prepared.source("heldout")
  for image, x in zip(source.drawn(np.arange(200)), source.attributes(np.arange(200))):
    assert tuple(image[0, 0]) == glyph_words.COLOURS[x.ground]
    colours = np.array([glyph_words.COLOURS[x.ground], glyph_words.COLOURS[x.ink]], float)
    shares = (image.reshape(-1, 3) - colours[0]) @ (colours[1] - colours[0])
    assert shares.max() > 0.25 * np.sum((colours[1] - colours[0]) ** 2), x


def test_bold_has_more_ink(prepared):
  ink = {}
  source = prepared.source("train")
  wanted = [i for i, x in enumerate(described(source)) if x.character in "AEMTabdegst59"]
  for i in wanted:
    for epoch in range(6):
      (x,) = source.attributes(np.array([i]), epoch)
      image = source.drawn(np.array([i]), epoch)[0].reshape(-1, 3).astype(float)
      ground, full = (np.array(glyph_words.COLOURS[name], float) for name in (x.ground, x.ink))
      share = ((image - ground) @ (full - ground) / np.sum((full - ground) ** 2)).sum()
      ink.setdefault((x.weight, x.slant), []).append(share)
  assert np.mean(ink["bold", "upright"]) > 1.2 * np.mean(ink["regular", "upright"])


def test_captions_and_pictures_are_a_function_of_seed_epoch_and_example(prepared):
  source = prepared.source("train")
  whole = source.take(np.arange(20), 2)
  part = source.take(np.array([7, 3]), 2)
  for name, x in part.items():
    np.testing.assert_array_equal(x, whole[name][[7, 3]])
  later = source.take(np.arange(20), 3)
  assert (later["image"] != whole["image"]).any(axis=(1, 2, 3)).all()
  assert (later["caption"] != whole["caption"]).any(axis=1).sum() > 15
  assert pipeline.fingerprint(source) == pipeline.fingerprint(SMALL.source("train"))


def test_characters_are_classes_in_styles_that_are_new(prepared):
  classes = data.Characters(SMALL, "xyz5", draws=3)
  source, styles = classes.source("styles"), prepared.source("styles")
  batch = source.take(np.arange(len(source)), 0)
  assert len(source) == 3 * 4 and sorted(batch["label"][:4]) == [0, 1, 2, 3]
  known = {int(number): x.character for number, x in zip(styles.numbers, described(styles))}
  for number, label in zip(batch["picture"], batch["label"]):
    assert known[int(number)] == "xyz5"[label]
  # Each is drawn again, and otherwise; alone as among others.
  np.testing.assert_array_equal(batch["picture"][:4], batch["picture"][4:8])
  assert (batch["image"][:4] != batch["image"][4:8]).any()
  for name, x in source.take(np.array([9, 2]), 0).items():
    np.testing.assert_array_equal(x, batch[name][[9, 2]])
  blank = classes.example()
  assert {k: (v.shape[1:], v.dtype) for k, v in blank.items()} == {
    k: (v.shape[1:], v.dtype) for k, v in batch.items()
  }


@pytest.mark.parametrize(
  ("fields", "said"),
  [
    ({"draws": 0}, "draws=0 shows nothing"),
    ({"characters": "aba"}, "name each of them once"),
    ({"characters": "\ue000"}, "has no glyph of"),
  ],
)
def test_classes_that_are_none_are_said(fields, said):
  with pytest.raises(UserError, match=said):
    data.Characters(SMALL, **{"characters": "ab", **fields}).source("styles")


def test_the_example_has_the_shapes_of_the_batch(prepared):
  batch = prepared.source("train").take(np.zeros(1, int), 0)
  assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
    k: (v.shape, v.dtype) for k, v in SMALL.example().items()
  }


def test_a_caption_is_made_of_attributes():
  alpha = glyph_words.Attributes(
    **glyph_words.of_character("\u03b1"),
    family="serif",
    weight="bold",
    slant="italic",
    ink="red",
    ground="white",
  )
  said = [alpha.said(phrasing) for phrasing in glyph_words.PHRASINGS]
  assert said[0] == "a bold italic serif greek small letter alpha in red on white"
  assert said[-1] == "a greek small letter alpha"
  assert (alpha.script, alpha.case, alpha.kind) == ("greek", "small", "letter")
  five = glyph_words.of_character("5")
  assert (five["script"], five["case"], five["kind"]) == ("common", "none", "number")


@pytest.mark.parametrize(
  ("fields", "said"),
  [
    ({"inks": ("red", "bleu")}, "there is no colour 'bleu'.*Did you mean 'blue'"),
    ({"inks": ("red",), "grounds": ("red", "blue")}, "no two of them can be told apart"),
    ({"phrasings": ("a {colour} {name}",)}, r"'a \{colour\} \{name\}' cannot be filled in"),
    ({"styles": ("blod serif",)}, "there is no style 'blod serif'"),
    ({"unseen": FEW}, "leaves no style"),
    ({"characters": 1.0}, "characters=1.0 is a share"),
    ({"image_size": 4}, "image_size=4"),
    ({"length": 2}, "length=2"),
  ],
)
def test_what_cannot_be_drawn_is_said(fields, said):
  with pytest.raises(UserError, match=said):
    dataclasses.replace(SMALL, **fields)
