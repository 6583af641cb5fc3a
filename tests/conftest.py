import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
