"""Kubernetes: writes the JobSet of a training, on GPU nodes or on one TPU slice. Needs JobSet 0.10.1 or newer."""

import dataclasses
import math
import posixpath
import re
from pathlib import Path
from typing import Any

import yaml

from experiments.launch.training import Training
from reenax.commands import EXIT_USER_ERROR
from reenax.core.errors import UserError
from reenax.train.processes import EXIT_PREEMPTED

MOUNT = "/mnt/reenax"  # where the claim is mounted; relative paths begin there
JOB = "train"  # of the one replicated job, and of its container
PORT = 8476  # of the coordinator, in the first pod
USER = 1000  # of the images
GRACE_SECONDS = 300  # to save in, once a pod is asked to end
POD_NAME_LIMIT = 63
LABEL = r"[a-z]([-a-z0-9]*[a-z0-9])?"  # RFC 1123, and no digit first: a service has this name too
SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
SELECTOR_KEY = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
SELECTOR_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
IMAGE = r"[A-Za-z0-9][A-Za-z0-9_.:/@-]*"


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """What a kind of accelerator is called in a cluster.

    Attributes:
        resource: what a container asks for.
        selector: labels of the nodes that have it, on Google's clusters.
        per_node: how many a node has, where nothing else is said.
        topologies: number of chips to the shape of a TPU slice; none for GPUs.
    """

    resource: str
    selector: tuple[tuple[str, str], ...]
    per_node: int
    topologies: tuple[tuple[int, str], ...] = ()


def _gpu(label: str) -> Accelerator:
    return Accelerator("nvidia.com/gpu", (("cloud.google.com/gke-accelerator", label),), 8)


def _tpu(label: str, *shapes: str) -> Accelerator:
    sizes = tuple((_chips(shape), shape) for shape in shapes)
    return Accelerator("google.com/tpu", (("cloud.google.com/gke-tpu-accelerator", label),), 4, sizes)


def _chips(shape: str) -> int:
    return math.prod(int(side) for side in shape.split("x"))


ACCELERATORS = {
    "h100": _gpu("nvidia-h100-80gb"),
    "h200": _gpu("nvidia-h200-141gb"),
    "v5e": _tpu("tpu-v5-lite-podslice", "1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "v5p": _tpu(
        "tpu-v5p-slice",
        *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16", "16x16x16"),
    ),
}


@dataclasses.dataclass(frozen=True)
class JobSet:
    """What a JobSet asks the cluster for.

    Attributes:
        name: of the JobSet, its pods and their service.
        image: built from Dockerfile.cuda or Dockerfile.tpu.
        accelerator: a key of `ACCELERATORS`.
        claim: PersistentVolumeClaim with the datasets and the runs, which all nodes can write to.
        nodes: how many; of a TPU slice, its hosts.
        devices_per_node: GPUs or TPU chips of each; None: 8 GPUs, 4 chips.
        topology: shape of the TPU slice; None: the usual one for so many chips.
        node_selector: labels of the nodes in place of those of Google's clusters, KEY=VALUE.
        restarts: how often everything is started again.
    """

    name: str
    image: str
    accelerator: str
    claim: str
    nodes: int = 1
    devices_per_node: int | None = None
    topology: str | None = None
    node_selector: tuple[str, ...] = ()
    restarts: int = 10


def document(training: Training, settings: JobSet) -> str:
    """The manifest as YAML, for ``kubectl apply -f FILE``.

    Raises:
        UserError: a value that the cluster would not take.
    """
    return yaml.safe_dump(manifest(training, settings), sort_keys=False, width=120)


def manifest(training: Training, settings: JobSet) -> dict[str, Any]:
    """The manifest.

    Raises:
        UserError: a value that the cluster would not take.
    """
    _check(settings)
    slice_of_tpus = bool(ACCELERATORS[settings.accelerator].topologies)
    # a slice is a node pool: without this, pods of two jobs could end up in one
    placing = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": settings.name} | ({"annotations": placing} if slice_of_tpus else {}),
        "spec": {
            "network": {"enableDNSHostnames": True, "subdomain": settings.name, "publishNotReadyAddresses": True},
            "failurePolicy": {
                "maxRestarts": settings.restarts,
                "restartStrategy": "BlockingRecreate",  # never two trainings in one run folder
                "rules": [_refused(), _stopped()],
            },
            "replicatedJobs": [{"name": JOB, "replicas": 1, "template": {"spec": _job(training, settings)}}],
        },
    }


