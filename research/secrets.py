"""What must not be written down: passwords, tokens and keys, known by their names or their forms.

A run folder, a job and a log are read by others. A secret that finds its way into an experiment is
used, and `REDACTED` stands wherever it would be written. Which one was given is not remembered, in
no form: it says who asks, not what is computed.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

REDACTED = "<redacted>"

# The last word of a name that is a secret's, whatever stands before it.
_ALWAYS = {
  "password", "passwd", "passphrase", "passcode", "pwd", "secret", "secrets", "credential",
  "credentials", "authorization", "auth", "apikey", "cookie",
}  # fmt: skip
# A "key" is one of these, or looks like one; it may also be a column's name.
_KEYS = {
  "access", "account", "api", "app", "auth", "deploy", "encryption", "license", "private", "secret",
  "service", "signing", "ssh", "storage", "subscription",
}  # fmt: skip
# Tokens that are pieces of text.
_PIECES = {
  "begin", "blank", "bos", "class", "cls", "empty", "end", "eos", "first", "image", "last", "mask",
  "masked", "next", "newline", "of", "pad", "padding", "per", "prompt", "sep", "separator",
  "source", "special", "start", "stop", "target", "text", "unk", "unknown", "word",
}  # fmt: skip
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_FORMS = re.compile(
  r"""
  (?<![A-Za-z0-9])(?:
    hf_[A-Za-z0-9]{16,}                                    # Hugging Face
  | gh[oprsu]_[A-Za-z0-9]{16,} | github_pat_\w{20,} | glpat-[\w-]{16,}
  | A(?:KI|SI)A[0-9A-Z]{16}                                # AWS
  | AIza[\w-]{30,} | ya29\.[\w-]{20,}                      # Google
  | (?:sk|rk|pk)[-_](?=[\w-]{0,99}\d)[\w-]{16,200}          # OpenAI, Anthropic, Stripe
  | xox[a-z]-[\w-]{10,} | npm_[A-Za-z0-9]{30,} | pypi-[\w-]{20,}
  | eyJ[\w-]{8,300}\.[\w-]{8,}+\.[\w-]*                    # JSON Web Token
  | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
  )
  """,
  re.VERBOSE | re.DOTALL,
)
_URL = re.compile(r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]*+://)([^\s/@:'\"]*)(?::([^\s/@'\"]+))?@")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+([\w+/=.~-]{8,})")
_QUERY = re.compile(r"(?i)([?&](?:x-amz-[a-z-]*+|sig|signature)=)[^&\s'\"]+")
_QUOTED = r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+\""""
_ASSIGNED = re.compile(
  rf"""(?<![\w.-])([A-Za-z_][\w.-]*+)(['"]?\s?=\s?|['"]?\s?:\s?(?=['"]))"""
  rf"""({_QUOTED}|[^\s,;&)\]}}'"]+)"""
)


def named(name: str, value: Any) -> bool:
  """Whether what stands under `name`, of which the part behind the last dot counts, is a secret."""
  words = [word.lower() for word in _WORDS.findall(name.rsplit(".", 1)[-1])]
  if not words or value is None or isinstance(value, bool) or value == "":
    return False
  last, before = words[-1], set(words[:-1])
  if last in _ALWAYS or (last in ("key", "keys") and before & _KEYS):
    return True
  if not isinstance(value, str):
    return False
  if last == "token":
    return not before & _PIECES and not _is_piece(value)
  return last == "key" and _is_random(value)


def redact(text: str) -> str:
  """`text` without the secrets in it: known forms, passwords in addresses, what a name assigns."""
  text = _FORMS.sub(REDACTED, text)
  text = _BEARER.sub(rf"\1 {REDACTED}", text)
  text = _QUERY.sub(rf"\1{REDACTED}", text)
  text = _URL.sub(_address, text)
  return _ASSIGNED.sub(_assignment, text)


def hidden(name: str, value: Any) -> Any:
  """`value` itself, or what may be written down in its place."""
  if named(name, value):
    return REDACTED
  return redact(value) if isinstance(value, str) else value


def describe(description: Mapping[str, str]) -> dict[str, str]:
  """A description, path -> Python text of the value, as it may be written down."""
  return {path: _field(path, text) for path, text in description.items()}


def command(words: Iterable[str]) -> str:
  """A line for a shell; of `name=value` the name counts."""
  parts = (word.partition("=") for word in words)
  return shlex.join(f"{name}{equals}{hidden(name, value)}" for name, equals, value in parts)


def _field(path: str, text: str) -> str:
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    value = text
  return repr(REDACTED) if named(path, value) else redact(text)


def _address(match: re.Match) -> str:
  scheme, user, password = match.groups()
  if password is None:
    return f"{scheme}{REDACTED if _is_random(user) else user}@"
  return f"{scheme}{user}:{REDACTED}@"


def _assignment(match: re.Match) -> str:
  name, between, value = match.groups()
  quote = value[0] if value[0] in "'\"" else ""
  bare = value.strip(quote) if quote else value
  return f"{name}{between}{quote}{REDACTED}{quote}" if named(name, bare) else match[0]


def _is_piece(value: str) -> bool:
  """Whether it is a piece of text, as "[MASK]", "</s>" or "##ing" are."""
  return len(value) < 3 or value[0] in "<[{#" or not value.isascii()


def _is_random(value: str) -> bool:
  """Whether nobody would call something that."""
  return bool(
    re.fullmatch(r"[\w+/=.~-]{8,}", value)
    and re.search(r"[0-9]", value)
    and re.search(r"[A-Za-z]", value)
  )
