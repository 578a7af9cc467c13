"""A page of pictures with their captions, as training sees them: one file without any others."""

from __future__ import annotations

import base64
import html
import io
import itertools
import pathlib
from typing import Any

import numpy as np

from research.data import pipeline
from research.data.splits import SPLITS

EACH, EPOCHS = 24, 8  # pictures of a split; times that one of them is shown
SMALL = 96  # pixels; what is smaller is shown in whole multiples of itself

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --ink: #1c1c1a; --muted: #6d6c66;
  --line: #e2e1dc }
@media (prefers-color-scheme: dark) {
  :root { --page: #161615; --ink: #ecebe6; --muted: #9a9890; --line: #33322f }
}
body { margin: 2.5rem auto; max-width: 72rem; padding: 0 1.5rem; background: var(--page);
  color: var(--ink); font: .95rem/1.45 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0 0 .3rem } h2 { font-size: 1.05rem; margin: 2.2rem 0 .8rem }
p { color: var(--muted); margin: .2rem 0 }
.sheet { display: grid; gap: 1.1rem .9rem;
  grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)) }
figure { margin: 0 } figcaption { font-size: .82rem; line-height: 1.3; margin-top: .35rem;
  overflow-wrap: anywhere }
img { display: block; width: 8rem; height: 8rem; border: 1px solid var(--line); border-radius: 3px }
img.small { image-rendering: pixelated }
"""


def write(path: pathlib.Path, title: str, dataset: Any, seed: int, facts: list[str]) -> None:
  """Writes the page; folders above it are made.

  Args:
    path: of the .html file.
    title: at its top.
    dataset: whose batches have an "image" and a "caption".
    seed: of the batches of "train".
    facts: lines below the title.
  """
  parts = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{html.escape(fact)}</p>" for fact in facts)]
  vocabulary = dataset.prepare().vocabulary
  for split in SPLITS:
    source = dataset.source(split)
    if not len(source):
      continue
    size = min(EACH, len(source))
    if split == "train":
      batch = next(pipeline.batches(source, size, seed=seed, threads=0))
    else:  # it is not shuffled, and those beside one another may be alike
      batch = source.take(np.arange(size) * len(source) // size, 0)
    parts.append(_section(f"{split}: {size:,} of {len(source):,}", vocabulary, batch))
  # One and the same, as every epoch crops, changes or draws it.
  source = dataset.source("train")
  middle = np.array([len(source) // 2])
  takes = [source.take(middle, epoch) for epoch in range(EPOCHS)]
  again = {key: np.concatenate([batch[key] for batch in takes]) for key in takes[0]}
  parts.append(_section(f"one of train in {EPOCHS} epochs", vocabulary, again))
  page = (
    f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
    f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</html>\n"
  )
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(page, encoding="utf-8")


def texts(vocabulary: Any, batch: pipeline.Batch) -> list[str]:
  """The captions of a batch in words, without the token that may stand before each."""
  said = [tokens[:end] for tokens, end in zip(batch["caption"], batch["caption_end"])]
  names = set(vocabulary.special.values())
  return [
    vocabulary.decode(itertools.dropwhile(lambda i: i in names, map(int, tokens))).strip()
    for tokens in said
  ]


def _section(title: str, vocabulary: Any, batch: pipeline.Batch) -> str:
  figures = [
    f"<figure>{_picture(image)}<figcaption>{html.escape(text)}</figcaption></figure>"
    for image, text in zip(batch["image"], texts(vocabulary, batch))
  ]
  return f'<h2>{html.escape(title)}</h2>\n<div class="sheet">\n' + "\n".join(figures) + "\n</div>"


def _picture(image_YXC: np.ndarray) -> str:
  import PIL.Image

  file = io.BytesIO()
  PIL.Image.fromarray(image_YXC).save(file, "png")
  data = base64.b64encode(file.getvalue()).decode()
  kind = ' class="small"' if image_YXC.shape[0] < SMALL else ""
  return f'<img{kind} alt="" src="data:image/png;base64,{data}">'
