"""`rwkvsearch serve`: what it refuses, and how it ends, as a real process."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import pytest

from .conftest import Run

pytestmark = pytest.mark.server

PROGRAM = """
import os, signal, sys
from pathlib import Path
from rwkvsearch.retrieval import models
models._SHIPPED = Path(sys.argv.pop(1))
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored below a shell's background
from rwkvsearch.ui.main import main
main()
"""
TOKEN = "0123456789abcdef0123456789abcdef"
PATIENCE = 60  # seconds, of a machine that does much else


@pytest.mark.parametrize(
    "token, said",
    [
        (None, "the token cannot be read: "),
        (b"\xff" * 40, "the token cannot be read: "),
        (b"", "has at least 16 characters"),
        (b"too short", "has at least 16 characters"),
        (b"with a space in between", "one line of ASCII without spaces"),
        (b"two lines of one\nand another one", "one line of ASCII without spaces"),
        ("a token of ümlauts".replace(" ", "-").encode(), "one line of ASCII without spaces"),
    ],
)
def test_a_token_that_is_none(run: Run, tmp_path: Path, token: bytes | None, said: str) -> None:
    file = tmp_path / "token"
    if token is not None:
        file.write_bytes(token)
    outcome = run("serve", "--token-file", file)
    assert outcome.code == 1 and outcome.out == ""
    assert outcome.err.startswith(f"rwkvsearch: {file}: ") and said in outcome.err
    assert "too short" not in outcome.err


def test_the_token_of_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RWKVSEARCH_TOKEN", "secret")
    outcome = run("serve")
    assert outcome.code == 1 and "$RWKVSEARCH_TOKEN: a token has at least" in outcome.err
    assert "secret" not in outcome.err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.invalid"])
def test_no_other_computer_without_a_token(run: Run, host: str) -> None:
    outcome = run("serve", "--host", host)
    assert outcome.code == 1 and outcome.err.count("\n") == 1
    assert "--token-file" in outcome.err and "$RWKVSEARCH_TOKEN" in outcome.err


def test_what_cannot_be(run: Run, tmp_path: Path) -> None:
    for wrong in (("--port", "65536"), ("--port", "-1"), ("--rate", "0"), ("--precision", "fp8")):
        assert run("serve", *wrong).code == 2, wrong
    outcome = run("serve", "--library", tmp_path / "none", "--port", 0)
    assert outcome.code == 1 and "no library at" in outcome.err
    (tmp_path / "token").write_text(TOKEN)
    outcome = run("serve", "--host", "192.0.2.1", "--token-file", tmp_path / "token")
    assert outcome.code == 1 and "cannot listen at 192.0.2.1 port 7860: " in outcome.err


def test_a_port_that_is_taken(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        outcome = run("serve", "--port", port)
    assert outcome.code == 1
    assert f"cannot listen at 127.0.0.1 port {port}: Address already in use" in outcome.err
    assert "--port" in outcome.err and outcome.err.count("\n") == 1


@contextmanager
def serving(weights: Path, *options: object) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server of its own, and its port, once its model is loaded."""
    words = [sys.executable, "-c", PROGRAM, weights, "serve", "--port", 0, *options]
    with subprocess.Popen(
        [*map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("GRADIO_")},
    ) as process:
        assert process.stdout and process.stderr
        log: list[str] = []
        reader = Thread(target=log.extend, args=(iter(process.stderr.readline, ""),))
        reader.start()
        try:
            said = process.stdout.readline()
            found = re.match(r"http://127\.0\.0\.1:(\d+)/ ", said)
            if not found:
                process.kill()
                reader.join()
                pytest.fail(said + "".join(log))
            yield process, int(found[1])
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            reader.join()
        assert {json.loads(line)["level"] for line in log} == {"info"}, "".join(log)


def ready(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.request("GET", "/readyz")
        with connection.getresponse() as answer:
            status = answer.status
        connection.close()
        if status == 200:
            return
        time.sleep(0.1)
    raise AssertionError("it was never ready")


@pytest.mark.parametrize("how, code", [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_ends_when_it_is_told_to(
    weights: Path, indexed: Path, home: Path, how: int, code: int
) -> None:
    """Also while a page is open, whose heartbeat never ends, and a request is half sent."""
    with serving(weights, "--library", home) as (process, port):
        ready(port)
        with urlopen(f"http://127.0.0.1:{port}/") as page:
            assert b"gradio" in page.read()
        beat = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        beat.request("GET", "/gradio_api/heartbeat/abcdef", headers={"Accept": "text/event-stream"})
        beating = beat.getresponse()
        assert beating.status == 200
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        idle.request("GET", "/api/v1/health/live")
        assert idle.getresponse().read()
        with socket.create_connection(("127.0.0.1", port)) as half:
            lines = ("POST /api/v1/uploads HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 100")
            half.sendall("\r\n".join([*lines, "", "half"]).encode())
            began = time.monotonic()
            process.send_signal(how)
            assert process.wait(PATIENCE) == code
            assert time.monotonic() - began < 20  # the grace is 5, the machine may be busy
        beating.read()  # to its proper end
        for one in (beating, beat, idle):
            one.close()


def test_a_token_is_asked_for(weights: Path, indexed: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    options = ("--library", home, "--token-file", tmp_path / "token")
    with serving(weights, *options) as (process, port):
        for headers, expected in (({}, 401), ({"Authorization": f"Bearer {TOKEN}"}, 200)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            connection.request("GET", "/api/v1/stats", headers=headers)
            answer = connection.getresponse()
            assert answer.status == expected
            answer.read()
            connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
