"""A translator of short sentences from two line-aligned files of one's own, on a laptop.

  research run experiments/translation.py source=train.en target=train.ja \\
      heldout_source=dev.en heldout_target=dev.ja tokenize=char --workdir runs/en_ja
  research run experiments/translation.py:smoke

Line i of `source` is translated by line i of `target`. Without `heldout_source` and
`heldout_target`, 2 % of the pairs are held out. A small Transformer: three layers on either side,
norms first, sinusoidal positions, one vocabulary, Muon, label smoothing. BLEU and chrF are
sacrebleu's; `tokenize` says how BLEU cuts words, "13a" where they have spaces and "char" for
Japanese.

Expect: on 50,000 pairs of English and Japanese (small_parallel_enja: 4 to 16 words, cut into words)
and its 500 pairs of development, by characters, a BLEU of 22.9 after 150 updates, 27.4 after 300,
31.7 after 450 and 35.2 after 750, half of the run: 41 minutes on two cores that had other work, 25
minutes of processor time; the second half, in which the learning rate falls, was not measured.
From Japanese to English, `tokenize=13a` and `steps=900`: 15.1, 20.0 and 28.9 after 180, 360 and 630
updates, 28 minutes beside other work.
"""

from research import Eval, Experiment, data, models, objectives, optim
from research.scores import Translated


def experiment(
  source,
  target,
  heldout_source="",
  heldout_target="",
  tokenize="13a",
  vocab_size=4_000,
  length=128,
  width=256,
  depth=3,
  steps=1_500,
  peak=0.02,
):
  words = data.SentencePiece(vocab_size)
  heldout = data.LineAligned(heldout_source, heldout_target) if heldout_source else None
  return Experiment(
    name="translation",
    data=data.Translations(
      data.LineAligned(source, target), words, length, source_length=96, heldout=heldout
    ),
    model=models.Transformer(
      vocab_size=words.vocab_size,
      max_length=length,
      width=width,
      depth=depth,
      heads=width // 64,
      norm="rms",
      norm_position="pre",
      bias=False,
      dropout=0.1,
      dtype="bfloat16",
    ),
    objective=objectives.TargetToken(label_smoothing=0.1),
    optimizer=optim.Muon(
      optim.WarmupStableDecay(peak, warmup=steps // 25 + 1, decay=0.5),
      matrices=r"(^|/)(en|de)coder/.*kernel$",
      weight_decay=0.1,
      clip=1.0,
    ),
    steps=steps,
    batch_size=32,
    evals={
      "heldout": Eval(objectives.TargetToken()),
      "translated": Translated(tokenize, tokens=64),
    },
  )


def smoke():
  """The same experiment on the names of Unicode's letters, small enough for a test."""
  letters = data.Translations(data.UnicodeNames(), data.Bytes(), 16, 64, limit=200_000)
  return experiment("", "", length=64, width=64, depth=2, steps=4).vary(
    "smoke",
    {
      "data": letters,
      "model.vocab_size": 264,
      "batch_size": 8,
      "evals.translated.pairs": 8,
      "evals.translated.tokens": 4,
      "evals.translated.every": 4,
    },
  )
