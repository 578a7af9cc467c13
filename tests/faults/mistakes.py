"""What people get wrong in experiment files, on the command line and about run folders."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

FILE = '''"""A file under test."""

from research import Eval, Experiment, Samples, Sharding, data, models, objectives, optim


def experiment(width=32, peak=1e-3, size="small", big=False, text="text.txt"):
  width = {"small": width, "large": 2 * width}[size]
  next_token = objectives.NextToken()
  return Experiment(
    name="tested",
    data=data.Text(data.Files(text, separator="\\n"), data.Bytes(), 16),
    model=models.GPT(vocab_size=257, max_length=16, width=width, depth=1, heads=2),
    objective=next_token,
    optimizer=optim.AdamW(optim.Cosine(peak, warmup=2)),
    steps=4,
    batch_size=4,
    evals={"heldout": Eval(next_token, batches=2)},
  )


def sweep():
  for seed in (1, 2):
    yield experiment().vary(f"seed_{seed}", {"seed": seed})


def needy(path: str, count: int):
  return experiment(text=path)
'''
TEXT = "".join(f"line {i} of a text that is there to be read\n" for i in range(80))
HERE = "@folder@"  # stands in a file for where it is
ANOTHER = "from research import *\nfrom exp import experiment as base\n\n\n"


@dataclasses.dataclass(frozen=True)
class Mistake:
  """One mistake.

  Attributes:
    name: of it.
    words: of the command line.
    told: what the message has to say.
    files: beside exp.py and text.txt, by name; None is a folder.
    ran: whether the folder already holds a run.
  """

  name: str
  words: list[str]
  told: tuple[str, ...]
  files: dict[str, str | bytes | None] = dataclasses.field(default_factory=dict)
  ran: bool = False

  def make(self, folder: Path) -> None:
    """Writes the files."""
    for name, content in {"exp.py": FILE, "text.txt": TEXT, **self.files}.items():
      path = folder / name
      if content is None:
        path.mkdir(parents=True)
        continue
      path.parent.mkdir(parents=True, exist_ok=True)
      if isinstance(content, str):
        content = content.replace(HERE, str(folder)).encode()
      path.write_bytes(content)


def all_of_them() -> Iterator[Mistake]:
  yield from _overrides()
  yield from _files()
  yield from _functions()
  yield from _parts()
  yield from _commands()
  yield from _folders()


OVERRIDES = {
  # A word, or several, and what is told of it. Names first,
  "widht=64": "Did you mean 'width'?",
  "model.widht=64": "Did you mean 'width'?",
  "modle.width=64": "Did you mean 'model'?",
  "optimizer.learning_rate.peek=1": "Did you mean 'peak'?",
  "evals.heldot.batches=1": "Did you mean 'heldout'?",
  "sharding.mesh.tenser=2": "Did you mean 'tensor'?",
  "model.width.more=1": "model.width is 32, which has no fields",
  "model..width=64": "model has no ''",
  ".=1": "",
  "model.=1": "model has no ''",
  "model.name=x": "model has no 'name'",
  "model.__class__=x": "model has no '__class__'",
  "data.documents.paths=x": "has no 'paths'",
  "wide": "'wide' is not name=value",
  "=3": "'=3' is not name=value",
  "width=16 width=8": "width is given twice; drop one",
  "model.depth=2 model.depth=3": "model.depth is given twice; drop one",
  "big=True big": "big is given twice",
  # then types,
  "width=wide": "width='wide' is a str; width is an int",
  "width=1.5": "width=1.5 is a float; width is an int",
  "width=None": "width=None is a NoneType; width is an int",
  "width=[1]": "width=[1] is a list; width is an int",
  "width={}": "width={} is a dict; width is an int",
  "width=True": "width=True is a bool; width is an int",
  "big=perhaps": "big='perhaps' is a str; big is a bool",
  "big=1": "big=1 is an int; big is a bool",
  "peak=fast": "peak='fast' is a str; peak is a float",
  "peak=nan": "peak='nan' is a str; peak is a float",
  "peak=inf": "peak='inf' is a str; peak is a float",
  "peak=1e999": "peak=inf is no finite number",
  "peak=-1e999": "peak=-inf is no finite number",
  "model.depth=two": "model.depth='two' is a str; model.depth is an int",
  "model.depth=2.0": "model.depth=2.0 is a float; model.depth is an int",
  "model.depth={[]:1}": "model.depth='{[]:1}' is a str",
  "model.tied=no": "model.tied='no' is a str; model.tied is a bool",
  "model.windows=3": "model.windows=3 is an int",
  "model.dropout='a\\x00b'": "model.dropout is a float",
  "model=3": "model=3: it is a GPT; set its fields: model.vocab_size",
  "data=nothing": "data='nothing': it is a Text; set its fields",
  "data.tokenizer=Bytes": "it is a Bytes",
  "data.documents=text.txt": "set its fields: data.documents.pattern",
  "objective=NextToken": "objective='NextToken'",
  "optimizer=sgd": "set its fields: optimizer.learning_rate",
  "evals=none": "evals='none': it is a dict",
  "evals.heldout=1": "evals.heldout=1: it is a Eval",
  "evals.heldout.batches=all": "evals.heldout.batches='all' is a str",
  "samples=3": "samples=3 is an int",
  "sharding.mesh=3": "set its fields: sharding.mesh.",
  "sharding.mesh.data=x": "sharding.mesh.data='x' is a str",
  "steps=4.5": "steps=4.5 is a float; steps is an int",
  "steps=1_000e3": "steps=1000000.0 is a float; steps is an int",
  "seed=one": "seed='one' is a str; seed is an int",
  # then ranges,
  "steps=0": "steps=0 must be at least 1",
  "steps=-1": "steps=-1 must be at least 1",
  "steps=2": "warmup=2 leaves nothing of steps=2",
  "steps=3000000000": "steps=3000000000 is beyond what can be counted; at most 2147483647",
  "steps=" + "9" * 400: "is beyond what can be counted",
  "steps=" + "9" * 5000: "is a str; steps is an int",
  "peak=" + "9" * 400: "larger than any fraction",
  "peak=-1.0": "peak=-1.0: a learning rate is a finite number, at least 0",
  "batch_size=0": "batch_size=0 must be at least 1",
  "batch_size=-8": "batch_size=-8 must be at least 1",
  "microbatches=0": "microbatches=0 must be at least 1",
  "microbatches=3": "microbatches=3 does not divide batch_size=4",
  "microbatches=8": "microbatches=8 does not divide batch_size=4",
  "memory_target=0": "memory_target=0.0 is in GiB and must be above 0",
  "average=1.5": "average=1.5 is the decay of a mean: choose one in [0, 1)",
  "average=-0.1": "average=-0.1 is the decay of a mean",
  "seed=" + "9" * 30: "is beyond what can be counted",
  "save_every=0": "save_every=0 must be at least 1",
  "log_every=0": "log_every=0 must be at least 1",
  "evals.heldout.batches=0": "evals.heldout.batches=0 must be at least 1",
  "evals.heldout.batches=-1": "evals.heldout.batches=-1 must be at least 1",
  "evals.heldout.every=0": "evals.heldout.every=0 must be at least 1",
  "evals.heldout.batch_size=0": "evals.heldout.batch_size=0 must be at least 1",
  "evals.heldout.split=test": "'test'",
  "optimizer.b1=1.0": "b1=1.0 is the decay of a mean",
  "optimizer.b2=-0.5": "b2=-0.5 is the decay of a mean",
  "optimizer.clip=0": "clip=0.0 must be above 0",
  "optimizer.clip=-1.0": "clip=-1.0 must be above 0",
  "optimizer.weight_decay=-0.1": "weight_decay=-0.1 must be at least 0",
  "optimizer.weight_decay=1e999": "optimizer.weight_decay=inf is no finite number",
  "optimizer.learning_rate.warmup=-2": "warmup=-2: it is a number of updates",
  "optimizer.learning_rate.warmup=400": "warmup=400 leaves nothing of steps=4",
  "optimizer.learning_rate.final=1e999": "final=inf is no finite number",
  "model.depth=0": "depth=0 must be at least 1",
  "model.depth=-3": "depth=-3 must be at least 1",
  "model.width=0": "width=0 must be at least 1",
  "model.width=33": "heads=2 does not divide width=33",
  "model.heads=5": "heads=5 does not divide width=32; choose one of 1, 2, 4",
  "model.kv_heads=3": "kv_heads=3 does not divide heads=2",
  "model.vocab_size=0": "model.vocab_size=0",
  "model.vocab_size=-1": "model.vocab_size=-1",
  "model.vocab_size=256": "model.vocab_size=256 has no room for the 257 tokens of Bytes()",
  "model.max_length=8": "16 tokens is longer than the model's max_length=8",
  "model.dropout=1.5": "dropout=1.5 is a probability",
  "model.dropout=-0.5": "dropout=-0.5 is a probability",
  "model.norm=batch": "norm='batch' is not one of",
  "model.dtype=float8": "dtype='float8' is not one of float32, bfloat16, float16",
  "model.dtype=float31": "dtype='float31' is not one of",
  "model.activation=geul": "Did you mean 'gelu'?",
  "model.remat=some": "remat='some' is not one of",
  "model.layers=rolled": "layers='rolled' is not one of",
  "model.positions=absolute": "positions='absolute' is not one of",
  "model.width=10000000": "GiB of each device",
  "model.vocab_size=100000000000": "100000000000 out of bounds",
  "data.length=0": "length=0 is no number of predictions",
  "data.length=-16": "length=-16 is no number of predictions",
  "data.length=17": "17 tokens is longer than the model's max_length=16",
  "data.length=1000000000000000": "1000000000000000",
  "data.limit=0": "limit=0 leaves no text",
  "data.limit=1": "less than one row of length=16",
  "data.duplicates=some": "data.duplicates='some' is a str; data.duplicates is one of 'dropped'",
  "data.split.heldout=1.0": "heldout=1.0 is no fraction",
  "data.split.heldout=-0.1": "heldout=-0.1 is no fraction",
  "data.documents.skip=1": "skip=1.0 is a share of the records",
  "data.documents.separator=''": 'separator="" splits nothing',
  # then what does not go together, or is not there,
  "sharding=tp": "takes a multiple of 2 devices",
  "sharding=ddp": "'ddp' is neither a mesh nor one of",
  "sharding=fsdp=x": "is neither a mesh nor one of",
  "sharding=fsdp=0": "sizes are positive",
  "sharding=data=3": "takes a multiple of 3 devices exactly, but there is 1",
  "sharding.mesh.data=0": "sizes are positive, and at most one is -1",
  "sharding.mesh.fsdp=-1": "at most one is -1",
  "sharding.mesh.tensor=7": "takes a multiple of 7 devices",
  "sharding.rounds=0": "sharding.rounds=0 must be at least 1",
  "sharding.waves=-1": "sharding.waves=-1 must be at least 1",
  "text=nowhere.txt": "no file matches 'nowhere.txt'",
  "text=exp.py": "exp.py is of an unknown kind",
  "text=.": ". is a folder; write",
  "text=~nobody_of_this_name/x.txt": "cannot be a path",
  "text='a\\x00b'": "no file matches",
  "text=" + "x" * 5000: "cannot be a path",
  "text=\udcff.txt": "no file matches",
  "size=huge": "exp.py:7: KeyError: 'huge', in experiment(size='huge')",
  "name=../x": "name='../x': use letters",
  "name=/x": "name='/x': use letters",
  "name=a/../b": "name='a/../b': use letters",
  "name=a//b": "name='a//b': use letters",
  "name=''": "name='': use letters",
  "name='a b'": "name='a b': use letters",
  "name='a\\nb'": "name='a\\nb': use letters",
  "name=-rf": "name='-rf': use letters",
  "name=" + "x" * 300: "File name too long; give another",
  # and what changes nothing.
  "width=32": "width=32 changes nothing: it is the default; drop it",
  "model.depth=1": "model.depth=1 changes nothing: it is that already; drop it",
  "steps=4": "steps=4 changes nothing",
}


def _overrides() -> Iterator[Mistake]:
  for text, told in OVERRIDES.items():
    words = text.split(" ") if text.count("=") > 1 and " " in text else [text]
    words = ["name='a b'"] if text == "name='a b'" else words
    words = ["big=True", "big"] if text == "big=True big" else words
    yield Mistake(f"override {text[:40]}", ["run", "exp.py", *words], (told,))


def _files() -> Iterator[Mistake]:
  """The file is no experiment file."""
  contents: dict[str, tuple[str | bytes, str]] = {
    "a syntax error": ("def experiment(:\n", "bad.py:1: not valid Python"),
    "bad indentation": ("def experiment():\nreturn 1\n", "bad.py:2: not valid Python"),
    "an open string": ("x = '''\n", "bad.py:1: not valid Python"),
    "bytes that are not UTF-8": (b"x = '\xff'\n", "bad.py"),
    "UTF-16": ("x = 1\n".encode("utf-16"), "bad.py"),
    "a byte order mark and a mistake": ("\ufeffdef experiment(:\n", "bad.py:1: not valid Python"),
    "NUL bytes": (b"x = 1\0\n", "bad.py"),
    "an unknown encoding": ("# coding: nothing\nx = 1\n", "bad.py"),
    "nothing": ("", "has no function 'experiment'. It has none"),
    "only a class": ("class experiment: pass\n", "has no function 'experiment'"),
    "another function": ("def experimnet(): pass\n", "Did you mean 'experimnet'?"),
    "a missing module": ("import nothing_like_it\n", "bad.py:1: ModuleNotFoundError"),
    "a missing name": ("from research import modles\n", "bad.py:1: ImportError"),
    "a missing model": ("from research import models\nmodels.GTP\n", "bad.py:2: AttributeError"),
    "a circle of imports": ("from bad2 import z\n\nx = 1\n", "bad.py:1: ImportError"),
    "an import of itself": ("from bad import x\n\nx = 1\n", "bad.py:1: "),
    "an error": ("\n\nraise ValueError('no')\n", "bad.py:3: ValueError: no"),
    "an error of many lines": ("raise ValueError('a\\n' * 99)\n", "bad.py:1: ValueError"),
    "an error without words": ("assert False\n", "bad.py:1: AssertionError"),
    "an exit": ("import sys\nsys.exit(0)\n", "bad.py:2: SystemExit: 0"),
    "endless recursion": ("def f(): return f()\n\n\nf()\n", "bad.py:1: RecursionError"),
    "division by zero": ("x = 1 / 0\n", "bad.py:1: ZeroDivisionError"),
    "deep nesting": ("x = " + "(" * 3000 + ")" * 3000 + "\n", "bad.py"),
    "a mistake in a model": ("from research import optim\noptim.AdamW()\n", "bad.py:2: TypeError"),
    "JSON": ('{"model": null}\n', "bad.py:1: NameError: name 'null'"),
    "YAML": ("model:\n  width: 64\n", "bad.py:1: "),
  }
  for what, (content, told) in contents.items():
    files = {"bad.py": content, "bad2.py": "from bad import x\n\nz = 1\n"}
    yield Mistake(f"file of {what}", ["describe", "bad.py"], (told,), files)
  for name, told in {
    "exp.yaml": "is Python, with a name that ends in .py",
    "exp": "no such experiment file",
    "epx.py": "Did you mean 'exp.py'?",
    "folder/none.py": "no such experiment file",
    "folder.py": "no such experiment file",
    "exp.py/more.py": "no such experiment file",
    "": ".: an experiment file is Python",
    "x" * 300 + ".py": "cannot be a file: File name too long",
    "exp.py:nothing": "exp.py has no function 'nothing'. It has experiment, sweep, needy",
    "exp.py:sweeep": "Did you mean 'sweep'?",
    "exp.py:a:b": "has no function 'a:b'",
    "exp.py:_private": "has no function '_private'",
    "exp.py:experiment.name": "has no function",
    "text.txt": "is Python, with a name that ends in .py",
  }.items():
    files = {"exp.yaml": "a: 1\n", "folder.py": None}
    yield Mistake(f"file {name[:30]!r}", ["describe", name], (told,), files)


def _functions() -> Iterator[Mistake]:
  """The function makes no experiment."""
  bodies = {
    "return None": "bad.py:experiment returned None; it must return an Experiment",
    "pass": "returned None",
    "return 3": "returned 3",
    "return 'gpt2'": "returned 'gpt2'",
    "return {'model': 1}": "returned {'model': 1}",
    "return base": "returned <function",
    "return Experiment": "returned <class",
    "return base().model": "it must return an Experiment",
    "return [base(), 3]": "returned 3",
    "return []": "yields no experiment",
    "yield None": "returned None",
    "yield base()\n  raise KeyError('later')": "bad.py:7: KeyError: 'later', in experiment()",
    "yield base()\n  yield base()": "yields two experiments with the name 'tested'",
    "while True: yield 1": "yields more than 10,000 experiments",
    "return SIZES['big']": "bad.py:6: NameError",
    "return {}['big']": "bad.py:6: KeyError: 'big', in experiment()",
    "return base(widht=3)": "bad.py:6: TypeError",
    "return base(size='x')": "KeyError: 'x'",
    "return base(width=0)": "width=0 must be at least 1",
    "return base().vary('a', {'model.widht': 3})": "Did you mean 'width'?",
    "return base().vary('a', {'steps': 4})": "changes nothing",
    "return base().vary('../a', {'steps': 5})": "name='tested/../a': use letters",
    "import sys; sys.exit(3)": "bad.py:6: SystemExit: 3",
    "raise Exception": "bad.py:6: Exception, in experiment()",
    "raise UserError('no', 'yes')": "bad.py:6: ",
    "return open('nothing')": "bad.py:6: FileNotFoundError",
    "return experiment()": "bad.py:6: RecursionError",
    "return [[0] * 10**9] * 10**9": "bad.py:6: MemoryError",
    "return Experiment(name='a', data=1)": "bad.py:6: TypeError",
    "return Experiment(nmae='a')": "bad.py:6: TypeError",
  }
  for body, told in bodies.items():
    files = {"bad.py": ANOTHER + f"def experiment():\n  {body}\n"}
    yield Mistake(f"function: {body[:40]}", ["run", "bad.py"], (told,), files)
  needs = "needs path=...; give it on the command line"
  yield Mistake("a needed knob", ["run", "exp.py:needy"], (needs,))
  yield Mistake("a second one", ["run", "exp.py:needy", "path=a"], ("needs count=...",))
  words = ["run", "exp.py:needy", "path=a", "count=b"]
  yield Mistake("a needed knob's type", words, ("count='b' is a str; count is an int",))
  yield Mistake("several for one", ["explain", "exp.py:sweep"], ("yields 2 experiments",))


def _parts() -> Iterator[Mistake]:
  """A part of another kind, or parts that do not go together."""
  parts = {
    "model=optim.AdamW(1e-3)": "model=AdamW(...) is of another kind; it must be a model, such as",
    "model=models.GPT": "model=GPT is a class; call it: GPT(...)",
    "model=None": "model=None is of another kind",
    "model='gpt2'": "model='gpt2' is of another kind",
    "model=models.NGram(order=2)": "model=NGram(...) is of another kind",
    "data=models.NGram(order=2)": "data=NGram(...) is of another kind; it must be a dataset",
    "data='text.txt'": "data='text.txt' is of another kind",
    "data=data.Files('text.txt')": "data=Files(...) is of another kind",
    "data=None": "data=None is of another kind",
    "objective=None": "objective=None is no objective: write one such as",
    "objective=objectives.NextToken": "is no objective",
    "objective='loss'": "objective='loss' is no objective",
    "objective=optim.Cosine(1.0, warmup=1)": "is no objective",
    "objective=len": "cannot be computed of the model GPT on examples of Text",
    "objective=objectives.InfoNCE()": "InfoNCE cannot be computed of the model GPT on examples",
    "optimizer=models.NGram(order=2)": "optimizer=NGram(...) is of another kind",
    "optimizer=1e-3": "optimizer=0.001 is of another kind; it must be an optimizer",
    "optimizer=None": "it must be a counted model, since there is no optimizer",
    "optimizer=optim.Cosine(1e-3, warmup=1)": "cannot be built",
    "optimizer=optim.AdamW('fast')": "learning_rate='fast' is a str;",
    "optimizer=optim.AdamW(float('nan'))": "optimizer.learning_rate=nan is no finite number",
    "optimizer=optim.AdamW(optim.AdamW(1.0))": "with a number or a schedule for its learning_rate",
    "optimizer=optim.AdamW(-1.0)": "a learning rate is a finite number, at least 0",
    "evals=Eval(objectives.NextToken())": "evals=Eval(",
    "evals={'a': objectives.NextToken()}": "evals.a=NextToken",
    "evals={'a': Eval}": "evals.a=Eval is a class; call it",
    "evals={'a': Eval(objectives.InfoNCE())}": "InfoNCE cannot be computed",
    "evals={'a': Eval(None)}": "cannot be computed",
    "evals=3": "evals=3 must be a dict",
    "evals={'train': Eval(objectives.NextToken())}": "evals.train: 'train' is what the log calls",
    "samples='write'": "samples='write' is of another kind; it must be Samples(...)",
    "baselines={'a': Eval(print)}": "baselines.a=Eval(...) is of another kind",
    "sharding='fsdp'": "sharding='fsdp' is a str; sharding is a Sharding",
    "sharding={'data': 2}": "sharding={'data': 2} is a dict; sharding is a Sharding",
    "steps='many'": "bad.py:7: TypeError",
    "steps=4.0": "steps=4.0 is a float; steps is an int",
    "batch_size=None": "batch_size=None is a NoneType; batch_size is an int",
    "seed='a'": "seed='a' is a str; seed is an int",
    "name=3": "name=3 is an int; name is a str",
    "name=None": "name=None",
    "average='yes'": "average='yes' is a str; average is a float or None",
    "model=models.GPT(257, 16, 64 / 2, 1, 2)": "model.width=32.0 is a float; model.width is an int",
    "model=models.GPT(257, 16, '32', 1, 2)": "model.width='32' is a str; model.width is an int",
    "model=models.GPT(257, 16, 32, 1, 2, dropout=float('nan'))": "model.dropout=nan is no finite",
    "data=data.Text(data.Files('text.txt'), data.Bytes, 16)": "data.tokenizer=Bytes is a class",
    "data=data.Text('text.txt', data.Bytes(), 16)": "data.documents='text.txt' is a str;",
  }
  for part, told in parts.items():
    body = f"def experiment():\n  return dataclasses.replace(base(), {part})\n"
    files = {"bad.py": "import dataclasses\n" + ANOTHER + body}
    yield Mistake(f"part {part[:50]}", ["run", "bad.py"], (told,), files)


def _commands() -> Iterator[Mistake]:
  lines = {
    "rnu exp.py": "invalid choice: 'rnu'",
    "run": "the following arguments are required: file",
    "run exp.py --wrokdir x": "unrecognized arguments: --wrokdir",
    "run exp.py --workdir": "--workdir: expected one argument",
    "run exp.py --only nothing": "--only nothing: the file names no such experiment",
    "run exp.py:sweep --only tested/seed_3": "Did you mean 'tested/seed_2'?",
    "run exp.py --processes 0": "0 must be at least 1",
    "run exp.py --processes two": "invalid count value: 'two'",
    "run exp.py --processes 2": "needs --coordinator and --process as well",
    "run exp.py --coordinator here --processes 2 --process 0": "'here' is not host:port",
    "run exp.py --coordinator a:b --processes 2 --process 0": "'a:b' is not host:port",
    "run exp.py --coordinator a:1 --processes 2 --process 2": "process 2 of 2 processes does not",
    "data exp.py --rows 0": "0 must be at least 1",
    "data exp.py --rows many": "invalid count value: 'many'",
    "explain exp.py --mesh fdsp": "Did you mean 'fsdp'?",
    "explain exp.py --mesh fsdp=64 --devices 3": "but there are 3",
    "explain exp.py --devices 0": "0 must be at least 1",
    "verify exp.py --only nothing": "nothing",
    "plan exp.py": "the following arguments are required: --topology",
    "plan exp.py --topology v9:2x2 --estimate": "v9",
    "plan exp.py --topology v5e:3x --estimate": "v5e:3x",
    "plan exp.py --topology v5e:16x16 --tokens lots --estimate": "lots",
    "sample": "the following arguments are required: workdir",
    "sample nowhere": "nowhere holds no run",
    "sample run --temperature hot": "invalid float value: 'hot'",
    "sample run --temperature nan": "temperature=nan must be a number from 0 on",
    "sample run --temperature -1": "temperature=-1.0 must be a number from 0 on",
    "sample run --top-k 0": "top_k=0 keeps no token",
    "sample run --top-p 2": "top_p=2.0 is a probability",
    "sample run --greedy --top-k 3": "--greedy takes the likeliest token",
    "sample run --samples 0": "0 must be at least 1",
    "sample run --prompt a --prompt-file b": "drop one",
    "sample run --prompt-file nowhere": "nowhere cannot be read",
    "report nowhere": "nowhere holds no run",
    "report": "the following arguments are required: DIR",
    "bench play": "invalid choice: 'play'",
    "--nothing": "unrecognized arguments: --nothing",
  }
  for line, told in lines.items():
    yield Mistake(f"command {line}", line.split(" "), (told,))


def _folders() -> Iterator[Mistake]:
  """Folders of runs that are none, or none any more."""
  record = {
    "name": "tested",
    "file": f"{HERE}/exp.py",
    "function": "experiment",
    "knobs": {},
    "overrides": {},
    "description": {"name": "'tested'"},
  }
  changed = "has changed since"
  broken: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "experiment.json cannot be read"),
    "half": (json.dumps(record)[:50], "experiment.json cannot be read"),
    "binary": (bytes(range(256)), "experiment.json cannot be read"),
    "nested": ("[" * 100_000, "experiment.json cannot be read"),
    "a list": ("[]", "experiment.json is damaged"),
    "a number": ("3", "experiment.json is damaged"),
    "nothing in it": ("{}", "experiment.json is damaged"),
  }
  wrong = {
    "name": (3, "is damaged"),
    "file": (f"{HERE}/gone.py", "gone.py: no such experiment file"),
    "function": ("gone", "has no function 'gone'"),
    "knobs": ([], "is damaged"),
    "overrides": ("x", "is damaged"),
    "description": ([], "is damaged"),
  }
  for key, (value, told) in wrong.items():
    broken[f"{key} of {value!r}"] = (json.dumps({**record, key: value}), told)
    without = {k: v for k, v in record.items() if k != key}
    broken[f"no {key}"] = (json.dumps(without), "experiment.json is damaged")
  for key, told in {"widht": "no such knob", "knob": "no such knob"}.items():
    broken[f"knob {key}"] = (json.dumps({**record, "knobs": {key: "1"}}), told)
  broken["a number for a knob"] = (json.dumps({**record, "knobs": {"width": 3}}), "is damaged")
  broken["an override"] = (json.dumps({**record, "overrides": {"model.x": "1"}}), "model has no")
  broken["another name"] = (json.dumps({**record, "name": "other"}), "no longer names")
  broken["another file"] = (
    json.dumps({**record, "description": {"model.width": "3"}}), changed,
  )  # fmt: skip
  for what, (content, told) in broken.items():
    files = {"run/experiment.json": content}
    yield Mistake(f"run folder: {what}", ["sample", "run"], (told,), files)
  for content in ("", "[]", "{}", "3"):
    files = {"run/experiment.json": content, "run/metrics.jsonl": ""}
    words = ["run", "exp.py", "--workdir", "run"]
    yield Mistake(f"resumed: {content!r}", words, ("run/experiment.json",), files, ran=True)
  other = json.dumps({**record, "description": {"steps": "9"}})
  files = {"run/experiment.json": other, "run/metrics.jsonl": ""}
  words = ["run", "exp.py", "--workdir", "run"]
  yield Mistake("another run", words, ("another experiment", "another --workdir"), files, ran=True)
  for workdir, told in {
    "text.txt": "text.txt cannot be written: File exists; give another --workdir",
    "text.txt/run": "cannot be written: Not a directory; give another --workdir",
    "/proc/run": "/proc/run cannot be written",
    "/dev/null": "/dev/null cannot be written",
    "/dev/full/run": "/dev/full/run cannot be written",
    "x" * 300: "File name too long; give another --workdir",
    "": "--workdir: expected a folder",
    "gs://bucket/run": "gs://bucket/run is no folder; mount it, and give the path it has",
  }.items():
    yield Mistake(f"workdir {workdir[:20]!r}", ["run", "exp.py", "--workdir", workdir], (told,))
  yield Mistake(
    "a lock that is a folder", words, ("run cannot be written",), {"run/run.lock": None}
  )
  yield Mistake("a report of a file", ["report", "text.txt"], ("text.txt holds no run",))
