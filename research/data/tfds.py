"""Documents from TFDS datasets that were prepared as ArrayRecord. TensorFlow is not needed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import pathlib
import platform
import tempfile
import threading
from collections.abc import Iterator

import numpy as np

from research.data import cache, progress
from research.errors import UserError, nearest, reason

OURS = (
  "python_docs",
  "python_source",
  "glyphs",
)  # made here on first use, from the interpreter itself
FORMAT = 1  # raise it whenever what our builders write changes
_TURNS = threading.RLock()  # what `quiet` exchanges is of the whole process


@dataclasses.dataclass(frozen=True)
class TFDS:
  """The documents of a TensorFlow dataset.

  "python_docs" (the Python reference and docstrings, 2.5 MB) and "python_source" (the standard
  library, 30 MB) are made on first use from the interpreter, and "glyphs" from matplotlib's fonts,
  without network.

  Attributes:
    name: as in TFDS: "lm1b", "wiki40b/en", "lm1b:1.1.0".
    split: as in TFDS: "train", "train[:10%]", "train+test".
    field: the feature with the text.
    data_dir: where it was prepared; None is TFDS's own ($TFDS_DATA_DIR or ~/tensorflow_datasets).
  """

  name: str
  split: str = "train"
  field: str = "text"
  data_dir: str | None = None

  def fingerprint(self) -> str:
    """Of the dataset's version, its files' sizes and beginnings; its records are not read."""
    builder = self.builder()
    total = hashlib.blake2b(repr((self.split, self.field)).encode(), digest_size=16)
    total.update(builder.info.full_name.encode())
    for path in self.files(builder):
      with path.open("rb") as file:
        total.update(f"{path.name} {path.stat().st_size}".encode() + file.read(1 << 20))
    return total.hexdigest()

  def read(self) -> Iterator[str]:
    """The documents, in the dataset's order.

    Raises:
      UserError: it is not prepared, damaged, or has no such split or field.
    """
    builder = self.builder()
    files = self.files(builder)
    self._check_field(builder)
    number = 0
    try:
      source = builder.as_data_source(self.split)
      for number in range(len(source)):
        text = source[number][self.field]
        yield text.decode() if isinstance(text, bytes) else str(np.asarray(text).item())
    except UnicodeDecodeError:
      raise UserError(
        f"{self.name}, record {number}: field {self.field!r} is not UTF-8 text; choose another"
      ) from None
    except Exception as error:  # ArrayRecord's, protobuf's and TFDS's have nothing in common
      raise UserError(_damaged(builder, f"{_place(files, number)}: {reason(error)}")) from None

  def builder(self):
    """TFDS's, of what is prepared; UserError where it is not."""
    return _ours(self.name) if self.name in OURS else self._prepared()

  def _prepared(self):
    base, _, version = self.name.partition(":")
    if version and not version[0].isdigit():
      raise UserError(f"{self.name}: only TFDS's own datasets can be read; give a name without ':'")
    with quiet():
      import tensorflow_datasets as tfds

      data_dir = self.data_dir and os.path.expanduser(self.data_dir)
      names = [*OURS, *tfds.list_builders(with_community_datasets=False)]
      try:
        builder = tfds.builder(self.name, data_dir=data_dir, file_format="array_record")
        prepared = builder.is_prepared()
      except tfds.core.DatasetNotFoundError:
        prepared = False
        if base.partition("/")[0] not in names:
          raise UserError(
            f"{data_dir or '~/tensorflow_datasets'} holds no dataset {self.name!r}."
            f"{nearest(self.name, names)} {_advice(self)}"
          ) from None
      except Exception as error:  # it raises whatever its parts do
        raise UserError(
          f"TFDS cannot open {self.name!r} in {data_dir or '~/tensorflow_datasets'} "
          f"({reason(error)}); delete that folder and prepare it again"
        ) from None
    if not prepared:
      raise UserError(
        f"{self.name} is not prepared as ArrayRecord in {data_dir or '~/tensorflow_datasets'}. "
        + _advice(self)
      )
    return builder

  def files(self, builder) -> dict[pathlib.Path, int]:
    """The files of the split and the records that are read of each, after checking what they hold.

    A damaged ArrayRecord file opens without complaint, as one with no records.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    splits = builder.info.splits
    try:
      parts = splits[self.split].file_instructions
    except (KeyError, ValueError, AssertionError):
      raise UserError(
        f"{self.name} has no split {self.split!r}; choose from {', '.join(splits)}."
        f"{nearest(self.split, splits)}"
      ) from None
    taken = {}
    for part in parts:
      path = pathlib.Path(part.filename)
      if "array_record" not in path.name:
        raise UserError(
          f"{self.name} in {builder.data_dir} is stored as {builder.info.file_format.value}, not "
          f"ArrayRecord; run: tfds convert_format --out_file_format=array_record "
          f"--dataset_dir={builder.data_dir}"
        )
      try:
        reader = ArrayRecordReader(str(path))
        records = reader.num_records()
        reader.close()
      except (RuntimeError, ValueError, OSError) as error:
        raise UserError(_damaged(builder, f"{path.name}: {reason(error)}")) from None
      if records != part.examples_in_shard:
        raise UserError(
          _damaged(builder, f"{path.name} has {records} records, not {part.examples_in_shard}")
        )
      taken[path] = part.take
    return taken

  def _check_field(self, builder) -> None:
    names = list(builder.info.features)
    if self.field not in names:
      raise UserError(
        f"{self.name} has no field {self.field!r}; there are: {', '.join(names)}."
        f"{nearest(self.field, names)} Choose with field=..."
      )


def _advice(dataset: TFDS) -> str:
  folder = f" --data_dir={dataset.data_dir}" if dataset.data_dir else ""
  command = f"tfds build {dataset.name} --file_format=array_record{folder}"
  return f"On a machine with TensorFlow run: {command}"


def _place(files: dict[pathlib.Path, int], number: int) -> str:
  """The file that a record is in, and which of those that are read of it."""
  for path, count in files.items():
    if number < count:
      return f"{path.name}, record {number}"
    number -= count
  return "its files"


def _damaged(builder, what: object) -> str:
  return f"{builder.data_dir} is damaged ({what}); delete the folder and prepare it again"


def _ours(name: str):
  """The builder of one of our own datasets, prepared in the cache."""
  with quiet():
    import tensorflow_datasets as tfds

    from research.data import glyph_builder, python_docs

    edition = glyph_builder.edition() if name == "glyphs" else platform.python_version()

    make = (python_docs.BUILDERS | glyph_builder.BUILDERS)[name]
    inside = pathlib.Path(name) / str(make.VERSION)

    def write(folder: pathlib.Path) -> None:
      builder = make(data_dir=str(folder), file_format="array_record")
      with progress.line(f"preparing {name}"):
        builder.download_and_prepare()

    folder = cache.folder("tfds", f"{name}-{edition}-{FORMAT}", write)
    return tfds.builder_from_directory(str(folder / inside))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """TFDS without its log lines, prints, bars and forgotten temporary folders; errors still rise.

  One thread at a time.
  """
  with _TURNS, _quiet():
    yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  import absl.logging  # its import sets up logging, so it comes first

  loggers = [absl.logging.get_absl_logger(), logging.getLogger()]
  levels = [logger.level for logger in loggers]
  for logger in loggers:
    logger.setLevel(logging.ERROR)
  outside = tempfile.tempdir
  try:
    with (
      contextlib.redirect_stdout(io.StringIO()),
      tempfile.TemporaryDirectory() as tempfile.tempdir,
    ):
      import tensorflow_datasets as tfds

      tfds.disable_progress_bar()
      yield
  finally:
    tempfile.tempdir = outside
    for logger, level in zip(loggers, levels):
      logger.setLevel(level)
