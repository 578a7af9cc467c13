"""TFDS: prepared ArrayRecords are read, and our own builders work without network or TensorFlow."""

import ast
import dataclasses
import subprocess
import sys
import tempfile
import textwrap
import threading

import numpy as np
import pytest

from research import data
from research.data import stdlib
from research.data.bad_records import BadRecords
from research.data.tfds import quiet
from research.errors import UserError


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
  folder = tmp_path_factory.mktemp("cache")
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("RESEARCH_CACHE", str(folder))
    # TFDS leaves an empty temporary folder behind for every builder that it makes.
    patch.setattr(tempfile, "tempdir", str(folder))
    yield folder


@pytest.fixture
def prepared(tmp_path):
  """A dataset of somebody else, in a data_dir of theirs."""
  import tensorflow_datasets as tfds
  from etils import epath

  with tfds.core.registered.skip_registration():

    class Somebodys(tfds.core.GeneratorBasedBuilder):
      """Ten poems."""

      VERSION = tfds.core.Version("1.2.3")
      code_path = epath.Path(__file__)

      def _info(self):
        features = {"text": tfds.features.Text(), "stars": tfds.features.Scalar(np.int32)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

      def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0), "test": self._generate_examples(10)}

      def _generate_examples(self, start):
        for i in range(start, start + 10):
          yield i, {"text": f"poem {i}, später", "stars": i}

  Somebodys(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
  yield data.TFDS("somebodys", data_dir=str(tmp_path))


def test_python_docs_prepare_without_network_or_tensorflow(tmp_path):
  code = """
    import socket, sys

    def refuse(*arguments, **named):
      raise AssertionError("network")

    socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
    from research import data
    documents = list(data.TFDS("python_docs").read())
    assert "tensorflow" not in sys.modules
    print(len(documents), any("The import system" in text for text in documents))
  """
  done = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  count, _ = done.stdout.split()
  assert int(count) > 400
  assert done.stderr == ""


def test_python_docs_have_every_topic_and_docstring_in_order():
  documents = list(data.TFDS("python_docs").read())
  assert documents == [text for _, text in stdlib.documentation()]
  (json,) = [text for text in documents if text.startswith("json.decoder\n")]
  assert "class JSONDecoder(object)\n    Simple JSON <https://json.org> decoder" in json
  assert "    def decode(self, s, _w=WHITESPACE.match)\n        Return the Python rep" in json
  assert data.TFDS("python_docs").fingerprint() == data.TFDS("python_docs").fingerprint()
  assert data.TFDS("python_docs", split="train[:50%]").fingerprint() != (
    data.TFDS("python_docs").fingerprint()
  )


def test_docstrings_come_with_their_signatures():
  source = '''
  """A module."""

  def quiet(x): ...

  async def load(path: str, *, limit=3) -> bytes:
    """Reads."""

  class Empty: ...

  class Thing(Base, key=1):
    def act(self):
      """Acts.

      Twice."""
  '''
  tree = ast.parse(textwrap.dedent(source))
  expected = """\
    m

    A module.

    async def load(path: str, *, limit=3) -> bytes
        Reads.

    class Thing(Base, key=1)

        def act(self)
            Acts.

            Twice.
  """
  assert stdlib.docstrings("m", tree) == textwrap.dedent(expected).rstrip(" ")
  assert stdlib.docstrings("m", ast.parse("x = 1")) == ""


def test_source_is_sorted_and_leaves_installed_packages_out():
  names = [name for name, _ in stdlib.sources()]
  assert names == sorted(names)
  assert "json/decoder.py" in names
  assert not any("site-packages" in name for name in names)


def test_threads_that_are_quiet_at_once_leave_everything_as_it_was():
  before = sys.stdout, tempfile.tempdir
  first_in, second_in, first_out = (threading.Event() for _ in range(3))

  def first():
    with quiet():
      first_in.set()
      second_in.wait(0.3)  # for one who should not come in
    first_out.set()

  def second():
    first_in.wait()
    with quiet():
      second_in.set()
      first_out.wait()

  threads = [threading.Thread(target=target) for target in (first, second)]
  try:
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    assert (sys.stdout, tempfile.tempdir) == before
  finally:
    sys.stdout, tempfile.tempdir = before


def test_anybodys_prepared_dataset_is_read(prepared):
  assert sorted(prepared.read()) == sorted(f"poem {i}, später" for i in range(10))
  part = data.TFDS("somebodys", split="train[:30%]+test", data_dir=prepared.data_dir)
  assert len(list(part.read())) == 13


def replace(prepared, **changes):
  return data.TFDS(**{"name": prepared.name, "data_dir": prepared.data_dir, **changes})


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"split": "trian"}, "no split 'trian'; choose from .*Did you mean 'train'"),
    ({"field": "txt"}, "no field 'txt'; there are: .*Did you mean 'text'"),
    ({"name": "somebodies"}, "holds no dataset 'somebodies'"),
    ({"name": "python_doc"}, "Did you mean 'python_docs'"),
    ({"name": "mnist"}, "run: tfds build mnist --file_format=array_record --data_dir="),
    ({"name": "huggingface:squad"}, "only TFDS's own datasets"),
  ],
)
def test_mistakes_are_told_in_one_line(prepared, changes, message):
  with pytest.raises(UserError, match=message) as caught:
    list(replace(prepared, **changes).read())
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "gone"])
def test_a_damaged_file_is_told(prepared, tmp_path, damage):
  (file,) = tmp_path.glob("**/*train.array_record*")
  content = file.read_bytes()
  match damage:
    case "cut":
      file.write_bytes(content[: len(content) // 2])
    case "empty":
      file.write_bytes(b"")
    case "zeros":
      file.write_bytes(bytes(len(content)))
    case "gone":
      file.unlink()
  for read in (lambda: list(prepared.read()), prepared.fingerprint):
    with pytest.raises(UserError, match="is damaged"):
      read()


def test_glyphs_are_prepared_and_read_as_any_dataset(tmp_path):
  import tensorflow_datasets as tfds

  from research.data import glyph_builder

  few = ("computer modern", "bold computer modern", "italic computer modern")
  drawn = data.Glyphs(16, 96, styles=few, unseen=few[2:], characters=0.1, combinations=0.3)
  with tfds.core.registered.skip_registration():
    small = type("Glyphs", (glyph_builder.Glyphs,), {"DRAWN": drawn})
  small(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
  pictures = data.CaptionedTFDS(
    "glyphs_of_mine", ("train", "combinations"), caption="caption", data_dir=str(tmp_path)
  )
  (tmp_path / "glyphs").rename(tmp_path / "glyphs_of_mine")
  dataset = data.ImageText(pictures, data.Bytes(), 16, 96, data.Column(heldout="combinations"))
  for split, theirs in (("train", "train"), ("heldout", "combinations")):
    found, wanted = dataset.source(split), drawn.source(theirs)
    assert len(found) == len(wanted) > 5
    batches = [source.take(np.arange(5), 0) for source in (found, wanted)]
    for key in ("image", "caption"):
      np.testing.assert_array_equal(*(batch[key] for batch in batches))
  with pytest.raises(UserError, match=r"no feature 'captoin'.*Did you mean 'caption'"):
    list(dataclasses.replace(pictures, caption="captoin").read(BadRecords(0.0)))


def test_several_captions_lie_inside_of_a_sequence(tmp_path):
  import io

  import PIL.Image
  import tensorflow_datasets as tfds
  from etils import epath

  with tfds.core.registered.skip_registration():

    class CocoLike(tfds.core.GeneratorBasedBuilder):
      """Four pictures with two captions each, in the features of coco_captions."""

      VERSION = tfds.core.Version("1.1.0")
      code_path = epath.Path(__file__)

      def _info(self):
        said = tfds.features.Sequence({"id": np.int64, "text": tfds.features.Text()})
        features = {"image": tfds.features.Image(encoding_format="png"), "captions": said}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

      def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "val": self._generate_examples()}

      def _generate_examples(self):
        for i in range(4):
          file = io.BytesIO()
          PIL.Image.new("RGB", (9, 8), (i, 0, 0)).save(file, "png")
          file.seek(0)
          captions = [{"id": j, "text": f"picture {i}, said {j}"} for j in range(2)]
          yield i, {"image": file, "captions": captions}

  CocoLike(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
  pictures = data.CaptionedTFDS("coco_like", ("train", "val"), data_dir=str(tmp_path))
  dataset = data.ImageText(pictures, data.Bytes(), 8, 24, data.Column(heldout="val"), keep="files")
  batch = dataset.source("heldout").take(np.arange(8), 0)
  said = [
    bytes(row[:end].astype(np.uint8)).decode()
    for row, end in zip(batch["caption"], batch["caption_end"])
  ]
  numbers = batch["image"][:, 0, 0, 0]
  assert said == [f"picture {i}, said {j}" for i, j in zip(numbers, [0, 1] * 4)]
