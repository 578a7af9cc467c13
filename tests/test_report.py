"""A report is one page that loads nothing, whatever the run left behind."""

import html.parser
import json
import math
import re

import numpy as np
import pytest

from research import report
from research.errors import RunError, UserError
from research.report import canvas, plots, tables

BASELINES = {"unigram": 6.2, "bigram": 4.9, "5-gram <b>": 4.0, "price $x$ & $y": 5.0}


def save(folder, name, lines):
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (folder / name).write_text(text, encoding="utf-8")


def line(split, nats, **more):
  bits = nats / math.log(2) / 4
  measured = {"loss": nats, "nats": nats, "perplexity": math.exp(nats), "bits_per_byte": bits}
  return {"split": split, "time": 1.0, **measured, **more}


def train(steps):
  rates = {"learning_rate": 1e-3, "gradient_norm": 0.5, "tokens_per_second": 900.0}
  return [line("train", 3 + 5 / s, step=s, **rates) for s in range(1, steps + 1)]


def baselines():
  return [line("baseline", nats, name=name) for name, nats in BASELINES.items()]


def heldout(steps):
  errors = {"standard_error": {"nats": 0.02}}
  return [line("heldout", 3.2 + 5 / s, step=s, **errors) for s in range(10, steps + 1, 10)]


@pytest.fixture
def finished(tmp_path):
  save(tmp_path, "metrics.jsonl", [*baselines(), *train(50), *heldout(50)])
  prompt = {"prompt": "Once <i>upon</i>", "text": " a <script>alert(1)</script> time\x1b\ud800"}
  save(tmp_path, "samples.jsonl", [{"step": s, "name": "samples", **prompt} for s in (10, 50)])
  record = {
    "name": "tiny<gpt>",
    "file": "experiments/tiny.py",
    "command": "research run experiments/tiny.py size=<small>",
    "description": {"name": "'tiny'", "steps": "50", "model": "GPT", "model.width": "64"},
    "versions": {"jax": "0.10"},
  }
  (tmp_path / "experiment.json").write_text(json.dumps(record))
  return tmp_path


def page(folder):
  path = report.write(folder)
  assert path == folder / "report.html"
  return path.read_text(encoding="utf-8")


