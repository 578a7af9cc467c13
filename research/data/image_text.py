"""Pictures with captions from a table and a folder, as a dataset for CLIP.

They are decoded and resized once, into the cache; a batch is then a gather of crops. Pairs that
cannot be used are left out, counted and named, and too many of them are an error.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib

import numpy as np

from research.data import cache, captions, images, pipeline, tokenizers
from research.data.bad_records import BadRecords, check_share
from research.data.captions import Line
from research.data.clean import digest
from research.data.paths import reach
from research.data.splits import HELDOUT, SPLITS, TRAIN, ByHash
from research.data.vocabulary import Tokenizer, Vocabulary
from research.errors import UserError

FORMAT = 1  # raise it whenever the files of the cache, or what is in them, change


@dataclasses.dataclass(frozen=True)
class Column:
  """Splits as the table itself says: by the words in one of its columns."""

  name: str = "split"
  train: str = "train"
  heldout: str = "test"


@dataclasses.dataclass(frozen=True)
class ImageText:
  """Pairs of a picture and a caption.

  Attributes:
    table: a .jsonl, .tsv or .csv file with a line for each pair; a picture may have several.
    folder: that the table's files lie in. Both may lead through a tar or zip ("flickr.zip/images").
    tokenizer: of the captions.
    image_size: rows and columns of a picture in a batch.
    length: tokens of a caption in a batch, its end (and start) among them; longer ones are cut.
    split: ByHash holds out pictures, with all of their captions, by their path; Column reads it.
    image, caption: names of the table's two columns.
    start: the number of the token before every caption (CLIP's is 49,406), or None.
    resize: the shorter side before cropping; `image_size` where not given (CLIP, section 2.3).
    seed: of the crops.
    skip: share of the pairs that may be bad and are left out: pictures that cannot be read, lines
      that say nothing.
  """

  table: str
  folder: str
  tokenizer: Tokenizer
  image_size: int
  length: int
  split: ByHash | Column = ByHash(0.05)  # noqa: RUF009 (frozen)
  image: str = "image"
  caption: str = "caption"
  start: int | None = None
  resize: int | None = None
  seed: int = 0
  skip: float = 0.01

  def __post_init__(self):
    check_share(self.skip)
    if self.image_size < 1:
      raise UserError(f"image_size={self.image_size} must be at least 1.")
    if self.length < 3:
      raise UserError(f"length={self.length} holds no caption; choose 3 tokens or more.")
    if self.resize is not None and self.resize < self.image_size:
      raise UserError(
        f"resize={self.resize} is less than image_size={self.image_size}, which is cut out of it; "
        "choose as much or more."
      )

  def prepare(self) -> PreparedImageText:
    """Decodes, resizes and tokenizes, or opens what was prepared before.

    Raises:
      UserError: the table cannot be used, more of its pairs than `skip` allows are bad, a picture
        is larger than Pillow will decode, or a split is empty.
    """
    bad = BadRecords(self.skip)
    lines = captions.table(reach(self.table), reach(self.folder), self.image, self.caption, bad)
    bad.check(len(lines) + bad.count)
    said = [(str(x.image), x.caption, x.columns.get(self._column)) for x in lines]
    name = cache.key(
      FORMAT,
      hashlib.blake2b(repr(said).encode()).hexdigest(),
      images.stamps(line.image for line in lines),
      self.tokenizer.fingerprint(),
      repr((self.split, self.length, self.start, self.resize or self.image_size, self.skip)),
    )
    write = functools.partial(self._write, lines, bad)
    return PreparedImageText(cache.folder("image_text", name, write), self)

  def source(self, split: str) -> Pairs:
    """The pairs of "train" or "heldout"."""
    return self.prepare().source(split)

  def example(self) -> pipeline.Batch:
    """One pair of zeros: the keys, shapes and dtypes of what `source` gives, and nothing opened."""
    return captions.blank(self.image_size, self.length)

  @property
  def _column(self) -> str | None:
    return self.split.name if isinstance(self.split, Column) else None

  def _write(self, lines: list[Line], bad: BadRecords, folder: pathlib.Path) -> None:
    records = len(lines) + bad.count
    files = list(dict.fromkeys(line.image for line in lines))
    shapes, broken = images.decode(files, self.resize or self.image_size, folder / "pixels.bin")
    for line in lines:
      if line.image in broken:
        bad.leave_out(f"{line.where}: {line.image.name[:80]} cannot be read ({broken[line.image]})")
    bad.check(records)
    bad.tell(records)
    lines = [line for line in lines if line.image not in broken]
    numbers = {file: i for i, file in enumerate(x for x in files if x not in broken)}
    split_of = self._splits(list(numbers), lines)
    texts = [line.caption for line, split in zip(lines, split_of) if split == TRAIN]
    fitted = self.tokenizer.fit(texts)
    fitted.save(folder / "vocabulary")
    tokens, ends, cut = captions.rows(
      fitted, [line.caption for line in lines], self.length, self.start
    )
    arrays = {
      "shapes": np.array(shapes, np.int64).reshape(-1, 2),
      "pictures": np.array([numbers[line.image] for line in lines], np.int64),
      "tokens": tokens,
      "ends": ends,
      **{s: np.flatnonzero([split == s for split in split_of]) for s in SPLITS},
    }
    for name, array in arrays.items():
      np.save(folder / f"{name}.npy", array, allow_pickle=False)
    summary = {"broken": {str(file): why for file, why in broken.items()}, "cut": cut}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")

  def _splits(self, files: list[pathlib.Path], lines: list[Line]) -> list[str | None]:
    """The split of every line, None where it is in none."""
    if isinstance(self.split, Column):
      words = {self.split.train: TRAIN, self.split.heldout: HELDOUT}
      found = [words.get(line.columns.get(self.split.name)) for line in lines]
    else:
      home = reach(self.folder).resolve()
      names = [str(file.relative_to(home)) for file in files]
      divided = self.split.divide(names, [digest(name) for name in names])
      of_file = {files[i]: split for split, chosen in divided.items() for i in chosen}
      found = [of_file[line.image] for line in lines]
    for split in SPLITS:
      if split not in found and not (split == HELDOUT and self.split == ByHash(0.0)):
        raise UserError(f"{self.split} leaves the {split} split empty; choose another.")
    return found


class PreparedImageText:
  """Pairs on disk, memory-mapped.

  Attributes:
    vocabulary: the fitted tokenizer.
    broken: files that could not be read, and why.
    cut: captions that were longer than a row.
  """

  def __init__(self, folder: pathlib.Path, dataset: ImageText):
    self.folder, self.dataset = folder, dataset
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    self.broken: dict[str, str] = summary["broken"]
    self.cut: int = summary["cut"]
    self.vocabulary: Vocabulary = tokenizers.load(folder / "vocabulary")

  def source(self, split: str) -> Pairs:
    """The pairs of the split; those of "train" are cropped elsewhere in every epoch."""
    if split not in SPLITS:
      raise UserError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    return Pairs(self.folder, split, self.dataset.image_size, self.dataset.seed)


class Pairs:
  """The pairs of one split."""

  def __init__(self, folder: pathlib.Path, split: str, image_size: int, seed: int):
    self.split, self.image_size, self.seed = split, image_size, seed
    names = (split, "pictures", "tokens", "ends", "shapes")
    loaded = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in names)
    self.numbers, self.pictures, self.tokens, self.ends, self.shapes = loaded
    self.offsets = np.concatenate([[0], np.cumsum(3 * np.prod(self.shapes, axis=1))])
    self.pixels = np.memmap(folder / "pixels.bin", np.uint8, mode="r")

  def __len__(self) -> int:
    return len(self.numbers)

  def take(self, indices: np.ndarray, epoch: int) -> pipeline.Batch:
    """Random crops of "train", a function of (seed, index, epoch); central ones otherwise."""
    numbers = self.numbers[indices]
    places = np.full((len(indices), 2), 0.5)
    if self.split == TRAIN:
      places = images.fractions(2, indices, epoch, self.seed)
    pictures = map(self._picture, self.pictures[numbers])
    crops = [images.crop(x, self.image_size, place) for x, place in zip(pictures, places)]
    return {
      "image": np.stack(crops),
      "caption": np.asarray(self.tokens[numbers]),
      "caption_end": np.asarray(self.ends[numbers]),
      "weights": np.ones(len(indices), np.float32),
    }

  def _picture(self, i: int) -> np.ndarray:
    return self.pixels[self.offsets[i] : self.offsets[i + 1]].reshape(*self.shapes[i], 3)
