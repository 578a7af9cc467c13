"""The Transformer (Vaswani et al., 2017), in the two sizes of its table 3 that were scored.

  research run experiments/transformer.py source=FILE target=FILE --workdir runs/transformer
  research run experiments/transformer.py source=FILE target=FILE size=big sharding=dp
  research run experiments/transformer.py:smoke

`source` and `target` are line-aligned: line i of one is translated by line i of the other. The
paper's are the 4.5 million pairs of WMT 2014 English-German, and newstest2013 is its development
set: `heldout_source=FILE heldout_target=FILE`; without them 0.2 % of the pairs are held out.

Checked against the paper (sections 3 and 5, table 3): six layers on both sides, 512 and 1024 wide,
MLPs of 2048 and 4096, 8 and 16 heads; norms after each sum; sinusoidal positions; one table for
both sides and the prediction, times sqrt(512) where it embeds; about 25,000 source and target
tokens a batch; Adam with betas 0.9 and 0.98 and epsilon 1e-9; width^-0.5 min(t^-0.5, t
4000^-1.5); dropout 0.1, of big 0.3, on residual branches and embeddings; label smoothing 0.1;
100,000 and 300,000 updates; a beam of 4 with length penalty 0.6. Ours: the penalty is Hugging
Face's (`generate/beam.py`), pieces are learned by SentencePiece's BPE from all pairs, pairs are
packed into rows where the paper sorts them by length, and the parameters are averaged over the
last updates exponentially where the paper averages five checkpoints.

Expect: BLEU 27.3 for `base` and 28.4 for `big` on newstest2014 English-German (table 2).
`smoke` shows that it runs, on the names of Unicode's letters.
Cost by the authors: base 12 hours on 8 P100, big 3.5 days.
"""

from research import Eval, Experiment, Sharding, data, models, objectives, optim
from research.scores import Translated

SIZES = {"base": (512, 2048, 8, 0.1, 100_000), "big": (1024, 4096, 16, 0.3, 300_000)}


def experiment(
  source, target, heldout_source="", heldout_target="", size="base", vocab_size=37_000, length=256
):
  width, hidden, heads, dropout, steps = SIZES[size]
  words = data.SentencePiece(vocab_size, kind="bpe", sample=2_000_000)
  heldout = data.LineAligned(heldout_source, heldout_target) if heldout_source else None
  return Experiment(
    name=f"transformer_{size}",
    data=data.Translations(
      data.LineAligned(source, target),
      words,
      length,
      heldout=heldout,
      split=data.ByHash(heldout=0.002),
    ),
    model=models.Transformer(
      vocab_size=-(-vocab_size // 128) * 128,
      max_length=length,
      width=width,
      depth=6,
      heads=heads,
      hidden=hidden,
      dropout=dropout,
      dtype="bfloat16",
      remat="minimal",
    ),
    objective=objectives.TargetToken(label_smoothing=0.1),
    optimizer=optim.AdamW(optim.InverseSquareRoot(warmup=4_000, width=width), b2=0.98, eps=1e-9),
    steps=steps,
    batch_size=96,
    average=0.9998,
    sharding=Sharding(mesh={"data": 1, "fsdp": -1, "tensor": 1}),
    evals={
      "heldout": Eval(objectives.TargetToken(), batches=50, every=2_000),
      "translated": Translated("13a", tokens=length, every=10_000),
    },
  )


def smoke():
  """The same experiment, small enough for a laptop: seconds, no download."""
  letters = data.Translations(data.UnicodeNames(), data.Bytes(), 16, 64, limit=200_000)
  return experiment("", "").vary(
    "smoke",
    {
      "data": letters,
      "model.vocab_size": 264,
      "model.max_length": 64,
      "model.width": 64,
      "model.hidden": 128,
      "model.depth": 2,
      "model.heads": 4,
      "optimizer.learning_rate.warmup": 2,
      "steps": 4,
      "batch_size": 8,
      "evals.heldout.batches": 2,
      "evals.heldout.every": 2,
      "evals.translated.pairs": 8,
      "evals.translated.tokens": 4,
      "evals.translated.every": 4,
    },
  )
