"""JobSet manifests hold what the API has, and put every pod in its place."""

import copy
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from experiments.launch import jobset
from experiments.launch.command import main
from experiments.launch.training import Training
from reenax import cli
from reenax.core.errors import UserError
from reenax.train.processes import find_place
from tests.experiments.jobset_schema import JOBSET

HOSTILE = "--config.wandb.project=a 'b' \"c\" $(JAX_NUM_PROCESSES) $HOME $$(x) `id` \\ #: {y}\nz"
TRAINING = Training("configs/fomm.py:smoke", Path("data/heads"), Path("runs/fomm"), ("--config.lr=1e-4", HOSTILE))
CHECK = jsonschema.Draft202012Validator(JOBSET)


def settings(**changes: Any) -> jobset.JobSet:
    given: dict[str, Any] = {"name": "fomm", "image": "registry.example.com/reenax:cuda", "claim": "training"}
    return jobset.JobSet(**{**given, "accelerator": "h100", "nodes": 2, **changes})


def made(**changes: Any) -> dict[str, Any]:
    """The manifest, as a cluster reads it."""
    return yaml.safe_load(jobset.document(TRAINING, settings(**changes)))


def job_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]["replicatedJobs"][0]["template"]["spec"]


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return job_of(manifest)["template"]["spec"]


def expanded(text: str, environ: dict[str, str]) -> str:
    """What the kubelet makes of a word: $(NAME) is filled in where NAME is known, $$ is a $."""

    def fill(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else environ.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([A-Za-z_]\w*)\)", fill, text)


def started(manifest: dict[str, Any], index: int) -> tuple[list[str], dict[str, str]]:
    """The words and the environment of the pod of a completion index."""
    (container,) = pod_of(manifest)["containers"]
    environ = {"JOB_COMPLETION_INDEX": str(index)}  # from the Job's controller
    for entry in container["env"]:
        environ[entry["name"]] = expanded(entry["value"], environ)
    return [expanded(word, environ) for word in container["command"]], environ


def hostname(manifest: dict[str, Any], index: int) -> str:
    """Where the pod of a completion index is found, by the rule of the JobSet reference."""
    name, network = manifest["metadata"]["name"], manifest["spec"]["network"]
    assert network["enableDNSHostnames"]
    return f"{name}-{manifest['spec']['replicatedJobs'][0]['name']}-0-{index}.{network['subdomain']}"


@pytest.mark.parametrize(
    ("changes", "chips", "shape"),
    [
        ({"accelerator": "h100"}, {"nvidia.com/gpu": 8}, None),
        ({"accelerator": "h200", "nodes": 1, "devices_per_node": 2}, {"nvidia.com/gpu": 2}, None),
        ({"accelerator": "v5e", "nodes": 4}, {"google.com/tpu": 4}, "4x4"),
        ({"accelerator": "v5e", "nodes": 1, "devices_per_node": 8}, {"google.com/tpu": 8}, "2x4"),
        ({"accelerator": "v5p", "nodes": 16}, {"google.com/tpu": 4}, "4x4x4"),
        ({"accelerator": "v5p", "nodes": 6, "topology": "2x2x6"}, {"google.com/tpu": 4}, "2x2x6"),
    ],
)
def test_a_manifest_fits_the_schema_and_every_pod_finds_its_place(changes, chips, shape):
    manifest = made(**changes)
    CHECK.validate(manifest)
    job, pod = job_of(manifest), pod_of(manifest)
    nodes = changes.get("nodes", 2)
    assert job["completionMode"] == "Indexed"
    assert job["completions"] == job["parallelism"] == nodes
    assert pod["containers"][0]["resources"] == {"limits": chips, "requests": chips}
    assert pod["nodeSelector"].get("cloud.google.com/gke-tpu-topology") == shape
    assert ("annotations" in manifest["metadata"]) == (shape is not None)
    for k in range(nodes):
        words, environ = started(manifest, k)
        place = find_place(environ)
        assert (place.processes, place.index, place.source) == (nodes, k, "jax")
        assert nodes == 1 or place.coordinator == f"{hostname(manifest, 0)}:8476"
        options, rest = cli.build_parser().parse_known_args(words[1:])
        assert words[0] == "reenax"
        assert options.or_resume
        assert (options.config, options.data, options.folder) == (
            "configs/fomm.py:smoke",
            Path("/mnt/reenax/data/heads"),
            Path("/mnt/reenax/runs/fomm"),
        )
        assert rest == ["--config.lr=1e-4", HOSTILE]


def test_on_a_tpu_slice_the_cluster_and_the_manifest_agree():
    """GKE tells a slice's pods about each other too; it numbers them by the completion index."""
    manifest = made(accelerator="v5e", nodes=4)
    hosts = [hostname(manifest, k) for k in range(4)]
    for k in range(4):
        ours = started(manifest, k)[1]
        theirs = {"TPU_WORKER_ID": str(k), "TPU_WORKER_HOSTNAMES": ",".join(hosts)}
        place, own = find_place({**ours, **theirs}), find_place(theirs)
        assert (place.index, place.processes) == (own.index, own.processes) == (k, 4)
        assert str(place.coordinator).split(":")[0] == str(own.coordinator).split(":")[0] == hosts[0]


