"""The doctor says in seconds who is missing, and what to do."""

import os
import subprocess
import sys
import time

import pytest

from launch import doctor, machines
from launch.doctor import Finding


def examined(*words, timeout=120, **environment):
  """The exit code and what was said by `launch ...`, with one CPU device a process."""
  done = subprocess.run(
    [sys.executable, "-m", "launch.cli", *words],
    env={**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", **environment},
    text=True, capture_output=True, timeout=timeout,
  )  # fmt: skip
  return done.returncode, done.stdout + done.stderr


def test_two_processes_that_find_one_another_are_sound():
  begun = time.monotonic()
  code, said = examined("local", "doctor", "--processes=2", "--submit")
  assert code == 0, said
  lines = [line.removeprefix("[0] ").split() for line in said.splitlines()]
  assert ["processes", "2", "2"] in lines
  assert ["devices", "-", "2"] in lines
  assert ["sum", "over", "devices", "2", "2"] in lines
  assert "all is sound" in said and "GB/s a device" in said
  assert time.monotonic() - begun < 60


def test_what_is_not_as_it_should_be_is_named_with_its_fix():
  code, said = examined("doctor", "--topology=2xv5e:4x4")
  assert code == 1
  lines = [line.split() for line in said.splitlines()]
  assert ["hosts", "8", "1"] in lines
  assert ["platform", "tpu", "cpu"] in lines
  assert ["devices", "32", "1"] in lines
  assert ["slices", "2", "1"] in lines
  fixes = [line for line in said.splitlines() if line.startswith("WRONG: ")]
  assert len(fixes) == 4 and "pip install" in said and "all is sound" not in said


@pytest.mark.parametrize(
  ("process", "complaint"),
  [(1, "could not reach the coordinator 127.0.0.1:9"), (0, "not all of the 2 processes came to")],
)
def test_a_process_that_nobody_joins_says_so_in_time(process, complaint):
  begun = time.monotonic()
  port = 9 if process else 45_321
  code, said = examined(
    "doctor",
    "--seconds=3",
    RESEARCH_COORDINATOR=f"127.0.0.1:{port}",
    RESEARCH_PROCESSES="2",
    RESEARCH_PROCESS=str(process),
  )
  assert code == 1 and complaint in said
  assert "Traceback" not in said
  assert time.monotonic() - begun < 45


def test_a_machine_that_lost_a_device_is_named():
  hosts = ["host-a", "host-b", "host-c"]
  finding = doctor._devices_of_processes(hosts, [8, 7, 8])
  assert not finding.sound
  assert (finding.expected, finding.seen) == ("8", "process 1 on host-b has 7")
  assert doctor._devices_of_processes(hosts, [8, 8, 8]).sound


def test_only_what_is_expected_can_be_wrong():
  assert Finding("hosts", "", "3").sound
  assert Finding("hosts", "3", "3").sound
  assert not Finding("hosts", "4", "3").sound


@pytest.mark.parametrize("kind", machines.MACHINES)
def test_there_is_a_way_to_every_platform(kind):
  assert doctor.INSTALL[machines.MACHINES[kind].platform]
