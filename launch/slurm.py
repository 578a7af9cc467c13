"""A script for sbatch: one job, or an array with a task for each run of a sweep.

SLURM requeues what it lost itself (a dead node, a preemption); the script asks for it where a run
was stopped or killed, and a run that must not be tried again takes that right from its job. Whoever
cancels a job gets what was asked for: no other start.
"""

from __future__ import annotations

import math
import shlex

from launch import tools
from launch.spec import FINAL, Spec, label
from research.errors import UserError

TAKES = (
  "topology", "setup", "env", "grace", "retries", "hours", "queue", "account", "sbatch", "parallel",
)  # fmt: skip
TEMPLATE = """\
#!/bin/bash
# {about}
{options}
{setup}
set -u  # only now: what sets up an environment may read what is not there
{command}

# A mistake must not be tried again, whatever the other processes make of its absence.
process='
  trap : TERM  # for the run; bash waits for it
  "$@"
  code=$?
  case $code in {final}) scontrol update JobId="$job" Requeue=0 ;; esac
  exit "$code"'

# SLURM tells this script ahead of the limit, and it the processes: they save and end with 42.
trap 'trap : TERM; scancel --signal=TERM "$job"' USR1
# What SLURM ends by itself it tells everyone, and has decided whether to start it again.
decided=
trap 'decided=1' TERM
srun --kill-on-bad-exit=0 --wait={grace} --label bash -c "$process" process "$@" &
step=$!
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do  # the signal ended the wait, not the step
  code=0
  wait "$step" || code=$?
done

trap '' USR1  # from here on the limit is that of the next start, which has the same number
case $code in
  0 | {final}) ;;
  *) [ "$decided" ] || [ "${{SLURM_RESTART_COUNT:-0}}" -ge {retries} ] || scontrol requeue "$job" ;;
esac
exit "$code"
"""


def render(spec: Spec) -> str:
  """The text of the script."""
  if spec.topology.machine.platform == "tpu":
    raise UserError(f"slurm: {spec.topology} are TPUs; use jobset, tpu_vm or skypilot for them.")
  # A process may use all of its host's cores, for its data.
  setup = ["export SLURM_CPU_BIND=none"] * (spec.topology.machine.platform == "gpu")
  setup += [f"export {name}={shlex.quote(value)}" for name, value in spec.environment.items()]
  setup += [spec.setup] * bool(spec.setup)
  return TEMPLATE.format(
    about=f"{spec.name}, {len(spec.runs)} run{'s' * (len(spec.runs) > 1)} on {spec.topology}",
    options="\n".join(f"#SBATCH {option}" for option in _options(spec)),
    setup="\n".join(setup),
    command="\n".join(_command(spec)),
    final=" | ".join(map(str, FINAL)),
    grace=spec.grace,
    retries=spec.retries,
  )


def submit(spec: Spec) -> int:
  """Hands the script to sbatch."""
  return tools.call("sbatch", text=render(spec))


def _options(spec: Spec) -> list[str]:
  """What sbatch is asked for. JAX under SLURM takes one device for a process, so of a host's GPUs
  each has its own."""
  sweep, each = len(spec.runs) > 1, spec.topology.chips_per_host
  options = [
    f"--job-name={label(spec.name)}",
    f"--output=%x-{'%A_%a' if sweep else '%j'}.log",
    "--open-mode=append",
    f"--nodes={spec.topology.hosts}",
    f"--ntasks-per-node={each}",
  ]
  if spec.topology.machine.platform == "gpu":
    options.append(f"--gpus-per-node={each}")
    options += ["--exclusive"] * (each == spec.topology.machine.chips)
  if spec.hours:
    options.append(f"--time={math.ceil(spec.hours * 60)}")
  if sweep:
    limit = f"%{spec.parallel}" if spec.parallel else ""
    options.append(f"--array=0-{len(spec.runs) - 1}{limit}")
  if spec.queue:
    options.append(f"--partition={spec.queue}")
  if spec.account:
    options.append(f"--account={spec.account}")
  return [*options, "--requeue", f"--signal=B:USR1@{spec.grace}", *spec.sbatch]


def _command(spec: Spec) -> list[str]:
  """The words of the command as the script's arguments; in an array, those of its task."""
  commands = [shlex.join(command) for command in spec.runs.values()]
  if len(commands) == 1:
    return ["export job=$SLURM_JOB_ID", f"set -- {commands[0]}"]
  tasks = [f"  {i}) set -- {command} ;;" for i, command in enumerate(commands)]
  return [
    # One task has the number of the whole array: what is said of that is said of all.
    "export job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
    "case $SLURM_ARRAY_TASK_ID in",
    *tasks,
    "esac",
  ]
