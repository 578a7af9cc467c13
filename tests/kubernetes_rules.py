"""What is wrong with a JobSet manifest: schemas, and the rules that an API server adds to them.

Kubernetes' own schemas come with the package `kubernetes-validate`. JobSet's is written here from
its API reference (v1alpha2), for the fields that we write, strictly: a name that is not known is a
mistake. The rules are those of Kubernetes' validation that no schema says.
"""

import re

import jsonschema
import kubernetes_validate

LABEL = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
VERSION = "1.33"


def _object(required=(), **properties):
  return {
    "type": "object",
    "properties": properties,
    "required": list(required),
    "additionalProperties": False,
  }


_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_NAMES = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_ACTIONS = [
  "FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts",
  "RestartJob", "RestartJobAndIgnoreMaxRestarts",
]  # fmt: skip
_RULE = _object(
  ("name", "action"),
  name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", "maxLength": 128},
  action={"enum": _ACTIONS},
  onJobFailureReasons={
    **_NAMES,
    "items": {
      "enum": [
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "FailedIndexes",
        "MaxFailedIndexesExceeded",
        "PodFailurePolicy",
      ]
    },
  },
  targetReplicatedJobs=_NAMES,
)
JOB_SET = _object(
  ("apiVersion", "kind", "metadata", "spec"),
  apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
  kind={"const": "JobSet"},
  metadata=_object(
    ("name",),
    name={"type": "string", "pattern": LABEL, "maxLength": 63},
    labels=_TEXTS,
    annotations=_TEXTS,
  ),
  spec=_object(
    ("replicatedJobs",),
    failurePolicy=_object(
      (), maxRestarts=_COUNT, rules={"type": "array", "items": _RULE, "maxItems": 20}
    ),
    network=_object(
      (),
      enableDNSHostnames={"type": "boolean"},
      publishNotReadyAddresses={"type": "boolean"},
      subdomain={"type": "string", "pattern": LABEL},
    ),
    replicatedJobs={
      "type": "array",
      "minItems": 1,
      "items": _object(
        ("name", "template"),
        name={"type": "string", "pattern": LABEL},
        replicas=_COUNT,
        template={"type": "object", "required": ["spec"]},
      ),
    },
  ),
)


