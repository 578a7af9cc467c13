"""Queued resources of Cloud TPU: slices without a cluster, through gcloud.

Each host of a slice runs the container from its startup script, which is there again after a
maintenance event, and starts it again while the exit code allows it.
"""

from __future__ import annotations

import shlex

from launch import tools, volumes
from launch.machines import usual_shape
from launch.spec import FINAL, Spec
from research.errors import UserError

TAKES = (
  "topology", "slices", "image", "volume", "setup", "env", "zone", "spot", "grace", "retries",
)  # fmt: skip
TEMPLATE = """\
#!/bin/sh
# {about}
set -eu
startup=$(mktemp)
trap 'rm -f "$startup"' EXIT
cat >"$startup" <<'STARTUP'
#!/bin/bash
# Runs on every host. JAX finds the other hosts through the machine's metadata.
{setup}set -u
for try in {tries}; do
  docker rm --force {name} >/dev/null 2>&1
  docker run --name {name} --privileged --network=host --stop-timeout={grace}{options} \\
    {image} {command}
  code=$?
  echo "try $try ended with $code"
  case $code in 0 | {final}) exit "$code" ;; esac
  sleep $((try < 6 ? 1 << try : 60))
done
exit "$code"
STARTUP

gcloud compute tpus queued-resources create {name} \\
  {flags} \\
  --metadata-from-file=startup-script="$startup"
"""


def render(spec: Spec) -> str:
  """One script for each run: it asks for the machines, which then run it."""
  _check(spec)
  return "\n".join(_script(spec, name, command) for name, command in spec.jobs().items())


def submit(spec: Spec) -> int:
  """Asks for the machines of every run, and returns the first exit code that is not 0."""
  _check(spec)
  for name, command in spec.jobs().items():
    code = tools.script(_script(spec, name, command), needs="gcloud")
    if code:
      return code
  return 0


def _check(spec: Spec) -> None:
  topology = spec.topology
  if topology.machine.platform != "tpu":
    raise UserError(f"tpu_vm: {topology} are no TPUs; use jobset, slurm or skypilot for them.")
  spec.need("image", "the hosts run a container; build one with this folder in it")
  spec.need("zone", "TPUs are asked for in a zone, for example us-east5-a")
  if len(topology.sides) == 3 and topology.kind != "v4":
    sides = topology.sides[0] * topology.sides[1] * topology.sides[2]
    usual = usual_shape(topology.kind, sides)
    if usual != topology.sides:
      raise UserError(
        f"tpu_vm: gcloud has one shape for so many chips, "
        f"{topology.kind}:{'x'.join(map(str, usual))}; use jobset for {topology}."
      )
  _volume(spec)


def _volume(spec: Spec) -> tuple[str, str] | None:
  processes = spec.topology.hosts * spec.topology.slices
  return volumes.mounted(spec, "HOST:PATH", volumes.PATH, processes)


def _script(spec: Spec, name: str, command: tuple[str, ...]) -> str:
  options = [f"--env={shlex.quote(f'{key}={value}')}" for key, value in spec.environment.items()]
  if volume := _volume(spec):
    options.append(f"--volume={':'.join(volume)}")
  return TEMPLATE.format(
    about=f"{name} on {spec.topology}",
    tries=f"{{0..{spec.retries}}}",
    name=name,
    grace=spec.grace,
    # Where the disk does not come, a run would write beside it.
    setup=f"{{ {spec.setup}\n}} || exit\n" if spec.setup else "",
    options="".join(f" {option}" for option in options),
    image=shlex.quote(spec.image or ""),
    command=shlex.join(command),
    final=" | ".join(map(str, FINAL)),
    flags=" \\\n  ".join(_flags(spec, name)),
  )


def _flags(spec: Spec, name: str) -> list[str]:
  topology = spec.topology
  flags = [
    f"--zone={shlex.quote(spec.zone or '')}",
    f"--runtime-version={topology.machine.runtime}",
  ]
  if topology.kind == "v4":
    flags += ["--type=v4", f"--topology={topology.shape}"]
  else:
    flags += [f"--accelerator-type={topology.accelerator_type}"]
  if topology.slices == 1:
    flags += [f"--node-id={name}"]
  else:
    flags += [f"--node-count={topology.slices}", f"--node-prefix={name}"]
  return flags + ["--spot"] * spec.spot
