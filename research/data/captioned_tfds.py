"""Pictures with captions from TFDS datasets that were prepared as ArrayRecord: coco_captions."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from research.data import caption_columns, tables
from research.data.bad_records import BadRecords
from research.data.caption_columns import Names
from research.data.captioned import Picture, Place
from research.data.images import Unreadable
from research.data.tfds import TFDS, quiet
from research.errors import UserError, nearest, reason


@dataclasses.dataclass(frozen=True)
class CaptionedTFDS:
  """The pictures of a TensorFlow dataset. TensorFlow is not needed.

  "glyphs" is made on first use from matplotlib's fonts, without network.

  Attributes:
    name: as in TFDS: "coco_captions", "coco_captions/2014", "mine:1.0.0".
    splits: of TFDS, one after the other; a picture's is the word in the column "split".
    image: the feature with the picture.
    caption: the feature or features with captions; "captions/text" is inside of "captions".
    data_dir: where it was prepared; None is TFDS's own ($TFDS_DATA_DIR or ~/tensorflow_datasets).
  """

  name: str
  splits: tuple[str, ...] = ("train",)
  image: str = "image"
  caption: Names = "captions/text"
  data_dir: str | None = None

  def fingerprint(self) -> str:
    """Of the dataset's version, its files' sizes and beginnings, and the features."""
    total = hashlib.blake2b(repr((self.image, self.caption)).encode(), digest_size=16)
    for split in self.splits:
      total.update(self._of(split).fingerprint().encode())
    return total.hexdigest()

  def read(self, bad: BadRecords) -> Iterator[Picture]:
    """The pictures in the datasets' order."""
    captions = caption_columns.Captions(self.caption)
    for split in self.splits:
      records = _records(self, split)
      for i in range(len(records)):
        where = f"{self.name} {split}, record {i}"
        try:
          cells = {**_plain(_record(records, i)), "split": split}
          said = captions.of(tables.Row(where, cells))
        except (Unreadable, UserError) as error:
          bad.leave_out(str(error) if isinstance(error, UserError) else f"{where}: {error}")
          continue
        columns = {name: x for name, x in cells.items() if isinstance(x, str)}
        yield Picture(where, f"{split}/{i}", Place(split, i), said, columns)

  def load(self, place: Place) -> bytes:
    """A picture as it is stored."""
    return _record(_records(self, place.file), place.offset)[self.image]

  def uncaptioned(self) -> list[str]:
    """None: records without a caption are bad ones."""
    return []

  def _of(self, split: str) -> TFDS:
    return TFDS(self.name, split, self.image, self.data_dir)


@functools.lru_cache(maxsize=4)
def _records(source: CaptionedTFDS, split: str):
  """The records of a split by their numbers, pictures not decoded, after checking the files."""
  dataset = source._of(split)
  builder = dataset.builder()
  dataset.files(builder)
  features = builder.info.features
  for name in (source.image, *caption_columns.needs(source.caption)):
    outer = name.partition("/")[0]
    if name not in features and outer not in features:
      raise UserError(
        f"{source.name} has no feature {name!r}; there are: {', '.join(features)}."
        f"{nearest(name, features)} Choose with image= and caption=."
      )
  with quiet():
    import tensorflow_datasets as tfds

    if not isinstance(features[source.image], tfds.features.Image):
      raise UserError(f"{source.name}: the feature {source.image!r} holds no pictures.")
    return builder.as_data_source(split, decoders={source.image: tfds.decode.SkipDecoding()})


def _record(records: Any, i: int) -> dict[str, Any]:
  try:
    return records[i]
  except Exception as error:  # ArrayRecord's, protobuf's and TFDS's have nothing in common
    raise Unreadable(reason(error)) from None


def _plain(value: Any) -> Any:
  """Texts as such, arrays and sequences of them as lists."""
  if isinstance(value, dict):
    return {name: _plain(x) for name, x in value.items()}
  if isinstance(value, bytes):
    return value.decode("utf-8", "replace")
  if isinstance(value, np.ndarray | list | tuple) or type(value).__name__ == "Dataset":
    return [_plain(x) for x in value]
  return value.item() if isinstance(value, np.generic) else value
