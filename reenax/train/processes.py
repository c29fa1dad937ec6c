"""Several processes that train together: who they are, how they find each other, what they agree on, how they part.

Who they are is read from flags or from the environment that a launcher leaves; nothing here but `join` and what follows
it imports jax. jax finds SLURM and Open MPI by itself, but gives every SLURM task one GPU of its node even where the
task is alone there, knows nothing of ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``, and asks the Kubernetes API for what
the pod's environment says already: that is why the environment is read here.
"""

import dataclasses
import logging
import os
import re
import sys
from collections.abc import Mapping

from reenax.core.errors import UserError

EXIT_PREEMPTED = 75  # EX_TEMPFAIL: the state is saved, run the same command again with --resume
EXIT_LOST = 76  # another process has gone: go on from the last checkpoint

log = logging.getLogger("reenax")

HEARTBEAT_SECONDS = 10
"""A process that was silent for so long is taken for lost. jax's own 100 s would keep a cluster waiting."""

JAX_PORT = 55527  # what jax takes on Kubernetes
TPU_PORT = 8482  # what jax takes on TPUs

LOST = re.compile(
    r"gloo|nccl|coordination service|stopped sending heartbeats|tasks are unhealthy|Connection (reset|closed|refused)"
    r"|Socket closed|UNAVAILABLE|Barrier timed out|DEADLINE_EXCEEDED|Timed out while waiting for \w+ barrier",
    re.IGNORECASE,
)
"""What jax and orbax say where the network fails that the processes talk over."""


class LostProcessError(Exception):
    """Another process of the training has gone, or never came."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A process among those of a training.

    Attributes:
        coordinator: HOST:PORT where process 0 is found; None for a process that is alone. (One process that has a
            coordinator adds up gradients in the order in which several do.)
        processes: how many there are.
        index: which one this is, from 0.
        source: who says so: "flags", "jax", "slurm", "openmpi", "tpu" or "alone".
        device: the one GPU of the machine that is this process's own, when several processes share them.
    """

    coordinator: str | None = None
    processes: int = 1
    index: int = 0
    source: str = "alone"
    device: int | None = None


def find_place(
    environ: Mapping[str, str],
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
) -> Place:
    """Where this process stands, from flags (all three or none), else from the environment.

    Asked in this order: ``JAX_COORDINATOR_ADDRESS`` with ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID`` (or the
    completion index of an indexed Kubernetes job, as JobSet makes them), SLURM, Open MPI, the hosts of a TPU slice.

    Raises:
        UserError: something is missing or makes no sense.
    """
    given = {"--coordinator": coordinator, "--processes": processes, "--process-id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 3:
        return _from_environment(environ)
    if missing:
        raise UserError(f"{' and '.join(missing)} missing: several processes need {', '.join(given)}")
    assert coordinator is not None
    assert processes is not None
    assert process_id is not None
    return _place(coordinator, processes, process_id, "flags", ("--coordinator", "--processes", "--process-id"))


def _from_environment(environ: Mapping[str, str]) -> Place:
    if "JAX_NUM_PROCESSES" in environ:
        which = "JAX_PROCESS_ID" if "JAX_PROCESS_ID" in environ else "JOB_COMPLETION_INDEX"
        names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", which)
        return _place(environ.get(names[0]), _number(environ, names[1]), _number(environ, which), "jax", names)
    if _number(environ, "SLURM_NTASKS", 1) > 1 and "SLURM_PROCID" in environ and "SLURM_STEP_NODELIST" in environ:
        names = ("SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID")
        # one port per job, in the range that jax takes it from
        port = environ.get("JAX_COORDINATOR_PORT") or 61440 + _number(environ, "SLURM_JOB_ID") % 4096
        host = environ.get("JAX_COORDINATOR_ADDRESS") or f"{_first_host(environ[names[0]])}:{port}"
        place = _place(host, _number(environ, names[1]), _number(environ, names[2]), "slurm", names)
        alone = environ.get("SLURM_STEP_TASKS_PER_NODE", "1").split("(")[0] == "1"
        return place if alone else _with_device(place, environ, "SLURM_LOCALID")
    if _number(environ, "OMPI_COMM_WORLD_SIZE", 1) > 1:
        names = ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
        host = environ.get("JAX_COORDINATOR_ADDRESS") or _open_mpi_host(environ)
        place = _place(host, _number(environ, names[1]), _number(environ, names[2]), "openmpi", names)
        alone = environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1") == "1"
        return place if alone else _with_device(place, environ, "OMPI_COMM_WORLD_LOCAL_RANK")
    hosts = environ.get("TPU_WORKER_HOSTNAMES", "").split(",")
    slices = _number(environ, "MEGASCALE_NUM_SLICES", 1)
    if len(hosts) * slices > 1 and "TPU_WORKER_ID" in environ:
        names = ("TPU_WORKER_HOSTNAMES", "TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID")
        first = environ.get("MEGASCALE_COORDINATOR_ADDRESS", "").split(":")[0] or hosts[0]
        index = _number(environ, "MEGASCALE_SLICE_ID", 0) * len(hosts) + _number(environ, "TPU_WORKER_ID")
        return _place(f"{first}:{TPU_PORT}", len(hosts) * slices, index, "tpu", names)
    return Place()


def _place(coordinator: str | None, processes: int, index: int, source: str, names: tuple[str, str, str]) -> Place:
    if processes < 1:
        raise UserError(f"{names[1]}={processes}: give the number of processes, at least 1")
    if not 0 <= index < processes:
        raise UserError(f"{names[2]}={index}: of {processes} processes ({names[1]}) give 0 to {processes - 1}")
    if processes == 1 and not coordinator:
        return Place(source=source)
    if not coordinator:
        raise UserError(f"{names[0]} is missing: {processes} processes need HOST:PORT of process 0")
    host, _, port = coordinator.rpartition(":")
    if not host:
        coordinator, port = f"{coordinator}:{JAX_PORT}", str(JAX_PORT)
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"{names[0]}={coordinator}: give HOST:PORT, such as node001:{JAX_PORT}")
    return Place(coordinator, processes, index, source)


