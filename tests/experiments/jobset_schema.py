"""What a JobSet manifest may hold: JSON schema of jobset.x-k8s.io/v1alpha2, batch/v1 Job and core/v1 Pod.

Written from their public references; no field is left out of the parts that a training uses, and none is let through
that the references do not have.
"""

from typing import Any

Schema = dict[str, Any]

LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?([KMGTPE]i?|m|k)?$"


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _list(of: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": of, **more}


def _map(of: Schema) -> Schema:
    return {"type": "object", "additionalProperties": of}


def _one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
DNS_LABEL: Schema = {"type": "string", "pattern": LABEL, "maxLength": 63}
DNS_NAME: Schema = {"type": "string", "pattern": NAME, "maxLength": 253}
PATH: Schema = {"type": "string", "pattern": "^/"}
AMOUNT: Schema = {"anyOf": [COUNT, {"type": "string", "pattern": QUANTITY}]}
METADATA = _object(name=DNS_NAME, namespace=DNS_LABEL, labels=_map(TEXT), annotations=_map(TEXT))

ENVIRONMENT = {
    **_object(("name",), name={"type": "string", "minLength": 1}, value=TEXT, valueFrom={"type": "object"}),
    "not": {"required": ["value", "valueFrom"]},
}
PORT = _object(
    ("containerPort",),
    name={"type": "string", "pattern": LABEL, "maxLength": 15},
    containerPort={"type": "integer", "minimum": 1, "maximum": 65535},
    protocol=_one_of("TCP", "UDP", "SCTP"),
)
CONTAINER_SECURITY = _object(
    allowPrivilegeEscalation=FLAG,
    privileged=FLAG,
    readOnlyRootFilesystem=FLAG,
    runAsNonRoot=FLAG,
    runAsUser=COUNT,
    runAsGroup=COUNT,
    capabilities=_object(add=_list(TEXT), drop=_list(TEXT)),
)
CONTAINER = _object(
    ("name", "image"),
    name=DNS_LABEL,
    image={"type": "string", "minLength": 1},
    imagePullPolicy=_one_of("Always", "IfNotPresent", "Never"),
    command=_list(TEXT),
    args=_list(TEXT),
    workingDir=PATH,
    env=_list(ENVIRONMENT),
    ports=_list(PORT),
    resources=_object(limits=_map(AMOUNT), requests=_map(AMOUNT)),
    securityContext=CONTAINER_SECURITY,
    volumeMounts=_list(_object(("name", "mountPath"), name=DNS_LABEL, mountPath=PATH, subPath=TEXT, readOnly=FLAG)),
)
VOLUME = {
    **_object(
        ("name",),
        name=DNS_LABEL,
        emptyDir=_object(medium=_one_of("", "Memory"), sizeLimit=AMOUNT),
        persistentVolumeClaim=_object(("claimName",), claimName=DNS_NAME, readOnly=FLAG),
        hostPath=_object(("path",), path=PATH, type=TEXT),
    ),
    "minProperties": 2,
    "maxProperties": 2,
}
TOLERATION = _object(
    key=TEXT,
    operator=_one_of("Exists", "Equal"),
    value=TEXT,
    effect=_one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
    tolerationSeconds=COUNT,
)
POD = _object(
    ("containers",),
    restartPolicy=_one_of("Never", "OnFailure"),  # of a Job
    terminationGracePeriodSeconds=COUNT,
    activeDeadlineSeconds=COUNT,
    nodeSelector=_map(TEXT),
    tolerations=_list(TOLERATION),
    serviceAccountName=DNS_NAME,
    priorityClassName=DNS_NAME,
    schedulerName=TEXT,
    hostNetwork=FLAG,
    dnsPolicy=_one_of("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    subdomain=DNS_LABEL,
    securityContext=_object(runAsNonRoot=FLAG, runAsUser=COUNT, runAsGroup=COUNT, fsGroup=COUNT),
    initContainers=_list(CONTAINER),
    containers=_list(CONTAINER, minItems=1),
    volumes=_list(VOLUME),
)

ON_EXIT = _object(
    ("operator", "values"),
    containerName=DNS_LABEL,
    operator=_one_of("In", "NotIn"),
    values=_list({"type": "integer", "not": {"const": 0}}, minItems=1, maxItems=255, uniqueItems=True),
)
ON_CONDITION = _object(("type", "status"), type=TEXT, status=_one_of("True", "False", "Unknown"))
POD_RULE = {
    **_object(
        ("action",),
        action=_one_of("FailJob", "Ignore", "Count", "FailIndex"),
        onExitCodes=ON_EXIT,
        onPodConditions=_list(ON_CONDITION, maxItems=20),
    ),
    "oneOf": [{"required": ["onExitCodes"]}, {"required": ["onPodConditions"]}],
}
JOB = {
    **_object(
        ("template",),
        completionMode=_one_of("Indexed", "NonIndexed"),
        completions=COUNT,
        parallelism=COUNT,
        backoffLimit=COUNT,
        backoffLimitPerIndex=COUNT,
        activeDeadlineSeconds=COUNT,
        ttlSecondsAfterFinished=COUNT,
        suspend=FLAG,
        podReplacementPolicy=_one_of("TerminatingOrFailed", "Failed"),
        podFailurePolicy=_object(("rules",), rules=_list(POD_RULE, maxItems=20)),
        template=_object(("spec",), metadata=METADATA, spec=POD),
    ),
    # the references say so in words: such a policy needs pods that are not restarted in place
    "if": {"required": ["podFailurePolicy"]},
    "then": {
        "properties": {
            "template": {
                "properties": {
                    "spec": {"properties": {"restartPolicy": {"const": "Never"}}, "required": ["restartPolicy"]}
                }
            }
        }
    },
}

JOBSET_RULE = _object(
    ("name", "action"),
    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", "maxLength": 128},
    action=_one_of(
        "FailJobSet",
        "RestartJobSet",
        "RestartJobSetAndIgnoreMaxRestarts",
        "RestartJob",
        "RestartJobAndIgnoreMaxRestarts",
    ),
    onJobFailureReasons=_list(
        _one_of(
            "BackoffLimitExceeded",
            "DeadlineExceeded",
            "FailedIndexes",
            "MaxFailedIndexesExceeded",
            "PodFailurePolicy",
        ),
        uniqueItems=True,
    ),
    onJobFailureMessagePatterns=_list(TEXT, uniqueItems=True),
    targetReplicatedJobs=_list(DNS_LABEL),
)
REPLICATED_JOB = _object(
    ("name", "template"),
    name=DNS_LABEL,
    groupName=TEXT,
    replicas=COUNT,
    template=_object(("spec",), metadata=METADATA, spec=JOB),
    dependsOn=_list(_object(("name", "status"), name=DNS_LABEL, status=_one_of("Ready", "Complete")), maxItems=5),
)
JOBSET: Schema = _object(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata={**METADATA, "required": ["name"]},
    spec=_object(
        replicatedJobs=_list(REPLICATED_JOB, minItems=1),
        network=_object(enableDNSHostnames=FLAG, subdomain=DNS_LABEL, publishNotReadyAddresses=FLAG),
        successPolicy=_object(("operator",), operator=_one_of("All", "Any"), targetReplicatedJobs=_list(DNS_LABEL)),
        failurePolicy=_object(
            maxRestarts=COUNT,
            restartStrategy=_one_of("Recreate", "BlockingRecreate", "InPlaceRestart"),
            rules=_list(JOBSET_RULE, maxItems=20),
        ),
        startupPolicy=_object(("startupPolicyOrder",), startupPolicyOrder=_one_of("AnyOrder", "InOrder")),
        coordinator=_object(("replicatedJob",), replicatedJob=DNS_LABEL, jobIndex=COUNT, podIndex=COUNT),
        suspend=FLAG,
        managedBy=TEXT,
        ttlSecondsAfterFinished=COUNT,
    ),
)
