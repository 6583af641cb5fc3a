"""A Ray cluster: found or started, and how much of it a run takes."""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rwkvsearch.data.errors import ClusterError
from rwkvsearch.indexer.pipeline import usable_cores

LOCAL, AUTO = "local", "auto"
_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d+)")
_PATIENCE = 5.0  # seconds until a head has to answer
_STORE = 256 << 20  # bytes: what passes through it are names and embeddings, no pictures


@dataclass(frozen=True)
class Share:
    """What a run takes of a cluster: `actors`, each with so many `cpus` and `gpus`.

    None for `actors`: as many as fit. None for `gpus`: one each where the cluster has any.
    """

    actors: int | None = None
    cpus: int = 1
    gpus: float | None = None


@dataclass(frozen=True)
class Taken:
    """A `Share` that fits, with nothing left open."""

    actors: int
    cpus: int
    gpus: float


def is_address(text: str) -> bool:
    """Whether a word after `--ray` names a cluster: `local`, `auto` or `host:port`."""
    return text in (LOCAL, AUTO) or bool(re.fullmatch(r"(ray://)?" + _ADDRESS.pattern, text))


@contextmanager
def cluster(address: str, share: Share) -> Iterator[Taken]:
    """Join the cluster whose head is at `host:port`, the one of this machine, or start one.

    Raises:
        ClusterError: Ray is not installed, nothing answers there, or too little of it is free.
    """
    if address != LOCAL:
        _bring_token()
    ray = import_ray()
    handler = signal.getsignal(signal.SIGTERM)
    with tempfile.TemporaryDirectory(  # in /tmp: the names of sockets have to be short
        prefix="rwkvsearch-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        try:
            _join(ray, address, share, folder)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray puts its own in the place of ours
            yield taken(ray.cluster_resources(), ray.available_resources(), share)
        finally:
            ray.shutdown()


def import_ray() -> Any:
    """The module, silent and without its reports of use.

    Raises:
        ClusterError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a change
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ClusterError(f"--ray needs Ray: pip install 'rwkvsearch[ray]' ({error})") from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return ray


def taken(has: dict[str, float], free: dict[str, float], share: Share) -> Taken:
    """What a run takes of a cluster that `has` CPUs and GPUs, some of which are `free`.

    One CPU stays free: without, Ray waits for ever and says nothing.

    Raises:
        ClusterError: there is not enough.
    """
    gpus = float(bool(has.get("GPU"))) if share.gpus is None else share.gpus
    room = [math.floor((free.get("CPU", 0.0) - 1) / share.cpus)]
    if gpus:
        room.append(math.floor(free.get("GPU", 0.0) / gpus + 1e-6))
    most = max(0, min(room))
    actors = share.actors or most
    if actors > most or not most:
        asked = max(1, actors)
        needs = f"{asked * share.cpus + 1} free CPUs"
        needs += f" and {asked * gpus:g} free GPUs" if gpus else ""
        raise ClusterError(
            f"the Ray cluster has {_shown(free, has, 'CPU')} and {_shown(free, has, 'GPU')} free; "
            f"{asked} {'workers' if asked > 1 else 'worker'} would take {needs} "
            "(--ray-actors, --ray-gpus, --workers)"
        )
    return Taken(actors, share.cpus, gpus)


def _shown(free: dict[str, float], has: dict[str, float], what: str) -> str:
    return f"{free.get(what, 0):g} of {has.get(what, 0):g} {what}s"


def _join(ray: Any, address: str, share: Share, folder: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == LOCAL:
        actors = share.actors or max(1, usable_cores() // share.cpus)
        ray.init(
            address=LOCAL,
            num_cpus=actors * share.cpus + 1,
            object_store_memory=_STORE,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
            **quiet,
        )
        return
    check(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ClusterError(_why(address, error)) from error


def check(address: str) -> None:
    """Find out in seconds what Ray finds out in minutes.

    Raises:
        ClusterError: Ray is not installed, or no head is there.
    """
    if find_spec("ray") is None:
        raise ClusterError("--ray needs Ray: pip install 'rwkvsearch[ray]'")
    if address in (LOCAL, AUTO):
        return
    if address.startswith("ray://"):
        raise ClusterError(
            f"{address}: start the command on a node of the cluster and name its head as "
            "host:port, as `ray start` prints it"
        )
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ClusterError(f"{address}: not an address of a Ray head, such as 10.0.0.1:6379")
    with suppress(OSError):
        place = (match["host"].strip("[]"), int(match["port"]))
        socket.create_connection(place, _PATIENCE).close()
        return
    raise ClusterError(
        f"{address}: no Ray head answers there; start one with "
        f"`ray start --head --port {match['port']}`"
    )


def _bring_token() -> None:
    """Do as `ray start` does: where there is a token, show it."""
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if given or (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _why(address: str, error: Exception) -> str:
    if any("AuthToken" in str(one) for one in (error, error.__cause__, error.__context__)):
        return (
            f"the Ray cluster of {address} asks for its token, which `ray get-auth-token` prints "
            "there: put it into ~/.ray/auth_token or RAY_AUTH_TOKEN"
        )
    if address == AUTO and isinstance(error, ConnectionError):
        return "no Ray runs on this machine: `ray start --head`, or --ray alone for its processes"
    reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
    return (
        f"cannot join the Ray cluster of {address}: {' '.join(reason.split())[:200]} "
        "(this machine has to be a node of it: `ray start --address HOST:PORT`)"
    )
