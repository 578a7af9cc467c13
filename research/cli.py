"""The command line of `research`: what it runs, and its exit codes."""

from __future__ import annotations

import os
import sys
import traceback

from research import __version__, commands, grammar, memory, secrets
from research.errors import RunError


def main(arguments: list[str] | None = None) -> int:
  """Runs one command and returns its exit code: see `errors`."""
  _keep_compiled_programs()
  if hasattr(sys.stdout, "reconfigure"):  # a file's name may be none that can be printed
    sys.stdout.reconfigure(errors="backslashreplace")
  parser, subparsers = grammar.parsers()
  words = list(sys.argv[1:] if arguments is None else arguments)
  whole = grammar.TRACEBACK in words
  words = [word for word in words if word != grammar.TRACEBACK]
  try:
    if len(words) >= 2 and words[0] in ("run", "data") and {"-h", "--help"} & set(words):
      target = next((w for w in words[1:] if not w.startswith("-")), None)
      if target:
        return commands.explain_file(target, subparsers[words[0]])
    options, rest = parser.parse_known_args(words)
    if rest and (not hasattr(options, "words") or any(word.startswith("-") for word in rest)):
      parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # name=value may also follow the options
      options.words += rest
    if not hasattr(options, "command"):
      parser.print_help()
      return 0
    if arguments is None and options.command in (commands.run, commands.sample):
      memory.restart()
    return options.command(options) or 0
  except RunError as error:
    if whole:
      _print_traceback()
    print(f"error: {secrets.redact(str(error))}", file=sys.stderr)
    return error.exit_code
  except BrokenPipeError:  # the reader of our output left, as `| head` does
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    return 130
  except Exception:
    _print_traceback()
    print(
      f"error: this is a mistake of research {__version__}, not yours; please report it with the "
      f"lines above and the command: {secrets.command(['research', *words])}",
      file=sys.stderr,
    )
    return RunError.exit_code


def _print_traceback() -> None:
  print(secrets.redact(traceback.format_exc()), end="", file=sys.stderr)


def _keep_compiled_programs() -> None:
  """Compiling is most of a start: programs are kept on disk, and JAX is told before it wakes."""
  from research.data import cache

  for name, value in {
    "JAX_COMPILATION_CACHE_DIR": str(cache.root() / "programs"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }.items():
    os.environ.setdefault(name, value)


if __name__ == "__main__":
  sys.exit(main())
