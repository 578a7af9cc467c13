"""The words of the command line: commands, their options, their help.

one    commands that take an experiment
made   that take a run
many   that take several of either
kinds  what several commands take
"""

from __future__ import annotations

import argparse

from research import __version__
from research.grammar import made, many, one

TRACEBACK = "--traceback"  # of any command: also where a mistake was found


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
  """The parser of the whole line, and those of the commands by their names."""
  parser = argparse.ArgumentParser(
    prog="research",
    description="Run experiments: short Python files of data, model, optimizer.",
    epilog=f"Any command takes {TRACEBACK}, which shows where in the code an error was found.",
  )
  parser.add_argument("--version", action="version", version=f"research {__version__}")
  adding = parser.add_subparsers(metavar="COMMAND")
  subparsers = {}

  def command(name, function, about, epilog=None):
    sub = adding.add_parser(name, help=about, description=about, epilog=epilog)
    sub.set_defaults(command=function)
    subparsers[name] = sub
    return sub

  for group in (one, many, made):
    group.add(command)
  return parser, subparsers
