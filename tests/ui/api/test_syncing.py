"""Real syncs in real processes, stopped, killed and left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import SyncOptions
from rwkvsearch.retrieval.query import Query, Term
from rwkvsearch.ui.api import sync_child, sync_routes
from rwkvsearch.ui.api.problems import add_problems
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.api.settings import Settings
from rwkvsearch.ui.api.syncing import Syncs

from ..conftest import Run, make_picture

pytestmark = pytest.mark.server

DEADLINE = 120  # seconds, of a machine that does much else

SERVER = """
import sys, time
from pathlib import Path
from rwkvsearch.ui.api.settings import Settings
from rwkvsearch.ui.api.syncing import Syncs
syncs = Syncs(Settings(Path(sys.argv[1])))
syncs.start()
print(syncs.pid, flush=True)
time.sleep(600)
"""

NOBODY = """
import os, sys
from pathlib import Path
if os.getuid() == 0: os.setuid(65534)
from rwkvsearch.data.errors import LibraryError
from rwkvsearch.ui.api.settings import Settings
from rwkvsearch.ui.api.syncing import Syncs
syncs = Syncs(Settings(Path(sys.argv[1])))
print(syncs.state().refused)
try:
    syncs.start()
except LibraryError as error:
    print(error)
print(syncs.pid)
"""


@pytest.fixture
def syncs(library: Path) -> Iterator[Syncs]:
    made = Syncs(Settings(library))
    yield made
    made.close()


@pytest.fixture
def slow(photos: Path) -> int:
    """How many pictures were added, each of which takes long to decode."""
    shape = (1500, 1500, 3)
    Image.fromarray(np.zeros(shape, np.uint8)).save(photos / "large.png", compress_level=1)
    content = (photos / "large.png").read_bytes()
    for number in range(399):
        (photos / f"large-{number}.png").write_bytes(content + b"%d" % number)
    return 400


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process is there, and no zombie that nobody has asked for."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def served(syncs: Syncs) -> TestClient:
    app = FastAPI()
    app.state.service = SimpleNamespace(syncs=syncs)
    app.include_router(sync_routes.router, prefix="/api/v1")
    add_problems(app)
    return TestClient(app)


def images(library: Path) -> int:
    with Library.open(library) as opened:
        return opened.stats().images


def test_a_sync_while_searching(library: Path, photos: Path) -> None:
    for seed in range(100, 120):
        make_picture(photos / "new" / f"{seed}.png", seed)
    (photos / 'bad"><img src=x>.jpg').write_bytes(b"")
    service = Service(Settings(library))
    try:
        assert service.syncs.state().state == "idle"
        assert service.syncs.start().state == "running"
        searched = 0
        while not service.syncs.wait(0):
            hits = service.search(Query((Term(f"number {searched}"),), k=3)).hits
            assert len(hits) == 3
            searched += 1
            time.sleep(0.05)
        state = service.syncs.state()
        assert searched > 3
        assert (state.state, state.outcome, state.errors) == ("idle", "done", 1)
        assert state.message is not None
        assert state.message.startswith("29 files: 20 embedded, 8 unchanged, 1 skipped; ")
        (skipped,) = state.skipped
        assert (skipped.path, skipped.reason) == (
            str(photos / 'bad"><img src=x>.jpg'),
            "empty file",
        )
        assert state.started_at and state.finished_at and state.seconds
        assert images(library) == 28
        one = Term(path=photos / "new" / "100.png")
        found = lambda: service.search(Query((one,), k=1)).hits[0].paths  # noqa: E731
        until(lambda: photos / "new" / "100.png" in found())
    finally:
        service.close()


def test_the_second_is_refused(syncs: Syncs, slow: int) -> None:
    syncs.start()
    with pytest.raises(LibraryBusy, match="runs already"):
        syncs.start()
    syncs.stop()
    assert syncs.wait(DEADLINE)


def test_another_process_that_writes_is_named_at_once(syncs: Syncs, library: Path) -> None:
    with Library.open(library) as opened, opened.writer():
        with pytest.raises(LibraryBusy, match=r"another rwkvsearch is indexing into .*; wait"):
            syncs.start()
    assert syncs.pid is None and syncs.state().state == "idle"


def test_another_process_that_comes_first(syncs: Syncs, library: Path) -> None:
    syncs.start()
    with Library.open(library) as opened, opened.writer():
        assert syncs.wait(DEADLINE)
    state = syncs.state()
    assert state.outcome == "busy" and state.message is not None
    assert state.message.startswith("another rwkvsearch is indexing")


def test_stopping_keeps_what_is_done(syncs: Syncs, library: Path, slow: int) -> None:
    syncs.start()
    until(lambda: syncs.state().done)
    assert syncs.state().stage == "embed"
    assert syncs.stop() and syncs.state().state == "stopping"
    assert syncs.wait(DEADLINE)
    state = syncs.state()
    assert (state.state, state.outcome) == ("idle", "stopped")
    assert state.message == sync_child.STOPPED
    kept = images(library)
    assert 8 < kept < 8 + slow
    assert not syncs.stop(), "nothing runs"


def test_after_a_stop_the_next_goes_on(syncs: Syncs, library: Path, photos: Path) -> None:
    make_picture(photos / "new.png", 100)
    syncs.start()
    syncs.stop()
    assert syncs.wait(DEADLINE)
    syncs.start()
    assert syncs.wait(DEADLINE)
    assert syncs.state().outcome == "done" and images(library) == 9


def test_a_kill_leaves_the_server_well(syncs: Syncs, library: Path, slow: int) -> None:
    syncs.start()
    until(lambda: syncs.state().done)
    assert syncs.pid is not None
    os.kill(syncs.pid, signal.SIGKILL)
    assert syncs.wait(DEADLINE)
    state = syncs.state()
    assert (state.state, state.outcome) == ("idle", "failed")
    assert state.message is not None
    assert state.message.startswith("the process that syncs was ended by SIGKILL; what is done")
    assert images(library) > 8
    assert syncs.pid is None and syncs.start().state == "running", "another one can be started"


def test_closing_ends_it(library: Path, slow: int) -> None:
    syncs = Syncs(Settings(library))
    syncs.start()
    pid = syncs.pid
    assert pid is not None and is_running(pid)
    syncs.close()
    assert not is_running(pid) and syncs.state().outcome == "stopped"
    with pytest.raises(LibraryError, match="being stopped"):
        syncs.start()
    with Library.open(library) as opened, opened.writer():
        pass


def test_a_server_that_is_killed_takes_it_along(library: Path, slow: int) -> None:
    command = [sys.executable, "-c", SERVER, str(library)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        assert is_running(pid)
        server.kill()
    until(lambda: not is_running(pid))
    assert images(library) < 8 + slow


def test_why_it_cannot_is_said_in_words(library: Path) -> None:
    syncs = Syncs(Settings(library, model="b16-laion10m"))
    syncs.start()
    assert syncs.wait(DEADLINE)
    state = syncs.state()
    assert state.outcome == "failed" and "rwkvsearch model pull b16-laion10m" in str(state.message)


def test_what_python_cannot_even_start_is_said(
    library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    syncs = Syncs(Settings(library))
    syncs.start()
    assert syncs.wait(DEADLINE)
    message = syncs.state().message
    assert message is not None and "exit code 3 (no such luck); what is done is kept" in message


def test_a_library_that_cannot_be_written() -> None:
    with TemporaryDirectory(prefix="rwkvsearch-test-") as folder:
        Path(folder).chmod(0o755)
        Library.create(Path(folder) / "library").close()
        for path in (Path(folder) / "library").iterdir():
            path.chmod(0o444)
        (Path(folder) / "library").chmod(0o555)
        command = [sys.executable, "-c", NOBODY, f"{folder}/library"]
        ended = subprocess.run(command, capture_output=True, text=True)
        if "No module named" in ended.stderr or "PermissionError" in ended.stderr:
            pytest.skip("running as root, and nobody cannot read the environment")
    refused, error, pid = ended.stdout.splitlines()
    assert refused.startswith("this server cannot write to ") and "`rwkvsearch index`" in refused
    assert error == refused and pid == "None"


def test_a_server_that_cannot_write_says_so(
    syncs: Syncs, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    client = served(syncs)
    refused = f"this server cannot write to {library}; sync with `rwkvsearch index`"
    assert client.get("/api/v1/sync").json()["refused"].startswith(refused)
    answer = client.post("/api/v1/sync")
    assert answer.status_code == 403 and answer.json()["detail"].startswith(refused)
    assert syncs.pid is None


def test_it_does_what_index_does(library: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    def sync(
        library: Library, roots: object, encoder: Any, options: object = None, **_: Any
    ) -> Any:
        calls.append((library.path, roots, encoder.model_id, options or SyncOptions()))
        raise LibraryError("enough")

    monkeypatch.setattr("rwkvsearch.indexer.sync.sync", sync)
    assert run("index").err == "rwkvsearch: enough\n"
    with pytest.raises(LibraryError, match="enough"):
        sync_child.run(library, None, None, None, lambda event: None)
    index, child = calls
    assert index[:3] == child[:3]
    assert vars(index[3]) | {"exclude": ()} == vars(child[3]) | {"exclude": ()}


def test_routes(syncs: Syncs, photos: Path) -> None:
    client = served(syncs)
    (photos / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
    assert client.get("/api/v1/sync").json()["state"] == "idle"
    started = client.post("/api/v1/sync")
    assert started.status_code == 202 and started.json()["state"] == "running"
    refused = client.post("/api/v1/sync")
    assert refused.status_code == 409 and "runs already" in refused.json()["detail"]
    assert syncs.wait(DEADLINE)
    state = client.get("/api/v1/sync")
    assert state.headers["cache-control"] == "no-store"
    assert state.json()["outcome"] == "done"
    assert json.loads(state.content)["skipped"] == [
        {"path": str(photos / os.fsdecode(b"caf\xe9.jpg")), "reason": "empty file"}
    ]
    assert client.delete("/api/v1/sync").json()["state"] == "idle"


def test_a_process_that_cannot_be_started_leaves_nothing(
    library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    syncs = Syncs(Settings(library))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "none"))
        with pytest.raises(LibraryError, match="no process can be started: No such file"):
            syncs.start()
    assert (syncs.state().state, syncs.pid) == ("idle", None)
    assert syncs.start().state == "running"
    syncs.close()


def test_modules_of_the_folder_it_is_started_in_are_left_alone(
    library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('not mine')")
    monkeypatch.chdir(tmp_path)
    syncs = Syncs(Settings(library))
    syncs.start()
    assert syncs.wait(DEADLINE)
    assert syncs.state().outcome == "done", syncs.state().message
    syncs.close()
