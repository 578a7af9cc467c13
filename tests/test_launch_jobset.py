"""Manifests for Kubernetes: sound by the schemas, and a planted mistake never is."""

import copy
import dataclasses
import math

import kubernetes_rules
import pytest
import yaml

from launch import jobset, machines
from launch.spec import Spec
from research import cluster
from research.errors import UserError

JOB = "spec/replicatedJobs/0/template/spec"
POD = f"{JOB}/template/spec"
RUN = f"{POD}/containers/0"


def spec(topology="2xv5p:4x4x8", **fields):
  return Spec(
    name="gpt",
    runs={"gpt": ("research", "run", "experiments/gpt2.py", "size=xl", "--workdir", "/disk/gpt")},
    topology=machines.parse(topology),
    image="registry.example/research:1",
    volume="runs:/disk",
    **fields,
  )


FULL = spec(
  "h100:8x8",
  environment={"NCCL_DEBUG": "WARN"},
  secret="tokens",  # noqa: S106 (a name)
  hours=24,
  queue="team",
  spot=True,
)
SHAPES = [
  "v4:2x2x1", "v4:4x4x4", "v5e:1x1", "v5e:2x2", "v5e:2x4", "v5e:16x16", "8xv5e:16x16", "v5p:2x2x1",
  "v5p:4x4x4", "2xv5p:8x8x8", "v5p:16x16x24", "v6e:1x1", "v6e:4x8", "4xv6e:16x16", "a100-40gb:1x1",
  "a100:4x8", "h100:1x8", "h100:16x8", "h100-mega:2x8", "h200:32x8", "cpu:1", "cpu:3x2",
]  # fmt: skip


@pytest.mark.parametrize("topology", SHAPES)
@pytest.mark.parametrize("fields", [{}, {"spot": True, "queue": "q", "hours": 1, "secret": "s"}])
def test_every_shape_is_sound(topology, fields):
  (manifest,) = jobset.manifests(spec(topology, **fields))
  assert kubernetes_rules.problems(manifest) == []


@pytest.mark.parametrize("topology", SHAPES)
def test_pods_have_all_chips_between_them(topology):
  described = spec(topology)
  ((job,), chips) = (
    jobset.manifests(described)[0]["spec"]["replicatedJobs"],
    described.topology.chips,
  )
  pods = job["replicas"] * job["template"]["spec"]["parallelism"]
  (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
  limits = container.get("resources", {}).get("limits", {"none": 1})
  assert pods * math.prod(limits.values()) == chips


def test_the_text_says_what_the_values_say():
  described = dataclasses.replace(
    FULL, environment={"YES": "no", "NUMBER": "1e3", "TIME": "12:30", "TEXT": "a: b\nc # d"}
  )
  assert list(yaml.safe_load_all(jobset.render(described))) == jobset.manifests(described)


def test_exit_codes_decide_who_is_started_again():
  (manifest,) = jobset.manifests(spec(retries=7))
  policy = manifest["spec"]["failurePolicy"]
  job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
  (rule,) = job["podFailurePolicy"]["rules"]
  assert rule["action"] == "FailJob"
  assert rule["onExitCodes"]["values"] == [2, 3, 4]  # neither 1, nor 42, nor 128 + a signal
  assert policy["rules"][0]["action"] == "FailJobSet"
  assert "PodFailurePolicy" in policy["rules"][0]["onJobFailureReasons"]
  assert policy["maxRestarts"] == 7


def test_a_sweep_is_a_job_set_for_each_run():
  runs = {f"gpt/width_{n}": ("research", "run", "f.py", "--workdir", f"/disk/{n}") for n in (1, 2)}
  names = [m["metadata"]["name"] for m in jobset.manifests(dataclasses.replace(spec(), runs=runs))]
  assert names == ["gpt-gpt-width-1", "gpt-gpt-width-2"]


@pytest.mark.parametrize("topology", ["h100:1x8", "cpu:1"])
def test_a_pod_by_itself_asks_nobody_for_others(topology):
  """JAX would ask Kubernetes, whose signs are there, and which does not answer every pod."""
  (manifest,) = jobset.manifests(spec(topology))
  job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
  (container,) = job["template"]["spec"]["containers"]
  told = {variable["name"]: variable["value"] for variable in container["env"]}
  signs = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}
  assert cluster.job(environment=signs) is not None
  assert cluster.job(environment={**told, **signs}) is None


def put(path, value):
  """A mistake: `value` at `path`."""

  def mistake(manifest):
    *folders, last = path.split("/")
    for name in folders:
      manifest = manifest[int(name) if name.isdigit() else name]
    manifest[int(last) if last.isdigit() else last] = value

  return pytest.param(mistake, id=f"{path.replace(POD, 'POD').replace(JOB, 'JOB')}={value}")


def drop(path):
  """A mistake: nothing at `path`."""

  def mistake(manifest):
    *folders, last = path.split("/")
    for name in folders:
      manifest = manifest[int(name) if name.isdigit() else name]
    del manifest[int(last) if last.isdigit() else last]

  return pytest.param(mistake, id=f"no {path.replace(POD, 'POD').replace(JOB, 'JOB')}")


