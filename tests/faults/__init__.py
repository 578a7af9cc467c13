"""Faults made on purpose, counted and by the hundred: `python -m tests.faults --help`."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # before anything imports JAX
