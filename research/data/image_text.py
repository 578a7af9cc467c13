"""Pictures with captions of one's own, as a dataset for CLIP.

They are decoded and resized once, into the cache; a batch is then a gather of crops. Pictures that
are too many for that are decoded as they are read. Pairs that cannot be used are left out, counted
and named, and too many of them are an error.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib

import numpy as np

from research.data import augmentation, cache, captions, draws, picture_store, pipeline, tokenizers
from research.data.augmentation import Change, Crop, SquareCrop
from research.data.bad_records import BadRecords, check_share
from research.data.captioned import Picture, Pictures
from research.data.clean import digest
from research.data.images import Unreadable
from research.data.splits import HELDOUT, SPLITS, TRAIN, ByHash
from research.data.vocabulary import Tokenizer, Vocabulary
from research.errors import UserError

FORMAT = 2  # raise it whenever the files of the cache, or what is in them, change
MIDDLE = SquareCrop()


@dataclasses.dataclass(frozen=True)
class Column:
  """Splits as the data itself says: by the words in one of its columns."""

  name: str = "split"
  train: str = "train"
  heldout: str = "test"


@dataclasses.dataclass(frozen=True)
class ImageText:
  """Pairs of a picture and a caption; a picture with several captions is in several pairs.

  Attributes:
    pictures: Captioned(table, folder), WebDataset("shards/*.tar"), CaptionedTFDS(name) or
      CaptionedArray(table, array).
    tokenizer: of the captions.
    image_size: rows and columns of a picture in a batch.
    length: tokens of a caption in a batch, its end (and start) among them; longer ones are cut.
    split: ByHash holds out pictures, with all of their captions, by their name; Column reads it.
    start: the number of the token before every caption (CLIP's is 49,406), or None.
    pad: the number of the token behind a caption's end (SigLIP's is 1, its end-of-text).
    resize: the shorter side before cropping; `image_size` where not given (CLIP, section 2.3).
    crop: which square of a picture of "train" is shown; of others it is the middle.
    augment: what else is changed about the pictures of "train", in this order.
    keep: "pixels" decodes all pictures once, into the cache, 3 bytes a pixel; "files" leaves them
      where they are, and decodes them whenever they are read.
    seed: of crops and changes.
    skip: share of the pictures and lines that may be bad and are left out: pictures that cannot be
      read, lines that say nothing.
  """

  pictures: Pictures
  tokenizer: Tokenizer
  image_size: int
  length: int
  split: ByHash | Column = ByHash(0.05)  # noqa: RUF009 (frozen)
  start: int | None = None
  pad: int = 0
  resize: int | None = None
  crop: Crop = SquareCrop()  # noqa: RUF009 (frozen)
  augment: tuple[Change, ...] = ()
  keep: str = "pixels"
  seed: int = 0
  skip: float = 0.01

  def __post_init__(self):
    check_share(self.skip)
    captions.check_length(self.length)
    if self.image_size < 1:
      raise UserError(f"image_size={self.image_size} must be at least 1.")
    if self.resize is not None and self.resize < self.image_size:
      raise UserError(
        f"resize={self.resize} is less than image_size={self.image_size}, which is cut out of it; "
        "choose as much or more."
      )
    if self.keep not in picture_store.KEEP:
      raise UserError(f"keep={self.keep!r} is not one of {', '.join(picture_store.KEEP)}.")

  def prepare(self) -> PreparedImageText:
    """Decodes, resizes and tokenizes, or opens what was prepared before.

    Raises:
      UserError: the pictures cannot be used, more of them than `skip` allows are bad, one is larger
        than Pillow will decode, or a split is empty.
    """
    name = cache.key(
      FORMAT,
      self.pictures.fingerprint(),
      self.tokenizer.fingerprint(),
      repr((self.split, self.length, self.start, self.pad, self.short_side, self.keep, self.skip)),
    )
    return PreparedImageText(cache.folder("image_text", name, self._write), self)

  def source(self, split: str) -> Pairs:
    """The pairs of "train" or "heldout"."""
    return self.prepare().source(split)

  def example(self) -> pipeline.Batch:
    """One pair of zeros: the keys, shapes and dtypes of what `source` gives, and nothing opened."""
    return captions.blank(self.image_size, self.length)

  @property
  def short_side(self) -> int:
    """Of a picture before it is cropped."""
    return self.resize or self.image_size

  def _write(self, folder: pathlib.Path) -> None:
    bad = BadRecords(self.skip)
    kept: list[Picture] = []
    words: list[object] = []
    rows = 0  # of which a picture may have several
    found = self.pictures.read(bad)
    for picture, wrong in picture_store.write(
      found, self.pictures, self.short_side, self.keep, folder
    ):
      if wrong:
        bad.leave_out(f"{picture.where}: {picture.name[:80]} cannot be read ({wrong})")
        continue
      rows += 1 + len(picture.again)
      kept.append(picture._replace(columns={}, again=()))
      words.append(picture.cell(self.split.name) if self._by_column else None)
    records = rows + bad.count
    bad.check(records)
    bad.tell(records)
    split_of = self._splits(kept, words)
    pairs = [(i, text) for i, picture in enumerate(kept) for text in picture.captions]
    fitted = self.tokenizer.fit([text for i, text in pairs if split_of[i] == TRAIN])
    fitted.save(folder / "vocabulary")
    texts = [text for _, text in pairs]
    tokens, ends, cut = captions.rows(fitted, texts, self.length, self.start, self.pad)
    arrays = {
      "pictures": np.array([i for i, _ in pairs], np.int64),
      "tokens": tokens,
      "ends": ends,
      **{s: np.flatnonzero([split_of[i] == s for i, _ in pairs]) for s in SPLITS},
    }
    for name, array in arrays.items():
      np.save(folder / f"{name}.npy", array, allow_pickle=False)
    uncaptioned = self.pictures.uncaptioned()
    summary = {
      "pictures": len(kept),
      "pairs": len(pairs),
      "cut": cut,
      "left_out": bad.count,
      "named": bad.named,
      "uncaptioned": len(uncaptioned),
      "for_example": uncaptioned[:1],
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")

  @property
  def _by_column(self) -> bool:
    return isinstance(self.split, Column)

  def _splits(self, kept: list[Picture], words: list[object]) -> list[str | None]:
    """The split of every picture, None where it is in none."""
    if self._by_column:
      splits = {self.split.train: TRAIN, self.split.heldout: HELDOUT}
      found = [splits.get(word) if isinstance(word, str) else None for word in words]
    else:
      names = [picture.name for picture in kept]
      divided = self.split.divide(names, [digest(name) for name in names])
      found = [None] * len(kept)
      for split, numbers in divided.items():
        for i in numbers:
          found[i] = split
    for split in SPLITS:
      if split not in found and not (split == HELDOUT and self.split == ByHash(0.0)):
        raise UserError(f"{self.split} leaves the {split} split empty; choose another.")
    return found


class PreparedImageText:
  """Pairs on disk, memory-mapped.

  Attributes:
    vocabulary: the fitted tokenizer.
    summary: how many "pictures" and "pairs" there are, how many captions were "cut", how many
      records "left_out" and why the first of them ("named"), and how many "uncaptioned" pictures.
  """

  def __init__(self, folder: pathlib.Path, dataset: ImageText):
    self.folder, self.dataset = folder, dataset
    self.summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    self.vocabulary: Vocabulary = tokenizers.load(folder / "vocabulary")

  @property
  def note(self) -> str:
    """What a user should know; "" where there is nothing."""
    summary = self.summary
    said = [captions.note(summary["cut"], summary["pairs"], self.dataset.length)]
    if summary["uncaptioned"]:
      said.append(
        f"pictures without a caption are left out: {summary['uncaptioned']:,}, for example "
        f"{summary['for_example'][0]}"
      )
    return "; ".join(filter(None, said))

  def source(self, split: str) -> Pairs:
    """The pairs of the split; those of "train" are augmented, in every epoch otherwise."""
    if split not in SPLITS:
      raise UserError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    return Pairs(self, split)


class Pairs:
  """The pairs of one split."""

  def __init__(self, prepared: PreparedImageText, split: str):
    folder, self.dataset = prepared.folder, prepared.dataset
    self.split = split
    self.note = prepared.note if split == TRAIN else ""  # said once
    names = (split, "pictures", "tokens", "ends")
    loaded = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in names)
    self.numbers, self.pictures, self.tokens, self.ends = loaded
    self.bad = BadRecords(self.dataset.skip)
    self._store = picture_store.opened(folder, self.dataset.pictures, self.dataset.short_side)
    self._broken: set[int] = set()

  def __len__(self) -> int:
    return len(self.numbers)

  def take(self, indices: np.ndarray, epoch: int) -> pipeline.Batch:
    """Pictures of "train" augmented by a function of (seed, index, epoch); others in their middle.

    One that has become unreadable is padding.

    Raises:
      UserError: there are too many of those.
    """
    numbers = self.numbers[indices]
    pictures = np.asarray(self.pictures[numbers])
    images = self._train(pictures, indices, epoch) if self.split == TRAIN else self._rest(pictures)
    there_B = np.array([image is not None for image in images])
    size = self.dataset.image_size
    blank = np.zeros((size, size, 3), np.uint8)
    return {
      "image": np.stack([blank if image is None else image for image in images]),
      "picture": np.where(there_B, pictures, 0).astype(np.int32),
      "caption": np.where(there_B[:, None], self.tokens[numbers], 0),
      "caption_end": np.where(there_B, self.ends[numbers], 0),
      "weights": there_B.astype(np.float32),
    }

  def _train(self, pictures: np.ndarray, indices: np.ndarray, epoch: int) -> list:
    dataset = self.dataset
    count = augmentation.draws(dataset.crop, dataset.augment)
    chances_BN = draws.uniform(dataset.seed, epoch, indices, count)
    change = functools.partial(
      augmentation.augmented, size=dataset.image_size, crop=dataset.crop, changes=dataset.augment
    )
    return [
      None if image is None else change(image, chances=chances_N)
      for image, chances_N in zip(map(self._picture, pictures), chances_BN)
    ]

  def _rest(self, pictures: np.ndarray) -> list:
    middle = np.full(MIDDLE.draws, 0.5)
    size = self.dataset.image_size
    return [
      None if image is None else MIDDLE(image, size, middle)
      for image in map(self._picture, pictures)
    ]

  def _picture(self, number: int) -> np.ndarray | None:
    try:
      return self._store.read(number)
    except Unreadable as error:
      if number not in self._broken:
        self._broken.add(int(number))
        self.bad.leave_out(str(error))
        self.bad.check(len(self))
      return None