def _with_device(place: Place, environ: Mapping[str, str], name: str) -> Place:
    """Gives a process its own GPU, where it sees those of its neighbours too."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if place.processes == 1 or (visible is not None and "," not in visible):
        return place
    return dataclasses.replace(place, device=_number(environ, name))


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.strip().isdigit():
        raise UserError(f"{name}={text}: give a whole number")
    return int(text)


def _first_host(nodes: str) -> str:
    """The first of SLURM's nodes: node001 of "node[001-015,020],other2"."""
    found = re.match(r"([^,\[]+)(?:\[([^,\-\]]+))?", nodes)
    if found is None:
        raise UserError(f"SLURM_STEP_NODELIST={nodes}: no node's name is in it; give --coordinator HOST:PORT")
    return found[1] + (found[2] or "")


def _open_mpi_host(environ: Mapping[str, str]) -> str | None:
    """Where mpirun was started; Open MPI 5 does not tell."""
    uri = environ.get("OMPI_MCA_orte_hnp_uri", "")
    found = re.search(r"^(\d+)\..*?(?:tcp://([^,:]+)|tcp6://\[([^,\]]+))", uri)
    return None if found is None else f"{found[2] or found[3]}:{61440 + int(found[1]) // 4096 % 4096}"


def join(place: Place) -> None:
    """Makes this process one of several; returns when all are there. Call it before anything else of jax.

    Raises:
        LostProcessError: the others did not come.
    """
    if place.coordinator is None:
        return
    import jax

    try:
        jax.distributed.initialize(
            place.coordinator,
            place.processes,
            place.index,
            local_device_ids=place.device,
            cluster_detection_method="deactivate",
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except RuntimeError as error:
        why = str(error).splitlines()[0][:200]
        raise LostProcessError(f"the others could not be reached at {place.coordinator}: {why}") from error
    log.info("process %d of %d (%s), found at %s", place.index, place.processes, place.source, place.coordinator)


def leave(place: Place, code: int) -> int:
    """Parts from the others at the end of a command; returns its exit code.

    When all are done or have saved together they part together. Otherwise this process ends at once: the others notice.
    """
    if place.coordinator is None:
        return code
    if code not in (0, EXIT_PREEMPTED):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    import jax

    jax.distributed.shutdown()  # waits for all
    return code


def tells_of_loss(error: BaseException) -> bool:
    """Whether an error, or one that led to it, comes from another process that has gone."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return any(isinstance(link, LostProcessError) or LOST.search(str(link)) for link in links)


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    import jax

    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns when all processes have come to the place of that name."""
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)  # does nothing in a process that is alone


def all_agree(fine: bool) -> bool:
    """Whether all processes say yes; all must ask."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return fine
    return bool(np.all(multihost_utils.process_allgather(np.array(fine))))


def from_main(number: int) -> int:
    """The number that the main process has; all must ask."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))
