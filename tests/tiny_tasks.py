"""Runs of two steps of each task that is learned from labels, to try `research predict` with.

research run tests/tiny_tasks.py:labels
research run tests/tiny_tasks.py:entities
research run tests/tiny_tasks.py:answers
"""

from research import Answered, Eval, Experiment, data, models, objectives, optim

WORDS = data.SentencePiece(400, special=data.MARKS)
BODY = models.BERT(vocab_size=400, max_length=32, width=16, depth=1, heads=2, hidden=16)


def labels():
  return _experiment(
    "labels",
    data.Labelled(data.PythonLines(), WORDS, 32, labels=4),
    models.Classifier(BODY, 4),
    objectives.Label(),
    Eval(objectives.LabelScores(), batches=1),
  )


def entities():
  return _experiment(
    "entities",
    data.Tagged(data.PythonWords(), WORDS, 32, types=4),
    models.Tagger(BODY, 9),
    objectives.Tags(),
    Eval(objectives.Tags(), batches=1),
  )


def answers():
  return _experiment(
    "answers",
    data.Questions(data.PythonQuestions(), WORDS, 32, stride=8, question=8),
    models.Reader(BODY),
    objectives.Span(),
    Answered(),
  )


def _experiment(name, dataset, model, objective, heldout):
  return Experiment(
    name=name,
    data=dataset,
    model=model,
    objective=objective,
    optimizer=optim.AdamW(1e-3),
    steps=2,
    batch_size=8,
    evals={"heldout": heldout},
  )