class Tags(html.parser.HTMLParser):
  """Every tag with its attributes, and whether each is closed in order."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.open = [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in ("meta", "input", "link", "br"):
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


def test_what_else_was_measured_has_a_table_of_its_own(tmp_path):
  line = {"step": 5, "time": 1.0, "split": "heldout", "loss": 0.4, "f1": 0.781, "accuracy": "NaN"}
  save(tmp_path, "metrics.jsonl", [{**line, "standard_error": {"f1": 0.02}}])
  text = page(tmp_path)
  assert "<h2>Other measures</h2>" in text
  assert "<th>f1</th><th>accuracy</th>" in text
  assert f"<td>0.781<span> ± 0.020</span></td><td>{tables.NONE}</td>" in text
  assert "Other measures" not in page_of_losses(tmp_path)


def page_of_losses(folder):
  save(folder, "metrics.jsonl", heldout(50))
  return page(folder)


def test_the_page_is_whole_and_says_what_came_out(finished):
  text = page(finished)
  tags = Tags(text)
  assert tags.open == []
  ids = [attrs["id"] for _, attrs in tags.tags if "id" in attrs]
  assert len(ids) == len(set(ids))
  assert "finished, 50 steps" in text
  assert "1.190 ± 0.007 bits per byte" in text  # (3.2 + 5 / 50) nats / ln 2 / 4 bytes
  assert "17.5 % less than 5-gram &lt;b&gt;" in text
  assert "model.width" in text and "size=&lt;small&gt;" in text


def test_every_baseline_is_in_the_plots_and_in_the_table(finished):
  text = page(finished)
  drawings = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
  for name in ("unigram", "bigram", "5-gram &lt;b&gt;", "price $x$ &amp; $y"):
    assert name in drawings
    assert f"<td>{name}</td>" in text
  assert "held-out" in drawings and "train" in drawings


def test_texts_are_escaped(finished):
  tags = Tags(page(finished)).tags
  names = {tag for tag, _ in tags}
  assert not names & {"script", "i", "gpt", "small", "iframe", "img", "object", "link"}
  assert not any(key.startswith("on") for _, attrs in tags for key in attrs)
  text = page(finished)
  assert "<mark>Once &lt;i&gt;upon&lt;/i&gt;</mark> a &lt;script&gt;" in text
  assert "time␛?" in text  # the escape character made visible, half a pair replaced
  assert text.index("after step 50") < text.index("after step 10")


def test_nothing_is_loaded_from_anywhere(finished):
  text = page(finished)
  assert "http:" not in text and "https:" not in text and "@import" not in text
  assert "default-src 'none'" in text
  for _, attrs in Tags(text).tags:
    assert "src" not in attrs
    assert attrs.get("href", "#").startswith("#")
  assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", text))


def test_colours_follow_the_page(finished):
  drawings = "".join(re.findall(r"<svg.*?</svg>", page(finished), flags=re.DOTALL))
  assert "var(--train)" in drawings and "var(--heldout)" in drawings
  assert not re.search(r"#[0-9a-f]{6}\b", drawings)


def test_a_run_that_has_just_begun(tmp_path):
  save(tmp_path, "metrics.jsonl", train(1))
  assert "Nothing has been evaluated" in page(tmp_path)
  save(tmp_path, "metrics.jsonl", [*baselines(), *train(3)])
  assert "<svg" in page(tmp_path)


def test_a_run_with_no_line_yet(tmp_path):
  record = {"description": {"name": "soon", "steps": "10"}}
  (tmp_path / "experiment.json").write_text(json.dumps(record))
  assert "unfinished, step 0 of 10" in page(tmp_path)


def test_a_counted_model_has_a_table_and_no_curve(tmp_path):
  save(tmp_path, "metrics.jsonl", [*baselines(), line("heldout", 3.9, step=1)])
  text = page(tmp_path)
  assert "this run, held-out" in text and "<svg" not in text
  assert "2.5 % less" in text


def test_broken_lines_are_skipped_and_counted(tmp_path):
  save(tmp_path, "metrics.jsonl", [*train(5), *heldout(10)])
  with open(tmp_path / "metrics.jsonl", "ab") as file:
    file.write(b'\xff\xfe\n[1]\n{"split": "train", "step": "x"}\n{"step": 6, "split": "tr')
  (tmp_path / "experiment.json").write_text("{")
  assert "4 lines of the files could not be read." in page(tmp_path)


def test_a_diverged_run_is_still_drawn(tmp_path):
  lost = [{**line("train", 1.0, step=s), "loss": "NaN", "nats": "NaN"} for s in range(6, 9)]
  for one in lost:
    one["bits_per_byte"] = "NaN"
  bad = {**line("heldout", 1.0, step=8), "nats": "Infinity", "loss": "Infinity"}
  save(tmp_path, "metrics.jsonl", [*baselines(), *train(5), *lost, bad])
  assert "At 3 of 8 logged steps there was no finite value." in page(tmp_path)
  save(tmp_path, "metrics.jsonl", lost)
  page(tmp_path)


def test_a_loss_without_units_is_called_a_loss(tmp_path):
  save(tmp_path, "metrics.jsonl", [{"split": "train", "step": s, "loss": 1 / s} for s in (1, 2, 3)])
  text = page(tmp_path)
  assert "Loss by step" in text and "nats" not in text


def test_a_folder_without_a_run_is_a_users_mistake(tmp_path):
  with pytest.raises(UserError, match="holds no run"):
    report.write(tmp_path)


def test_a_page_that_cannot_be_written_is_told(tmp_path):
  save(tmp_path, "metrics.jsonl", [{"split": "train", "step": 1, "loss": 1.0}])
  (tmp_path / "report.html").mkdir()
  with pytest.raises(RunError, match=r"report\.html cannot be written: Is a directory"):
    report.write(tmp_path)
  assert [path.name for path in tmp_path.iterdir() if "new" in path.name] == []


def test_labels_do_not_overlap():
  places = canvas.spread([1.0, 1.01, 1.02, 4.9, 5.0], 0.5, 5.0)
  assert np.all(np.diff(places) >= 0.5 - 1e-9) and places[-1] <= 5.0


def test_thinning_keeps_the_spikes():
  values = np.ones(10_000)
  values[1234], values[4321] = 9.0, -9.0
  kept = plots.thin(plots.Curve("train", np.arange(10_000), values))
  assert len(kept.values) <= 600 and kept.values.max() == 9 and kept.values.min() == -9


def test_smoothing_leaves_a_straight_line_alone():
  steps = np.arange(300.0)
  smoothed = plots.smooth(plots.Curve("train", steps, 5 - 0.01 * steps))
  assert np.allclose(smoothed.values, 5 - 0.01 * steps, atol=0.03)


def test_samples_are_told_with_their_interval_beside_chance(tmp_path):
  line = {"step": 5, "time": 1.0, "split": "retrieval", "at_1": 0.25}
  about = {"chance": {"at_1": 0.01}, "interval": {"at_1": [0.2, 0.3]}, "n": {"at_1": 1000}}
  save(tmp_path, "metrics.jsonl", [{**line, **about}])
  text = page(tmp_path)
  row = "<td>retrieval, at 1</td><td>0.25</td><td>0.2 to 0.3</td><td>0.01</td><td>1,000</td>"
  assert "<h2>Beside chance</h2>" in text and row in text
  assert "Other measures" not in text and "Held-out data" not in text


def test_what_is_wrong_is_told_in_words(tmp_path):
  values = {"loss": 4.8, "of_chance": 0.99, "shuffled_loss": 4.8, "image_likeness": 0.2}
  save(tmp_path, "metrics.jsonl", [{"step": 5, "time": 1.0, "split": "health", **values}])
  text = page(tmp_path)
  assert "<h2>What is wrong</h2>" in text
  assert "plateau: the loss 4.8 is what guessing has, 4.85." in text
