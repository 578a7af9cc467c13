"""Secrets are used, and never written down."""

import json
import time
from pathlib import Path

import pytest

from launch.cli import main as launch
from research import cli, load, record, secrets
from research.errors import UserError
from research.secrets import REDACTED

FORMS = [
  "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345",
  "ghp_0123456789abcdefghijklmnopqrstuvwxyz",
  "gho_16C7e42F292c6912E7710c838347Ae178B4a",
  "github_pat_11ABCDEFG0123456789_abcdefghijklmnop",
  "glpat-abcdefghij0123456789",
  "AKIAIOSFODNN7EXAMPLE",
  "ASIAIOSFODNN7EXAMPLE",
  "AIzaSyA-0123456789abcdefghijklmnopqrstu",
  "sk-abcdefghijklmnop0123456789",
  "sk-ant-api03-abcdefghijklmnop0123456789",
  "sk-proj-abc_def-ghijklmnop0123456789",
  "xoxb-123456789012-abcdefghijkl",
  "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123",
  "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", FORMS, ids=lambda text: text[:12])
def test_what_has_the_form_of_a_secret_is_hidden_wherever_it_stands(secret):
  for text in (
    secret,
    f"see {secret}, please",
    f"x={secret!r}",
    f'{{"a": "{secret}"}}',
    f"({secret})",
  ):
    found = secrets.redact(text)
    assert secret not in found and REDACTED in found
    assert not any(part in found for part in secret.split("\n") if len(part) > 30)


@pytest.mark.parametrize(
  "name",
  [
    "token", "hf_token", "HF_TOKEN", "access_token", "githubToken", "client_secret", "password",
    "db_password", "passphrase", "credential", "credentials", "api_key", "apiKey", "API_KEY",
    "apikey", "AWS_SECRET_ACCESS_KEY", "private_key", "data.hub.token", "authorization", "secret",
  ],
)  # fmt: skip
def test_what_is_named_as_a_secret_is_hidden(name):
  assert secrets.hidden(name, "open-sesame") == REDACTED
  assert secrets.describe({name: "'open sesame'"}) == {name: repr(REDACTED)}
  for text in (f"{name}=open-sesame", f"{name}='open-sesame'", f'"{name}": "open-sesame"'):
    assert "sesame" not in secrets.redact(f"x=1 {text} y=2")
    assert "x=1" in secrets.redact(f"x=1 {text} y=2") and "y=2" in secrets.redact(f"x=1 {text} y=2")


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("tokens", "train"), ("max_tokens", "5"), ("vocabulary", "folder"), ("key_size", "64"),
    ("tokenizer", "bytes"), ("key", "caption"), ("image_key", "image"), ("mask_token", "mask"),
    ("unk_token", "[UNK]"), ("token", "[MASK]"), ("end_token", "<|endoftext|>"), ("token", "</s>"),
    ("end_of_text_token", "endoftext"), ("monkey", "abc12345"), ("passes", "two"),
    ("author", "Ada"), ("next_token", "NextToken"), ("key", None), ("token", 50256),
    ("token", None), ("password", None), ("token", "\u2581the"), ("shuffle_key", 7),
    ("secretary", "Ada"), ("tokens_per_second", "12"), ("keyed", "abc12345"),
    ("file", "/data/hf_transformers/x.txt"), ("name", "sk-learn-something"), ("token", ""),
  ],
)  # fmt: skip
def test_what_is_no_secret_stays(name, value):
  assert secrets.hidden(name, value) == value
  assert secrets.describe({name: repr(value)}) == {name: repr(value)}
  if isinstance(value, str) and value:
    assert secrets.redact(f"{name}={value}") == f"{name}={value}"


@pytest.mark.parametrize(
  ("text", "kept", "lost"),
  [
    ("https://ada:s3cret@host/x", "https://ada:", "s3cret"),
    ("postgres://u:p%40ss@db:5432/x", "@db:5432/x", "p%40ss"),
    ("https://0123abcd4567@github.com/x", "@github.com/x", "0123abcd4567"),
    ("https://x.blob.net/y?sig=abc%2Fd&se=1", "&se=1", "abc%2Fd"),
    ("https://x/y?X-Amz-Signature=0a1b&z=1", "&z=1", "0a1b"),
    ("https://x/y?api_key=abc&z=1", "&z=1", "abc"),
    ("Authorization: Bearer abcdefgh", "Bearer", "abcdefgh"),
    ("{'token': 'it\\'s me', 'x': 1}", "'x': 1", "me"),
  ],
)
def test_an_address_keeps_all_but_its_secret(text, kept, lost):
  found = secrets.redact(text)
  assert kept in found and lost not in found


@pytest.mark.parametrize("text", ["https://host/x", "git@host:x", "ssh://git@host/x", "a@b.de"])
def test_an_address_without_one_stays(text):
  assert secrets.redact(text) == text


def test_the_documents_and_the_code_hold_none():
  """What is hidden without need is lost: nothing of our own reads as a secret."""
  root = Path(__file__).parent.parent
  for path in [*(root / "tests" / "golden").glob("*.txt"), root / "README.md"]:
    assert secrets.redact(path.read_text()) == path.read_text(), path


