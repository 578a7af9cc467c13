"""What models are made of; the letters of all dimensions are listed in `nn/layers.py`."""

from research.nn.attention import Attention, attend
from research.nn.history import History
from research.nn.layers import Dropout, Embed, LayerNorm, RMSNorm, project, weight
from research.nn.masks import Mask, padding, show
from research.nn.matmul import contract
from research.nn.positions import LearnedPositions, RelativeBias, sinusoidal
from research.nn.rotary import rotate
from research.nn.stack import Stack
from research.nn.transformer import MLP, Block

__all__ = [
  "MLP",
  "Attention",
  "Block",
  "Dropout",
  "Embed",
  "History",
  "LayerNorm",
  "LearnedPositions",
  "Mask",
  "RMSNorm",
  "RelativeBias",
  "Stack",
  "attend",
  "contract",
  "padding",
  "project",
  "rotate",
  "show",
  "sinusoidal",
  "weight",
]
