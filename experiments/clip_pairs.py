"""CLIP on a small folder of pictures with captions of one's own, in minutes on two cores.

  research run experiments/clip_pairs.py folder=FOLDER
  research run experiments/clip_pairs.py folder=FOLDER table=pairs.csv images=photos image=path
  research data experiments/clip_pairs.py folder=FOLDER
  research run experiments/clip_pairs.py:smoke

`folder` holds a `table` and the `images`, a folder or an archive. The defaults are those of Noto
emoji with the names and keywords of Unicode's CLDR: a picture's first caption, by which it is to be
found, is its name with all of its keywords; these are captions by themselves as well, and so is the
group that Unicode has it in. What a column "split" calls "test" is held out; of emoji, those that
differ in the tone of a skin are left out.

Expect, of 176 emoji never seen, 600 updates, three seeds: the right caption is among the first ten
for 0.44, 0.47 and 0.43 (0.057 by chance, ridge regression on bags of words 0.358); three minutes
each on one core. Without the groups 0.46, 0.41 and 0.42. All was chosen on ninths of the training
pictures, on which the groups were worth 0.055 (0.39 to 0.44), and neither pictures of 48 pixels nor
further captions made of the same words helped.
"""

from research import Experiment, Retrieval, data, models, objectives, optim

EMOJI = ("{name}: {keywords}", "name", "keywords", "subgroup")


def experiment(
  folder,
  table="meta.jsonl",
  images="png.zip",
  image="file",
  captions=EMOJI,
  only=(("skin_tone", False),),
  image_size=32,
  patch=8,
  width=128,
  depth=4,
  text_depth=1,
  steps=600,
  batch=128,
  peak=1e-3,
  vocab_size=1_500,
  crop=0.35,
  colour=0.4,
):
  return Experiment(
    name="clip_pairs",
    data=data.ImageText(
      data.Captioned(f"{folder}/{table}", f"{folder}/{images}", image, captions, only),
      data.SentencePiece(vocab_size),
      image_size=image_size,
      length=32,
      split=data.Column(),
      resize=image_size + image_size // 8,
      crop=data.ResizedCrop((crop, 1.0)),
      augment=(data.Flip(), data.Colour(colour)),
    ),
    model=models.CLIP(
      vocab_size=vocab_size,
      max_length=32,
      image_size=image_size,
      patch=patch,
      embedding=width,
      image_width=width,
      image_depth=depth,
      image_heads=width // 32,
      text_width=width,
      text_depth=text_depth,
      text_heads=width // 32,
      patch_dropout=0.5,
    ),
    objective=objectives.InfoNCE(alike=("caption", "picture")),
    optimizer=optim.AdamW(
      optim.Cosine(peak, warmup=steps // 20), b1=0.9, b2=0.98, eps=1e-6, weight_decay=0.2
    ),
    steps=steps,
    batch_size=batch,
    average=0.98,
    evals={"retrieval": Retrieval(captions=1)},
  )


def smoke():
  """Drawn shapes in the place of a folder: seconds."""
  return experiment("", steps=40, batch=16, width=32, depth=1).vary(
    "smoke",
    {
      "data": data.Shapes(image_size=32, length=48, examples=200, heldout=40),
      "model.vocab_size": 257,
      "model.max_length": 48,
      "evals.retrieval.every": 40,
    },
  )
