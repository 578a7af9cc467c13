"""The Python files of this interpreter's standard library: text that every machine already has."""

from __future__ import annotations

import ast
import io
import os
import pathlib
import sysconfig
import tokenize
from collections.abc import Iterator

from research.errors import UserError

# Not the standard library, or not written by people.
FOREIGN = {"site-packages", "dist-packages", "__pycache__"}
TESTS = {"test", "tests", "idle_test", "idlelib", "lib2to3"}  # no documentation in there


def sources(skip: frozenset[str] | set[str] = frozenset()) -> Iterator[tuple[str, str]]:
  """(path inside the library, text) of every .py file, sorted by path; folders in `skip` left out.

  Files that do not decode are left out: the tests of Python have some, on purpose.
  """
  library = pathlib.Path(sysconfig.get_path("stdlib"))
  names = []
  for folder, folders, files in os.walk(library):
    folders[:] = [name for name in folders if name not in FOREIGN and name not in skip]
    inside = pathlib.Path(folder).relative_to(library)
    names += [(inside / name).as_posix() for name in files if name.endswith(".py")]
  if not names:
    raise UserError(
      f"{library} has no Python files: this Python comes without its library's source"
    )
  for name in sorted(names):
    data = (library / name).read_bytes()
    try:
      encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
      yield name, data.decode(encoding).removeprefix("\ufeff")
    except (SyntaxError, UnicodeDecodeError, LookupError):
      continue


def documentation() -> Iterator[tuple[str, str]]:
  """(name, text): the language reference, then the docstrings of each module, sorted."""
  yield from sorted(_topics().items())
  for path, text in sources(skip=TESTS):
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    try:
      tree = ast.parse(text)
    except (SyntaxError, ValueError):
      continue
    if document := docstrings(module, tree):
      yield module, document


def _topics() -> dict[str, str]:
  try:
    from pydoc_data.topics import topics
  except ImportError:
    raise UserError("this Python comes without pydoc_data; install its documentation") from None
  return {f"topic {name}": text for name, text in topics.items()}


def docstrings(module: str, tree: ast.Module) -> str:
  """The module's docstring, then everything that has one by its signature; "" if nothing has.

  json.decoder

  Implementation of JSONDecoder

  class JSONDecoder
      Simple JSON <https://json.org> decoder ...

      def decode(self, s, _w=WHITESPACE.match)
          Return the Python representation of ``s`` ...
  """
  parts = [text for text in (ast.get_docstring(tree),) if text]
  parts += _members(tree, "")
  return "\n\n".join([module, *parts]) + "\n" if parts else ""


def _members(parent: ast.AST, indent: str) -> list[str]:
  parts: list[str] = []
  for node in ast.iter_child_nodes(parent):
    match node:
      case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
        text = ast.get_docstring(node)
        inner = _members(node, indent + "    ") if isinstance(node, ast.ClassDef) else []
        if text or inner:
          parts.append(indent + _signature(node) + (_indented(text, indent) if text else ""))
          parts += inner
      case ast.If() | ast.Try():
        parts += _members(node, indent)
  return parts


def _signature(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
  if isinstance(node, ast.ClassDef):
    bases = ", ".join(ast.unparse(base) for base in [*node.bases, *node.keywords])
    return f"class {node.name}" + (f"({bases})" if bases else "")
  word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
  returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
  return f"{word} {node.name}({ast.unparse(node.args)}){returns}"


def _indented(text: str, indent: str) -> str:
  lines = (f"{indent}    {line}".rstrip() for line in text.splitlines())
  return "\n" + "\n".join(lines)
