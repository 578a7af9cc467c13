"""A JobSet for Kubernetes: on GKE, under Kueue, or in a cluster that XPK set up.

A slice of TPUs is one Job with a pod for each host; GPUs and CPUs are one Job with a pod for each
machine. Nothing restarts inside a Job: a pod that fails fails its Job, and the JobSet starts all
Jobs again, unless the exit code said that another try would end the same way.

Source: the API references of JobSet (v1alpha2) and of Kubernetes' Jobs (batch/v1).
"""

from __future__ import annotations

from typing import Any

from launch import documents, tools, volumes
from launch.spec import FINAL, PORT, Spec
from research.errors import UserError

TAKES = (
  "topology",
  "slices",
  "image",
  "volume",
  "env",
  "secret",
  "grace",
  "retries",
  "hours",
  "queue",
  "spot",
)
CLAIM = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"  # a name as Kubernetes takes it
INDEX = "batch.kubernetes.io/job-completion-index"


def render(spec: Spec) -> str:
  """A JobSet for each run, as documents of one YAML text."""
  return documents.dump(manifests(spec))


def manifests(spec: Spec) -> list[dict[str, Any]]:
  """The JobSets as plain values."""
  image = spec.need("image", "Kubernetes runs containers; build one with this folder in it")
  if spec.topology.machine.platform == "gpu" and not spec.topology.machine.label:
    raise UserError(f"{spec.topology} is no machine of GKE; use slurm or skypilot for it.")
  _volume(spec)
  return [_job_set(spec, name, command, image) for name, command in spec.jobs().items()]


def submit(spec: Spec) -> int:
  """Creates the JobSets through kubectl."""
  return tools.call("kubectl", "create", "--filename=-", text=render(spec))


def _job_set(spec: Spec, name: str, command: tuple[str, ...], image: str) -> dict[str, Any]:
  tpu = spec.topology.machine.platform == "tpu"
  metadata: dict[str, Any] = {"name": name}
  if spec.queue:
    metadata["labels"] = {"kueue.x-k8s.io/queue-name": spec.queue}
  if tpu:  # a slice is a node pool of its own
    metadata["annotations"] = {
      "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
    }
  return {
    "apiVersion": "jobset.x-k8s.io/v1alpha2",
    "kind": "JobSet",
    "metadata": metadata,
    "spec": {
      "failurePolicy": {
        "maxRestarts": spec.retries,
        "rules": [
          {
            "name": "never_again",
            "action": "FailJobSet",
            "onJobFailureReasons": ["PodFailurePolicy", "DeadlineExceeded"],
          }
        ],
      },
      "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
      "replicatedJobs": [
        {
          "name": "slice",
          "replicas": spec.topology.slices,
          "template": {"spec": _job(spec, name, command, image)},
        }
      ],
    },
  }


def _job(spec: Spec, name: str, command: tuple[str, ...], image: str) -> dict[str, Any]:
  pods = _pods(spec)
  job: dict[str, Any] = {
    "parallelism": pods,
    "completions": pods,
    "completionMode": "Indexed",
    "backoffLimit": 0,
    "podFailurePolicy": {
      "rules": [
        {
          "action": "FailJob",
          "onExitCodes": {"containerName": "run", "operator": "In", "values": list(FINAL)},
        }
      ]
    },
    "template": {"spec": _pod(spec, name, command, image)},
  }
  if spec.hours:
    job["activeDeadlineSeconds"] = int(spec.hours * 3600)
  return job


def _pod(spec: Spec, name: str, command: tuple[str, ...], image: str) -> dict[str, Any]:
  pod: dict[str, Any] = {
    "restartPolicy": "Never",
    "terminationGracePeriodSeconds": spec.grace,
  }
  selector, tolerations = _placement(spec)
  if selector:
    pod["nodeSelector"] = selector
  if tolerations:
    pod["tolerations"] = tolerations
  if spec.topology.machine.platform != "cpu":  # their network without a layer in between
    pod["hostNetwork"] = True
    pod["dnsPolicy"] = "ClusterFirstWithHostNet"
  pod["containers"] = [_container(spec, name, command, image)]
  pod["volumes"] = [{"name": "memory", "emptyDir": {"medium": "Memory"}}]
  if volume := _volume(spec):
    pod["volumes"].append({"name": "disk", "persistentVolumeClaim": {"claimName": volume[0]}})
  return pod


def _container(spec: Spec, name: str, command: tuple[str, ...], image: str) -> dict[str, Any]:
  container: dict[str, Any] = {"name": "run", "image": image, "command": list(command)}
  variables = [{"name": key, "value": value} for key, value in spec.environment.items()]
  variables += _membership(spec, name)
  if variables:
    container["env"] = variables
  if spec.secret:
    container["envFrom"] = [{"secretRef": {"name": spec.secret}}]
  platform, chips = spec.topology.machine.platform, spec.topology.chips_per_host
  if platform == "tpu":
    container["resources"] = {"limits": {"google.com/tpu": chips}}
    container["securityContext"] = {"privileged": True}
  if platform == "gpu":
    container["resources"] = {"limits": {"nvidia.com/gpu": chips}}
  container["volumeMounts"] = [{"name": "memory", "mountPath": "/dev/shm"}]  # noqa: S108 (in the pod)
  if volume := _volume(spec):
    container["volumeMounts"].append({"name": "disk", "mountPath": volume[1]})
  return container


def _membership(spec: Spec, name: str) -> list[dict[str, Any]]:
  """Which of how many a pod is. GKE tells this to TPU pods itself, and JAX finds it there."""
  if spec.topology.machine.platform == "tpu":
    return []
  if _pods(spec) == 1:  # or JAX would ask Kubernetes for the others, which it may not
    return [{"name": "RESEARCH_PROCESSES", "value": "1"}]
  index = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
  return [
    {"name": "RESEARCH_COORDINATOR", "value": f"{name}-slice-0-0.{name}:{PORT}"},
    {"name": "RESEARCH_PROCESSES", "value": str(_pods(spec))},
    {"name": "RESEARCH_PROCESS", "valueFrom": index},
  ]


def _placement(spec: Spec) -> tuple[dict[str, str], list[dict[str, str]]]:
  """Node labels to ask for, and taints to put up with."""
  topology, machine = spec.topology, spec.topology.machine
  selector: dict[str, str] = {}
  tolerations: list[dict[str, str]] = []
  if machine.platform == "tpu":
    selector["cloud.google.com/gke-tpu-accelerator"] = machine.label
    selector["cloud.google.com/gke-tpu-topology"] = topology.shape
    tolerations.append({"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"})
  if machine.platform == "gpu":
    selector["cloud.google.com/gke-accelerator"] = machine.label
    selector["node.kubernetes.io/instance-type"] = topology.type
    tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
  if spec.spot:
    selector["cloud.google.com/gke-spot"] = "true"
    tolerations.append(
      {
        "key": "cloud.google.com/gke-spot",
        "operator": "Equal",
        "value": "true",
        "effect": "NoSchedule",
      }
    )
  return selector, tolerations


def _volume(spec: Spec) -> tuple[str, str] | None:
  return volumes.mounted(spec, "CLAIM:PATH", CLAIM, _pods(spec) * spec.topology.slices)


def _pods(spec: Spec) -> int:
  """In one Job: one for each host, and of hosts without accelerators one for each process."""
  if spec.topology.machine.platform == "cpu":
    return spec.topology.chips
  return spec.topology.hosts