@pytest.mark.parametrize(
  "text", ["a", "a.", "'", "key=", "sk-", "eyJ-", "a://", "a:", "-----BEGIN PRIVATE KEY", "?sig="]
)
def test_long_texts_are_read_in_no_time(text):
  text = text * (100_000 // len(text))
  start = time.perf_counter()
  secrets.redact(text)
  secrets.redact(text + "://")
  assert time.perf_counter() - start < 1


FILE = """
import dataclasses
import os

from research import Experiment, data, models, objectives, optim


@dataclasses.dataclass(frozen=True)
class Remote:
  url: str
  token: str

  def fingerprint(self):
    return "remote"

  def read(self):
    yield from ("some text that is long enough to be split " * 4 + str(i) for i in range(40))


def experiment(hf_token: str, url="https://host/x", steps=1):
  return Experiment(
    name="private",
    data=data.Text(Remote(url, hf_token), data.Bytes(), length=16),
    model=models.NGram(order=2),
    steps=steps,
  )
"""
TOKEN, PASSWORD = "hf_" + "AbCdEfGh0123" * 3, "hunter2-hunter2"
WORDS = [f"hf_token={TOKEN}", f"url=https://ada:{PASSWORD}@host/x"]


@pytest.fixture
def private(tmp_path):
  path = tmp_path / "private.py"
  path.write_text(FILE)
  return path


def written(folder):
  return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_run_writes_no_secret_anywhere(private, tmp_path, capfd):
  workdir = tmp_path / "run"
  command = ["run", str(private), *WORDS, "--workdir", str(workdir)]
  assert cli.main(command) == 0
  assert cli.main(["report", str(workdir)]) == 0
  assert cli.main(["describe", str(private), *WORDS]) == 0
  assert cli.main(["describe", str(private), *WORDS, f"data.documents.token={TOKEN}"]) == 2
  said = written(workdir) + "".join(capfd.readouterr()).encode()
  assert TOKEN.encode() not in said and PASSWORD.encode() not in said
  assert said.count(REDACTED.encode()) > 8
  assert f"hf_token={REDACTED}" in json.loads((workdir / "experiment.json").read_text())["command"]


def test_a_run_with_a_secret_is_resumed_also_with_a_new_one(private, tmp_path):
  command = ["run", str(private), "--workdir", str(tmp_path / "run"), *WORDS]
  assert cli.main(command) == 0
  assert cli.main(command) == 0
  assert cli.main([*command[:-2], "hf_token=hf_" + "Z" * 30, WORDS[1]]) == 0
  assert cli.main([*command, "steps=2"]) == 2


def test_a_run_is_opened_with_its_secrets_given_again(private, tmp_path, monkeypatch):
  workdir = tmp_path / "run"
  recipe = load.recipe(str(private), WORDS)
  record.remember(workdir, recipe, recipe.experiment())
  with pytest.raises(UserError, match=r"does not remember hf_token, a secret; .* as HF_TOKEN"):
    record.open_run(workdir)
  monkeypatch.setenv("HF_TOKEN", TOKEN)
  with pytest.raises(UserError, match="as URL"):
    record.open_run(workdir)
  monkeypatch.setenv("URL", "https://ada:s3cret@host/x")
  experiment, _ = record.open_run(workdir)
  assert experiment.data.documents.token == TOKEN


def test_a_mistake_beside_a_secret_does_not_tell_it(private, capsys):
  assert cli.main(["describe", str(private), *WORDS, f"password={PASSWORD}"]) == 2
  assert cli.main(["describe", str(private), f"hf_token={TOKEN}", f"stepz={TOKEN}"]) == 2
  assert cli.main(["describe", str(private), f"hf_token={TOKEN}", f"steps='{TOKEN}'"]) == 2
  told = capsys.readouterr().err
  assert told.count("error: ") == 3 and TOKEN not in told and PASSWORD not in told


def test_a_traceback_does_not_tell_it(private, capsys):
  private.write_text(FILE + f"\n\ndef odd(hf_token: str):\n  1 / len(hf_token[:0])  # {TOKEN}\n")
  assert cli.main(["describe", f"{private}:odd", f"hf_token={TOKEN}", "--traceback"]) == 2
  told = capsys.readouterr().err
  assert "Traceback" in told and "ZeroDivisionError" in told and TOKEN not in told


def test_no_job_carries_a_secret(private, capsys):
  target = ["slurm", str(private), "--topology=h100:1x8"]
  assert launch(["slurm", str(private), *WORDS, "--topology=h100:1x8"]) == 2
  assert launch([*target, "hf_token=x", "--env", f"HF_TOKEN={TOKEN}"]) == 2
  assert launch([*target, "hf_token=x", "--env", f"PROXY=http://ada:{PASSWORD}@host"]) == 2
  told = "".join(capsys.readouterr())
  assert told.count("error: ") == 3 and TOKEN not in told and PASSWORD not in told
  assert launch([*target, "hf_token=x", "--env", "TOKENIZERS_PARALLELISM=false"]) == 0
