"""TFDS builders of what every Python carries: its documentation and its source. No network.

Imported only when one of them is asked for, since it needs tensorflow_datasets (not TensorFlow).
"""

from __future__ import annotations

import sys

import tensorflow_datasets as tfds
from etils import epath

from research.data import stdlib

# The data changes with the interpreter, so its version is the interpreter's.
PYTHON = tfds.core.Version("{}.{}.{}".format(*sys.version_info[:3]))

# TFDS would look for itself, with a package that it does not ask for from Python 3.9 on.
HERE = epath.Path(__file__)


def _info(builder: tfds.core.GeneratorBasedBuilder, description: str) -> tfds.core.DatasetInfo:
  features = {"name": tfds.features.Text(), "text": tfds.features.Text()}
  return tfds.core.DatasetInfo(
    builder=builder,
    description=description,
    features=tfds.features.FeaturesDict(features),
    homepage="https://docs.python.org",
    license="Python Software Foundation License",
    disable_shuffling=True,  # in the order of their names
  )


class PythonDocs(tfds.core.GeneratorBasedBuilder):
  """The language reference by topic, and the standard library's docstrings by module."""

  VERSION = PYTHON
  code_path = HERE

  def _info(self) -> tfds.core.DatasetInfo:
    return _info(self, "The Python language reference and the library's docstrings.")

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing is downloaded
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for i, (name, text) in enumerate(stdlib.documentation()):
      yield i, {"name": name, "text": text}


class PythonSource(tfds.core.GeneratorBasedBuilder):
  """Every .py file of the standard library, its tests among them."""

  VERSION = PYTHON
  code_path = HERE

  def _info(self) -> tfds.core.DatasetInfo:
    return _info(self, "The source of the Python standard library.")

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing is downloaded
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for i, (name, text) in enumerate(stdlib.sources()):
      yield i, {"name": name, "text": text}


BUILDERS = {"python_docs": PythonDocs, "python_source": PythonSource}
