"""research: one short file composes data, model and optimizer into an experiment.

The names below are what an experiment file imports. They are loaded when first used, so that
`research --help` answers without JAX.
"""

import importlib

_HOME = {
  "Alike": "research.claims",
  "Answered": "research.answers",
  "Claim": "research.claims",
  "Crossing": "research.claims",
  "Eval": "research.evaluate",
  "Experiment": "research.experiment",
  "Features": "research.features",
  "FewShot": "research.matching",
  "Guard": "research.guard",
  "InitFrom": "research.init_from",
  "Keep": "research.retention",
  "Samples": "research.generate",
  "LinearProbe": "research.matching",
  "LoRA": "research.lora",
  "Retrieval": "research.matching",
  "ScalingLaw": "research.claims",
  "Search": "research.search",
  "Sharding": "research.mesh",
  "Trend": "research.claims",
  "Trials": "research.trials",
  "UserError": "research.errors",
  "ZeroShot": "research.matching",
  "data": "research.data",
  "generate": "research.generate",
  "model_of": "research.record",
  "models": "research.models",
  "objectives": "research.objectives",
  "optim": "research.optim",
}

__all__ = sorted(_HOME)
__version__ = "0.1.0"


def __getattr__(name):  # PEP 562: the table of contents above, without opening every chapter
  if name not in _HOME:
    raise AttributeError(f"module 'research' has no attribute {name!r}")
  home = importlib.import_module(_HOME[name])
  return home if _HOME[name].rsplit(".", 1)[1] == name else getattr(home, name)


def __dir__():
  return __all__
