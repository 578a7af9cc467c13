"""Whole files of every kind that is read, to be harmed."""

from __future__ import annotations

import json
from pathlib import Path

SENTENCE = "the river runs, später, 漢字"
LETTERS = ["t", "h", "e", "r", "i", "v", "n", "s", "u", ",", "p", "ä", "漢", "字"]


def make_vocabulary(folder: Path) -> None:
  """A SentencePiece model as a run keeps it, in `sentencepiece`, and a tokenizer, in `bert`."""
  from research import data

  lines = [f"the river {i} runs and the tree stands later, 漢字" for i in range(400)]
  data.SentencePiece(320).fit(lines).save(folder / "sentencepiece")
  (folder / "vocab.txt").write_text("\n".join(["[UNK]", "[SEP]", "[CLS]", "the", *LETTERS]) + "\n")
  data.HuggingFace(str(folder / "vocab.txt")).fit().save(folder / "bert")
  data.Bytes().fit().save(folder / "bytes")


def make_gpt2(folder: Path) -> None:
  """A small vocabulary as GPT-2's was published, and the same as a tokenizer.json."""
  from research import data
  from research.data.published import letters_of_bytes

  letters = list(letters_of_bytes().values())
  merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("r", "i")]
  pieces = [*letters, *("".join(pair) for pair in merges), "<|endoftext|>"]
  (folder / "encoder.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
  (folder / "vocab.bpe").write_text("".join(f"{a} {b}\n" for a, b in merges))
  data.HuggingFace(str(folder / "encoder.json")).fit().save(folder / "saved")
  (folder / "tokenizer.json").write_bytes((folder / "saved" / "tokenizer.json").read_bytes())


def make_tfds(folder: Path) -> None:
  """Twenty poems in two files, as TFDS prepares them."""
  import tensorflow_datasets as tfds
  from etils import epath

  class Poems(tfds.core.GeneratorBasedBuilder):
    """Poems."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = epath.Path(__file__)

    def _info(self):
      features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
      return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
      return {"train": self._generate_examples(), "test": self._generate_examples()}

    def _generate_examples(self):
      for i in range(20):
        yield i, {"text": f"poem {i}, später"}

  Poems(data_dir=str(folder), file_format="array_record").download_and_prepare()


def make_cache(folder: Path) -> None:
  """A text, and what is prepared of it."""
  from . import readers

  text = "".join(f"line {i} of a text that is there to be read, {i % 7}\n" for i in range(400))
  (folder / "x.txt").write_text(text)
  readers.prepared()


def make_pictures(folder: Path) -> None:
  """Eight pictures of several kinds, and tables that name them."""
  import numpy as np
  import PIL.Image

  (folder / "pictures").mkdir()
  noise = np.random.RandomState(0).randint(0, 255, (20, 30, 3), np.uint8)
  image = PIL.Image.fromarray(noise)
  names = []
  for name, mode, options in (
    ("a.png", "RGB", {}),
    ("b.jpg", "RGB", {}),
    ("c.webp", "RGBA", {}),
    ("d.gif", "P", {"save_all": True, "append_images": [image.convert("P")]}),
    ("e.tif", "CMYK", {}),
    ("f.bmp", "RGB", {}),
    ("g.png", "LA", {}),
    ("h.png", "1", {}),
  ):
    image.convert(mode).save(folder / "pictures" / name, **options)
    names.append(name)
  lines = [json.dumps({"image": name, "caption": f"picture {name}"}) for name in names]
  (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
