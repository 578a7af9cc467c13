"""Runs of two steps of each task, to try `research predict` and `research sample` with.

research run tests/tiny_tasks.py:labels
research run tests/tiny_tasks.py:entities
research run tests/tiny_tasks.py:answers
research run tests/tiny_tasks.py:translation
research run tests/tiny_tasks.py:summaries
research run tests/tiny_tasks.py:gaps
"""

from research import Answered, Eval, Experiment, data, generate, models, objectives, optim
from research.rouge import Summarized
from research.scores import Translated

WORDS = data.SentencePiece(400, special=data.MARKS)
SEQUENCES = models.Transformer(
  vocab_size=260, source_vocab_size=400, max_length=24, width=16, depth=1, heads=2, hidden=16
)
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


def translation():
  """Names of letters: two vocabularies, and rows of the table that no word has."""
  return _experiment(
    "translation",
    data.Translations(data.UnicodeNames(), data.Bytes(), 24, source_tokenizer=WORDS, limit=50_000),
    SEQUENCES,
    objectives.TargetToken(),
    Translated(tokens=5, search=generate.Beam(2), pairs=2),
  )


def summaries():
  return _experiment(
    "summaries",
    data.Summaries(data.PythonSummaries(), WORDS, 12, source_length=24),
    SEQUENCES.clone(source_vocab_size=None, vocab_size=410),
    objectives.TargetToken(),
    Summarized(generate.Greedy(), tokens=5, records=2),
  )


def gaps():
  words = data.SentencePiece(600, special=data.SENTINELS)
  text = data.Text(data.Sources(data.PythonSummaries()), words, 16)
  return _experiment(
    "gaps",
    data.SpanCorruption(text, rate=0.5),
    SEQUENCES.clone(source_vocab_size=None, vocab_size=600),
    objectives.TargetToken(),
    Eval(objectives.TargetToken(), batches=1),
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
