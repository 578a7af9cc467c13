#!/bin/sh
# Sets up a virtual environment in .venv and runs the main job: all that a fresh machine needs.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "error: $python is missing or older than 3.11; set PYTHON=/path/to/python3.11" >&2
  exit 2
fi
# Debian and Ubuntu keep the module that makes environments in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  echo "installing python$version-venv" >&2
  as_root=$([ "$(id -u)" = 0 ] || echo sudo)
  $as_root apt-get update -qq
  $as_root apt-get install -y -qq "python$version-venv" >/dev/null
fi
if ! [ -x .venv/bin/research ]; then
  "$python" -m venv .venv
  echo "installing packages into .venv (about 1 GB)" >&2
  .venv/bin/pip install --quiet --disable-pip-version-check -e '.[dev]'
fi
exec .venv/bin/research run experiments/python_docs.py --workdir runs/python_docs "$@"