def _refused() -> dict[str, Any]:
    """An error of the user's is not tried again."""
    pattern = f"exit code {EXIT_USER_ERROR} matching"  # of the message that the Job's controller writes
    rule = {"name": "refused", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    return rule | {"onJobFailureMessagePatterns": [pattern]}


def _stopped() -> dict[str, Any]:
    """What else the pods' rules name has saved, or its node was wanted: that is no failure to count."""
    action = "RestartJobSetAndIgnoreMaxRestarts"
    return {"name": "stopped", "action": action, "onJobFailureReasons": ["PodFailurePolicy"]}


def _job(training: Training, settings: JobSet) -> dict[str, Any]:
    """Any failed pod fails the job, and with it all are started again; the rules only tell the JobSet why."""
    rules = [_on_exit(code) for code in (EXIT_USER_ERROR, EXIT_PREEMPTED)]
    rules += [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    return {
        "completionMode": "Indexed",
        "completions": settings.nodes,
        "parallelism": settings.nodes,
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": rules},
        "template": {"spec": _pod(training, settings)},
    }


def _on_exit(code: int) -> dict[str, Any]:
    return {"action": "FailJob", "onExitCodes": {"containerName": JOB, "operator": "In", "values": [code]}}


def _pod(training: Training, settings: JobSet) -> dict[str, Any]:
    accelerator, count = ACCELERATORS[settings.accelerator], _devices_per_node(settings)
    words = ["reenax", *_inside(training).arguments()]
    environment = {
        "JAX_COORDINATOR_ADDRESS": f"{settings.name}-{JOB}-0-0.{settings.name}:{PORT}",
        "JAX_NUM_PROCESSES": str(settings.nodes),  # the cluster adds JOB_COMPLETION_INDEX
        "JAX_COMPILATION_CACHE_DIR": f"{MOUNT}/.programs",  # a restart compiles nothing
    }
    container = {
        "name": JOB,
        "image": settings.image,
        "command": [word.replace("$", "$$") for word in words],  # $(NAME) would be filled in
        "workingDir": MOUNT,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "ports": [{"name": "coordinator", "containerPort": PORT}],
        "resources": {"limits": {accelerator.resource: count}, "requests": {accelerator.resource: count}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "files", "mountPath": MOUNT}, {"name": "shm", "mountPath": "/dev/shm"}],
    }
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "nodeSelector": _selector(settings),
        "tolerations": [{"key": accelerator.resource, "operator": "Exists", "effect": "NoSchedule"}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
        "containers": [container],
        "volumes": [
            {"name": "files", "persistentVolumeClaim": {"claimName": settings.claim}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}},  # for the loader's workers
        ],
    }


def _inside(training: Training) -> Training:
    """The training with paths as the pods see them."""
    if Path(training.config).is_absolute():
        raise UserError(f"--config {training.config}: the pods have no such file; give the path within the repository")
    placed = {"data": training.data, "run": training.run}
    for flag, path in placed.items():
        found = posixpath.normpath(posixpath.join(MOUNT, path.as_posix()))
        if not found.startswith(f"{MOUNT}/"):
            raise UserError(f"--{flag} {path}: the pods see only {MOUNT}, where the claim is; give a path within it")
        placed[flag] = Path(found)
    return Training(training.config, placed["data"], placed["run"], training.overrides)


def _devices_per_node(settings: JobSet) -> int:
    return settings.devices_per_node or ACCELERATORS[settings.accelerator].per_node


def _selector(settings: JobSet) -> dict[str, str]:
    accelerator = ACCELERATORS[settings.accelerator]
    shape = {"cloud.google.com/gke-tpu-topology": _topology(settings)} if accelerator.topologies else {}
    if not settings.node_selector:
        return dict(accelerator.selector) | shape
    found: dict[str, str] = {}
    for label in settings.node_selector:
        key, equals, value = label.partition("=")
        if not equals or not re.fullmatch(SELECTOR_KEY, key) or not re.fullmatch(SELECTOR_VALUE, value):
            raise UserError(f"--node-selector {label!r} is no label; give KEY=VALUE as `kubectl get nodes` shows it")
        found[key] = value
    return found


def _topology(settings: JobSet) -> str:
    """The shape of the slice, which must have as many chips as its hosts together."""
    known = ACCELERATORS[settings.accelerator].topologies
    chips = settings.nodes * _devices_per_node(settings)
    counted = f"{settings.nodes} hosts x {_devices_per_node(settings)} chips = {chips}"
    sides = known[0][1].count("x") + 1
    if settings.topology is None:
        shape = dict(known).get(chips)
        if shape is None:
            sizes = ", ".join(str(size) for size, _ in known)
            raise UserError(f"--nodes {settings.nodes}: {counted}; slices of {settings.accelerator} have {sizes} chips")
        return shape
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", settings.topology) or settings.topology.count("x") + 1 != sides:
        raise UserError(
            f"--topology {settings.topology!r}: a slice of {settings.accelerator} has {sides} sides; give one like "
            f"{known[-1][1]}"
        )
    if _chips(settings.topology) != chips:
        raise UserError(
            f"--topology {settings.topology} has {_chips(settings.topology)} chips, but {counted}; change --nodes or "
            f"--devices-per-node"
        )
    return settings.topology


def _check(settings: JobSet) -> None:
    """Refuses what the cluster would refuse, or worse: accept and never start."""
    longest = POD_NAME_LIMIT - len(f"-{JOB}-0-{settings.nodes - 1}-xxxxx")
    if not re.fullmatch(LABEL, settings.name) or len(settings.name) > longest:
        raise UserError(
            f"--name {settings.name!r}: give at most {longest} small letters, digits and hyphens, with a letter first "
            f"and no hyphen last"
        )
    if not re.fullmatch(SUBDOMAIN, settings.claim) or len(settings.claim) > 253:
        raise UserError(f"--claim {settings.claim!r} is no name of a claim; `kubectl get pvc` lists them")
    if not re.fullmatch(IMAGE, settings.image):
        raise UserError(f"--image {settings.image!r} is no name of an image; give REGISTRY/NAME:TAG")
    if settings.topology is not None and not ACCELERATORS[settings.accelerator].topologies:
        raise UserError(f"--topology {settings.topology}: {settings.accelerator} is a GPU; leave it out")