MISTAKES = [
  put("apiVersion", "jobset.x-k8s.io/v1"),
  put("kind", "Jobset"),
  put("metadata/name", "GPT_2"),
  put("metadata/name", "gpt-" + "x" * 57),
  drop("metadata/name"),
  put("metadata/label", {}),
  put("metadata/labels", {"kueue.x-k8s.io/queue-name": None}),
  put("spec/failurePolicy/maxRestart", 3),
  put("spec/failurePolicy/maxRestarts", "3"),
  put("spec/failurePolicy/maxRestarts", -1),
  put("spec/failurePolicy/rules/0/action", "FailJob"),
  put("spec/failurePolicy/rules/0/name", "never-again"),
  drop("spec/failurePolicy/rules/0/name"),
  put("spec/failurePolicy/rules/0/onJobFailureReasons", ["PodFailurePolicies"]),
  put("spec/failurePolicy/rules/0/onJobFailureReasons", ["DeadlineExceeded"]),
  put("spec/network/enableDNSHostnames", "yes"),
  put("spec/network/enableDnsHostnames", True),
  put("spec/replicatedJobs", []),
  put("spec/replicatedJobs/0/replicas", 0),
  put("spec/replicatedJobs/0/replicas", "2"),
  put("spec/replicatedJobs/0/name", "Slice"),
  drop("spec/replicatedJobs/0/template/spec"),
  put(f"{JOB}/parallelism", 4),
  put(f"{JOB}/completions", "8"),
  drop(f"{JOB}/completionMode"),
  put(f"{JOB}/completionMode", "Index"),
  put(f"{JOB}/backoffLimit", 6),
  put(f"{JOB}/backOffLimit", 0),
  put(f"{JOB}/activeDeadlineSeconds", 0),
  put(f"{JOB}/podFailurePolicy/rules/0/action", "Fail"),
  put(f"{JOB}/podFailurePolicy/rules/0/onExitCodes/containerName", "main"),
  put(f"{JOB}/podFailurePolicy/rules/0/onExitCodes/operator", "in"),
  put(f"{JOB}/podFailurePolicy/rules/0/onExitCodes/values", [3, 2]),
  put(f"{JOB}/podFailurePolicy/rules/0/onExitCodes/values", [0, 2]),
  put(f"{JOB}/podFailurePolicy/rules/0/onExitCodes/values", [2, 256]),
  put(f"{JOB}/podFailurePolicy/rules/0/onExitCodes/values", ["2"]),
  put(f"{JOB}/podFailurePolicy/rules/0/onExitCode", {}),
  put(f"{POD}/restartPolicy", "OnFailure"),
  drop(f"{POD}/restartPolicy"),
  put(f"{POD}/terminationGracePeriod", 120),
  put(f"{POD}/terminationGracePeriodSeconds", "120s"),
  put(f"{POD}/terminationGracePeriodSeconds", 0),
  put(f"{POD}/nodeSelectors", {}),
  put(f"{POD}/nodeSelector", ["cloud.google.com/gke-spot"]),
  put(f"{POD}/tolerations/0/operator", "Exist"),
  put(f"{POD}/tolerations/0/value", "present"),
  put(f"{POD}/tolerations/0/effect", "NoScheduling"),
  put(f"{POD}/dnsPolicy", "ClusterFirst"),
  drop(f"{POD}/dnsPolicy"),
  put(f"{POD}/hostNetwork", "true"),
  drop(f"{POD}/volumes/0"),
  drop(f"{POD}/containers"),
  put(f"{RUN}/image", ""),
  put(f"{RUN}/image", "registry.example/research: 1"),
  put(f"{RUN}/command", "research run"),
  put(f"{RUN}/command", []),
  put(f"{RUN}/name", "Run"),
  put(f"{RUN}/env/0/value", 1),
  put(f"{RUN}/env/0/name", "NCCL DEBUG"),
  put(f"{RUN}/env/1/name", "NCCL_DEBUG"),
  put(f"{RUN}/env/3/value", "0"),
  put(f"{RUN}/env/3/valueFrom/fieldRef/fieldPath", "metadata.annotation['index']"),
  put(f"{RUN}/envFrom", {"secretRef": {"name": "tokens"}}),
  drop(f"{RUN}/resources/limits"),
  put(f"{RUN}/resources/limit", {}),
  put(f"{RUN}/volumeMounts/0/name", "shm"),
  put(f"{RUN}/volumeMounts/0/mountPath", "dev/shm"),
  put(f"{RUN}/volumeMounts/1/name", "disc"),
  put(f"{POD}/volumes/1/persistentVolumeClaim", {"claim": "runs"}),
]


def test_there_are_at_least_forty_mistakes():
  assert len(MISTAKES) >= 40


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(mistake):
  (manifest,) = jobset.manifests(FULL)
  assert kubernetes_rules.problems(manifest) == []
  broken = copy.deepcopy(manifest)
  mistake(broken)
  assert broken != manifest
  assert kubernetes_rules.problems(broken) != []


@pytest.mark.parametrize(
  ("fields", "complaint"),
  [
    ({"topology": machines.parse("p5:2x8")}, "p5:2x8 is no machine of GKE"),
    ({"image": None}, "--image is needed"),
  ],
)
def test_what_kubernetes_cannot_have_is_said(fields, complaint):
  with pytest.raises(UserError, match=complaint):
    jobset.render(dataclasses.replace(FULL, **fields))