def problems(manifest):
  """All that an API server would refuse or a controller would choke on, as text."""
  found = [
    f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
    for error in jsonschema.Draft202012Validator(JOB_SET).iter_errors(manifest)
  ]
  if found:
    return found
  for job in manifest["spec"]["replicatedJobs"]:
    template = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}}
    try:
      kubernetes_validate.validate({**template, **job["template"]}, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
      found.append(f"{'/'.join(map(str, error.path))}: {error.message}")
    else:
      found += _of_job(manifest, job)
  return found


def _of_job(manifest, replicated):
  """The rules for a Job as part of a JobSet."""
  job = replicated["template"]["spec"]
  pod = job["template"]["spec"]
  names = [container["name"] for container in pod["containers"]]
  index = f"{replicated.get('replicas', 1) - 1}-{job.get('parallelism', 1) - 1}"
  longest = f"{manifest['metadata']['name']}-{replicated['name']}-{index}"
  rules = {
    "a JobSet without replicas runs nothing": replicated.get("replicas", 1) >= 1,
    "the name of the last pod is longer than 63": len(longest) <= 63,
    "all pods run at once": job.get("completions") == job.get("parallelism")
    and job["parallelism"] > 0,
    "pods have an index": job.get("completionMode") == "Indexed",
    "a Job may not restart its pods by itself": job.get("backoffLimit") == 0,
    "a failure policy needs pods that never restart": pod.get("restartPolicy") == "Never",
    "time to end": pod.get("terminationGracePeriodSeconds", 30) >= 1,
    "container names differ": len(set(names)) == len(names),
    "host networking needs the cluster's names": not pod.get("hostNetwork")
    or pod.get("dnsPolicy") == "ClusterFirstWithHostNet",
    "a deadline is ahead": job.get("activeDeadlineSeconds", 1) >= 1,
  }
  found = [rule for rule, holds in rules.items() if not holds]
  for rule in job.get("podFailurePolicy", {}).get("rules", []):
    codes = rule.get("onExitCodes")
    if rule["action"] not in ("FailJob", "FailIndex", "Ignore", "Count"):
      found.append(f"no such action: {rule['action']}")
    if codes:
      values = codes["values"]
      if codes.get("containerName") not in (None, *names):
        found.append(f"no such container: {codes['containerName']}")
      if codes["operator"] not in ("In", "NotIn"):
        found.append(f"no such operator: {codes['operator']}")
      if values != sorted(set(values)) or not values or (codes["operator"] == "In" and 0 in values):
        found.append("exit codes ascend, differ, and are not 0")
      if not all(0 <= value <= 255 for value in values):
        found.append("exit codes lie within 0 to 255")
  if (policy := manifest["spec"].get("failurePolicy")) and job.get("podFailurePolicy"):
    never = [r for r in policy.get("rules", []) if r["action"] == "FailJobSet"]
    if not any("PodFailurePolicy" in r.get("onJobFailureReasons", []) for r in never):
      found.append("a Job that its failure policy ended would be started again")
  return found + [text for c in pod["containers"] for text in _of_container(pod, c)] + _of_pod(pod)


def _of_pod(pod):
  found = []
  for toleration in pod.get("tolerations", []):
    operator = toleration.get("operator", "Equal")
    if operator not in ("Exists", "Equal"):
      found.append(f"no such operator: {operator}")
    if operator == "Exists" and toleration.get("value"):
      found.append("a toleration of whatever value names none")
    if toleration.get("effect") not in (None, "NoSchedule", "PreferNoSchedule", "NoExecute"):
      found.append(f"no such effect: {toleration['effect']}")
  selector = pod.get("nodeSelector", {})
  if ("cloud.google.com/gke-tpu-accelerator" in selector) != (
    "cloud.google.com/gke-tpu-topology" in selector
  ):
    found.append("GKE wants a TPU's accelerator and topology together")
  if pod.get("dnsPolicy", "Default") not in (
    "Default", "ClusterFirst", "ClusterFirstWithHostNet", "None",
  ):  # fmt: skip
    found.append(f"no such policy: {pod['dnsPolicy']}")
  return found


def _of_container(pod, container):
  found = []
  volumes = {volume["name"] for volume in pod.get("volumes", [])}
  limits = container.get("resources", {}).get("limits", {})
  selector = pod.get("nodeSelector", {})
  if not re.match(LABEL, container["name"]):
    found.append(f"container name: {container['name']}")
  if not re.fullmatch(r"[\w.\-/:@]+", container.get("image", "")):
    found.append(f"image: {container.get('image')!r}")
  if not container.get("command"):
    found.append("the container runs nothing of ours")
  for mount in container.get("volumeMounts", []):
    if mount["name"] not in volumes:
      found.append(f"no such volume: {mount['name']}")
    if ":" in mount["mountPath"] or not mount["mountPath"].startswith("/"):
      found.append(f"mount path: {mount['mountPath']}")
  names = [variable["name"] for variable in container.get("env", [])]
  if len(set(names)) < len(names):
    found.append("a variable is given twice")
  for variable in container.get("env", []):
    if not re.fullmatch(r"[A-Za-z_][\w.\-]*", variable["name"]):
      found.append(f"variable name: {variable['name']}")
    if "value" in variable and "valueFrom" in variable:
      found.append(f"{variable['name']} has two values")
    field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
    if field and not re.fullmatch(
      r"metadata\.(name|namespace|uid|(labels|annotations)\['[\w./\-]+'\])|(spec|status)\.\w+",
      field,
    ):
      found.append(f"no such field: {field}")
  for resource in ("google.com/tpu", "nvidia.com/gpu"):
    if resource in limits and not re.fullmatch(r"[1-9]\d*", str(limits[resource])):
      found.append(f"{resource}: {limits[resource]} is no whole number of devices")
  if "cloud.google.com/gke-tpu-topology" in selector and "google.com/tpu" not in limits:
    found.append("a pod on a TPU machine asks for no TPU")
  if "cloud.google.com/gke-accelerator" in selector and "nvidia.com/gpu" not in limits:
    found.append("a pod on a GPU machine asks for no GPU")
  return found