def test_pods_are_started_again_but_never_after_an_error_of_the_users():
    manifest = made(restarts=3)
    policy, job = manifest["spec"]["failurePolicy"], job_of(manifest)
    assert (policy["maxRestarts"], policy["restartStrategy"]) == (3, "BlockingRecreate")

    def outcome(code: int) -> str:
        """What the controllers do when a pod ends so; the message is the Job controller's."""
        for index, rule in enumerate(job["podFailurePolicy"]["rules"]):
            if code in rule.get("onExitCodes", {}).get("values", []):
                failed = f"Container train for pod default/x failed with exit code {code}"
                reason, message = "PodFailurePolicy", f"{failed} matching FailJob rule at index {index}"
                break
        else:
            assert job["backoffLimit"] == 0
            reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        for rule in policy["rules"]:
            patterns = rule.get("onJobFailureMessagePatterns", [""])
            if reason in rule["onJobFailureReasons"] and any(re.search(p, message) for p in patterns):
                return rule["action"]
        return "RestartJobSet"

    assert outcome(2) == "FailJobSet"
    assert outcome(75) == "RestartJobSetAndIgnoreMaxRestarts"
    assert outcome(76) == outcome(137) == outcome(1) == "RestartJobSet"
    assert pod_of(manifest)["restartPolicy"] == "Never"
    assert pod_of(manifest)["terminationGracePeriodSeconds"] >= 120


def test_a_pod_has_its_files_and_no_rights_that_it_does_not_need():
    pod = pod_of(made())
    (container,) = pod["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounts.values()) == set(volumes)
    assert volumes[mounts[container["workingDir"]]]["persistentVolumeClaim"] == {"claimName": "training"}
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    assert pod["securityContext"]["runAsNonRoot"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    other = pod_of(made(node_selector=("nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3", "pool=a")))
    assert other["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "pool": "a"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((), {"extra": 1}),
        (("kind",), "Job"),
        (("metadata", "name"), "Upper_Case"),
        (("spec", "replicas"), 2),
        (("spec", "network", "subdomain"), 3),
        (("spec", "failurePolicy", "maxRestarts"), "3"),
        (("spec", "failurePolicy", "rules", 0, "action"), "FailJob"),
        (("spec", "failurePolicy", "rules", 0, "onJobFailureReasons"), "PodFailurePolicy"),
        (("spec", "replicatedJobs", 0, "template", "spec", "completions"), "2"),
        (("spec", "replicatedJobs", 0, "template", "spec", "backofLimit"), 0),
        (
            ("spec", "replicatedJobs", 0, "template", "spec", "podFailurePolicy", "rules", 0, "onExitCodes", "values"),
            [0],
        ),
        (("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "restartPolicy"), "OnFailure"),
        (("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "containers"), []),
        (("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "gpus"), 8),
        (("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "containers", 0, "command"), "reenax"),
        (
            ("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "containers", 0, "env", 1, "value"),
            2,
        ),
        (
            (
                "spec",
                "replicatedJobs",
                0,
                "template",
                "spec",
                "template",
                "spec",
                "containers",
                0,
                "resources",
                "limit",
            ),
            {},
        ),
        (("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "volumes", 0, "emptyDir"), {}),
    ],
)
def test_the_schema_refuses_wrong_manifests(path, value):
    manifest = copy.deepcopy(made())
    CHECK.validate(manifest)
    place: Any = manifest
    for step in path[:-1]:
        place = place[step]
    if path:
        place[path[-1]] = value
    else:
        place.update(value)
    assert not CHECK.is_valid(manifest)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Fomm"}, "--name 'Fomm': give at most"),
        ({"name": "1st"}, "with a letter first"),
        ({"name": "a" * 60}, "give at most 47 small letters"),
        ({"claim": "my_claim"}, "--claim 'my_claim' is no name of a claim"),
        ({"image": "reenax; rm"}, "--image 'reenax; rm' is no name of an image"),
        ({"accelerator": "v5e", "nodes": 3}, "3 hosts x 4 chips = 12; slices of v5e have 1, 4, 8, 16"),
        (
            {"accelerator": "v5e", "nodes": 4, "topology": "2x4"},
            "--topology 2x4 has 8 chips, but 4 hosts x 4 chips = 16",
        ),
        ({"accelerator": "v5p", "nodes": 4, "topology": "4x4"}, "a slice of v5p has 3 sides"),
        ({"topology": "4x4"}, "--topology 4x4: h100 is a GPU"),
        ({"node_selector": ("gpu",)}, "--node-selector 'gpu' is no label; give KEY=VALUE"),
    ],
)
def test_what_a_cluster_would_not_take_is_refused(changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        jobset.manifest(TRAINING, settings(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": Path("/data/heads")}, "--data /data/heads: the pods see only /mnt/reenax"),
        ({"run": Path("../fomm")}, "--run ../fomm: the pods see only /mnt/reenax"),
        ({"config": "/home/me/fomm.py:smoke"}, "--config /home/me/fomm.py:smoke: the pods have no such file"),
    ],
)
def test_paths_must_be_those_of_the_pods(changes, message):
    training = Training(**{"config": TRAINING.config, "data": TRAINING.data, "run": TRAINING.run, **changes})
    with pytest.raises(UserError, match=re.escape(message)):
        jobset.manifest(training, settings())


def test_the_command_line_writes_the_manifest(tmp_path):
    words = "--target jobset --config configs/fomm.py:smoke --data data/x --run runs/My_Run --nodes 2"
    words += f" --accelerator v5e --image a/b:c --claim pvc --config.lr=1e-3 --out {tmp_path / 'job.yaml'}"
    assert main(words.split()) == 0
    manifest = yaml.safe_load((tmp_path / "job.yaml").read_text())
    CHECK.validate(manifest)
    assert manifest["metadata"]["name"] == "my-run"
    assert started(manifest, 1)[0][-1] == "--config.lr=1e-3"
