"""What pre-training is worth where labels are few: an encoder with it, without it, and TF-IDF.

  research run experiments/few_labels.py:pretrain texts=FILE --workdir runs/words
  research sweep experiments/few_labels.py start=runs/words train=FILE test=FILE \\
      --workdir runs/few_labels
  research run experiments/few_labels.py:smoke

`texts` has a text on each line, which nobody labelled; `train` and `test` are tables as those of
`classification.py`, with `labels=150` where there are so many. Each number of labels is tried with
several seeds. A seed chooses the records, their order and the values that nothing was learned for;
both arms of a seed see the same, and so does TF-IDF with logistic regression, the baseline. The
end of a run is scored, and nothing is chosen by the score.

Expect, pre-trained for 12 minutes on 8.1 MB of short texts (perplexity 33.8), means of three seeds:

  labels                                scratch  pretrained  TF-IDF  pretrained less scratch (95 %)
  CLINC150 (labels=150 length=24)  100  0.127    0.201       0.187   0.058 to 0.091
                                 1,000  0.665    0.685       0.676   -0.004 to 0.043
                                   all  0.919    0.917       0.911   -0.013 to 0.009
  Rotten Tomatoes (updates=500)    100  0.555    0.534       0.581   -0.040 to -0.002
                                 1,000  0.675    0.655       0.689   -0.038 to -0.002
                                   all  0.763    0.767       0.776   -0.027 to 0.036

So little text teaches words, which intents are told by, but not what is praise. With all labels
TF-IDF is passed on CLINC150 (-0.002 to 0.014) and not on Rotten Tomatoes (-0.029 to 0.012), where
word dropout and averaging were worth 0.02. In bfloat16 (model.body.dtype=bfloat16), 3 minutes on
one core for all labels; a sweep of 18 runs takes 25 to 50 minutes beside other work.
"""

import dataclasses

from research import Eval, Experiment, InitFrom, data, model_of, models, objectives, optim
from research.bag_of_words import TfIdf

UPDATES = {100: 100, 1_000: 300}  # by the number of labels


def pretrain(texts, width=256, depth=2, length=40, steps=1_000, vocab_size=6_000, peak=0.01):
  """Masked words of lines of text (Devlin et al., 2018, task 1), with Muon, in minutes."""
  words = data.SentencePiece(vocab_size, special=data.MARKS)
  lines = data.Files(texts, separator="\n")
  return Experiment(
    name="pretrain",
    data=data.SentencePairs(lines, words, length, rate=0.2, short=0.0),
    model=models.BERT(vocab_size, 64, width, depth, heads=width // 64),
    objective=objectives.MaskedToken(),
    optimizer=_muon(peak, warmup=steps // 24),
    steps=steps,
    batch_size=128,
    evals={"heldout": Eval(objectives.MaskedToken(), batches=16, every=max(1, steps // 6))},
  )


def experiment(
  train,
  test,
  labels=2,
  start="",
  counts=(*UPDATES, None),
  seeds=3,
  length=48,
  updates=1_000,
  peak=0.005,
  word_dropout=0.3,
):
  """Arms `scratch_N` and `pretrained_N`, the latter where there is a run to start from.

  `updates` are those with all labels, a count of None.
  """
  scores = objectives.LabelScores()
  if start:
    body, words = model_of(start), data.FromRun(start)
  else:
    new = pretrain("")
    body, words = new.model, new.data.tokenizer
  for seed in range(1, seeds + 1):
    for count in counts:
      steps = UPDATES.get(count, updates)
      scratch = Experiment(
        name=f"few_labels/scratch_{count or 'all'}/seed_{seed}",
        data=data.Labelled(
          data.LabelledFile(train),
          words,
          length,
          labels,
          heldout=data.LabelledFile(test),
          limit=count,
          draw=seed if count else 0,
          word_dropout=word_dropout,
          seed=seed,
        ),
        model=models.Classifier(body.clone(dropout=0.2), labels, dropout=0.2, pooling="mean"),
        objective=objectives.Label(),
        optimizer=_muon(peak, warmup=steps // 10),
        steps=steps,
        batch_size=64,
        average=0.98,
        seed=seed,
        evals={"test": Eval(scores, every=steps)},
        baselines={"tf-idf": TfIdf()},
      )
      yield scratch
      if start:
        origin = InitFrom(
          start, parts=(("body/", ""),), new=("^head/",), unused=("_head/", "pooler")
        )
        name = scratch.name.replace("scratch", "pretrained")
        yield dataclasses.replace(scratch, name=name, init_from=origin)


def _muon(peak, warmup):
  return optim.Muon(
    optim.WarmupStableDecay(peak, warmup=warmup, decay=0.5), weight_decay=0.1, clip=1.0
  )


def smoke():
  """Which kind of Python statement a line is, from few of them: seconds, no download."""
  made = next(experiment("", "", labels=4, counts=(100,), seeds=1))
  return dataclasses.replace(made, name="few_labels").vary(
    "smoke",
    {
      "data.train": data.PythonLines(),
      "data.heldout": None,
      "data.tokenizer.vocab_size": 600,
      "model.body.vocab_size": 600,
      "model.body.width": 64,
      "model.body.heads": 2,
      "steps": 20,
      "optimizer.learning_rate.warmup": 2,
      "batch_size": 16,
      "evals.test.every": 20,
      "evals.test.batches": 4,
      "baselines": {},
    },
  )
