"""Two machines that are not there: network namespaces with a cable between them, a raylet in each.

    python tests/indexer/distributed/two_nodes.py FOLDER LIBRARY

indexes a folder on both, kills an actor and then a whole node midway, and prints what came of it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

HEAD, OTHER = "rwkvs-head", "rwkvs-other"
_HEAD_IP, _OTHER_IP, _PORT = "10.77.0.1", "10.77.0.2", 6391
_BIN = Path(sys.executable).parent
_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
_CPUS = 2  # that each node says it has: two actors there, one less on one of them


@dataclass
class Ran:
    """What a run did: files that had been committed when something was killed, and its end."""

    actor_at: int
    node_at: int
    code: int
    seconds: float
    output: str


def can_run() -> str | None:
    """Why there can be no such cluster here; None when there can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if subprocess.run(["ip", "netns", "add", HEAD], capture_output=True).returncode:
        return "ip netns does not work here"
    subprocess.run(["ip", "netns", "del", HEAD], check=True)
    return None


@contextmanager
def two_nodes() -> Iterator[str]:
    """A cluster of two nodes; its address, as seen from `HEAD`."""
    folder = tempfile.mkdtemp(prefix="rwkvs-", dir="/tmp")  # the names of sockets have to be short
    try:
        _wire()
        head = ["--head", f"--node-ip-address={_HEAD_IP}", f"--port={_PORT}"]
        _start(HEAD, [*head, "--include-dashboard=false", f"--temp-dir={folder}"])
        _start(OTHER, [f"--node-ip-address={_OTHER_IP}", f"--address={_HEAD_IP}:{_PORT}"])
        yield f"{_HEAD_IP}:{_PORT}"
    finally:
        for name in (OTHER, HEAD):
            kill_node(name)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def index_and_kill(address: str, pictures: Path, library: Path, kills: tuple[int, int]) -> Ran:
    """Index; SIGKILL an actor of the head once so many files are in, then the other node."""
    command = [_BIN / "rwkvsearch", "index", f"--ray={address}", "--ray-actors=3"]
    command += ["--batch-size=16", pictures, "--library", library]
    began = time.monotonic()
    run = _in(HEAD, command)
    try:
        at_actor = _wait(run, library, kills[0])
        os.kill(_actors(HEAD)[0], signal.SIGKILL)
        at_node = _wait(run, library, kills[1])
        kill_node(OTHER)
        output, _ = run.communicate(timeout=900)
    finally:
        run.kill()
    return Ran(at_actor, at_node, run.returncode, time.monotonic() - began, output)


def kill_node(name: str) -> None:
    """SIGKILL every process in a namespace."""
    for pid in _pids(name):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def count(library: Path, what: str = "files") -> int:
    """Rows of a table; 0 before there is one."""
    with closing(sqlite3.connect(library / "library.sqlite", timeout=30)) as database:
        try:
            return int(database.execute(f"SELECT count(*) FROM {what}").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def _wire() -> None:
    for name in (HEAD, OTHER):
        _ip("netns", "add", name)
    _ip("link", "add", "rwkvs0", "netns", HEAD, "type", "veth", "peer", "rwkvs0", "netns", OTHER)
    for name, address in ((HEAD, _HEAD_IP), (OTHER, _OTHER_IP)):
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "rwkvs0")
        _ip("-n", name, "link", "set", "rwkvs0", "up")
        _ip("-n", name, "link", "set", "lo", "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _start(name: str, words: list[str]) -> None:
    store = f"--object-store-memory={256 << 20}"
    command = [_BIN / "ray", "start", *words, f"--num-cpus={_CPUS}", store, "--disable-usage-stats"]
    started = _in(name, command)
    output, _ = started.communicate(timeout=240)
    if started.returncode:
        raise RuntimeError(f"{name}: {output}")


def _in(name: str, command: list[str | Path]) -> subprocess.Popen[str]:
    """A program in a namespace, its two streams as one."""
    words = ["ip", "netns", "exec", name, *map(str, command)]
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | _ENVIRONMENT,
    )


def _wait(run: subprocess.Popen[str], library: Path, number: int) -> int:
    """Until so many files are committed; how many are."""
    while run.poll() is None:
        if (library / "library.sqlite").exists() and (there := count(library)) >= number:
            return there
        time.sleep(0.1)
    raise RuntimeError(f"it ended too early: {run.communicate()[0]}")


def _pids(name: str) -> list[int]:
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def _actors(name: str) -> list[int]:
    """Processes of the actors that embed."""
    found = []
    for pid in _pids(name):
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::MapWorker"):
            found.append(pid)
    return found


def _main() -> None:
    parser = argparse.ArgumentParser(description="Index on two nodes, and kill some of it.")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("library", type=Path)
    parser.add_argument(
        "--at", type=int, nargs=2, default=(300, 900), help="files before the kills"
    )
    asked = parser.parse_args()
    with two_nodes() as address:
        ran = index_and_kill(address, asked.pictures, asked.library, tuple(asked.at))
    rows = {what: count(asked.library, what) for what in ("files", "images", "embeddings")}
    sys.stdout.write(json.dumps(asdict(ran) | rows, indent=1) + "\n")


if __name__ == "__main__":
    _main()
