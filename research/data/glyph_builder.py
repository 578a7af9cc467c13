"""A TFDS builder of glyphs with captions: prepared and read as any dataset of TFDS. No network.

  tfds build research/data/glyph_builder.py --file_format=array_record

Imported only when it is asked for, since it needs tensorflow_datasets (not TensorFlow).
"""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from research.data import glyph_ink, glyphs
from research.data.glyph_words import Attributes
from research.data.splits import TRAIN

ATTRIBUTES = tuple(field.name for field in dataclasses.fields(Attributes))


class Glyphs(tfds.core.GeneratorBasedBuilder):
  """Each character in each style once, in colours that its number draws."""

  VERSION = tfds.core.Version("1.0.0")
  DRAWN = glyphs.Glyphs(image_size=64, length=256)
  # TFDS would look for itself, with a package that it does not ask for from Python 3.9 on.
  code_path = epath.Path(__file__)

  def _info(self) -> tfds.core.DatasetInfo:
    texts = {name: tfds.features.Text() for name in ("caption", *ATTRIBUTES)}
    shape = (self.DRAWN.image_size, self.DRAWN.image_size, 3)
    image = tfds.features.Image(shape=shape, encoding_format="png")
    return tfds.core.DatasetInfo(
      builder=self,
      description="Characters of matplotlib's fonts, with captions made of Unicode's names. Drawn "
      f"with {json.dumps(glyph_ink.versions())}.",
      features=tfds.features.FeaturesDict({"image": image, **texts}),
      supervised_keys=("image", "caption"),
      homepage="https://dejavu-fonts.github.io",
      license="Bitstream Vera, SIL Open Font License (STIX), public domain (Computer Modern)",
      disable_shuffling=True,  # its order is that of the numbers by which it is drawn
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing is downloaded
    prepared = self.DRAWN.prepare()
    splits = (TRAIN, *glyphs.UNSEEN)
    return {split: self._generate_examples(prepared.source(split)) for split in splits}

  def _generate_examples(self, source: glyphs.Drawn):
    for i in range(len(source)):
      number = np.array([i])
      attributes, phrasing = source.described(number, 0)[0]
      said = {name: getattr(attributes, name) for name in ATTRIBUTES}
      picture = _png(source.drawn(number, 0)[0])
      yield i, {"image": picture, "caption": attributes.said(phrasing), **said}


def _png(image_YXC: np.ndarray) -> io.BytesIO:
  """Encoded here, since TFDS would ask TensorFlow to."""
  import PIL.Image

  file = io.BytesIO()
  PIL.Image.fromarray(image_YXC).save(file, "png")
  file.seek(0)
  return file


def edition() -> str:
  """What the records hang on, beside the version: another matplotlib or FreeType draws others."""
  versions = glyph_ink.versions()
  return f"{versions['matplotlib']}-{versions['unicode']}-{versions['fingerprint']}"


BUILDERS = {"glyphs": Glyphs}
