"""Counting: n-gram language models with interpolated modified Kneser-Ney smoothing.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (1999),
section 4.1.6. The baseline that every report of a language model shows; here on its own.

  research run experiments/ngram.py --workdir runs/ngram
  research run experiments/ngram.py:orders --workdir runs/orders
  research run experiments/ngram.py corpus=python_source order=4
  research sample runs/ngram --prompt "Return the "

Expect: seconds; on the Python documentation a 5-gram of 4,096 pieces needs about a fifth fewer
bits per byte than a bigram.
"""

from research import Eval, Experiment, data, models, objectives


def experiment(order=5, corpus="python_docs", vocab_size=4096):
  return Experiment(
    name=f"ngram_{order}",
    data=data.Text(data.TFDS(corpus), data.SentencePiece(vocab_size), length=256),
    model=models.NGram(order=order),
    evals={"heldout": Eval(objectives.NextToken())},
  )


def orders(highest=7):
  """The orders side by side: where more context stops to help."""
  for order in range(1, highest + 1):
    yield experiment(order=order) if order != 5 else experiment()


def smoke():
  return experiment(order=3, vocab_size=512)
