"""Real daemons, real sockets, real kills. Commands without a daemon run in the test's process."""

import fcntl
import json
import os
import pty
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from rwkvsearch.data.errors import DaemonError
from rwkvsearch.ui import daemon_client, main
from rwkvsearch.ui.daemon_client import start, status, stop

from .conftest import Outcome, Run, make_picture

DEADLINE = 60  # seconds, of a machine that does much else
SCRIPT = f"""#!{sys.executable}
import sys
from rwkvsearch.ui import main
main.PATIENCE = {DEADLINE}
sys.exit(main.main())
"""

DELIVER = """
import signal
from rwkvsearch.ui import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored below a shell's background
raise SystemExit(main.deliver({"output": [[1, "x" * 10**6]], "code": 0}))
"""

Warm = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine shall not make a test go on without the daemon."""
    monkeypatch.setattr(main, "PATIENCE", DEADLINE)
    monkeypatch.setattr(daemon_client, "START_TIME", DEADLINE)


@contextmanager
def runtime_folder() -> Iterator[Path]:
    """A short name, in which a socket has room, unlike in most folders of pytest."""
    with TemporaryDirectory(prefix="rwkvsearch-test-", dir="/tmp") as folder:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", folder)
            try:
                yield Path(folder)
            finally:
                patch.setenv("XDG_RUNTIME_DIR", folder)  # whatever the test has asked meanwhile
                stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A runtime folder whose daemon serves all the tests that do not end it."""
    with runtime_folder() as folder:
        start()
        yield folder


@pytest.fixture
def daemon(shared: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The pid of the daemon of all tests, which is the one asked."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(shared))
    return int(start()["pid"])


@pytest.fixture
def alone() -> Iterator[Path]:
    """A folder for a daemon, which is not started, but stopped in the end."""
    with runtime_folder() as folder:
        yield folder / "rwkvsearch"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The console script, as pip writes it."""
    path = tmp_path / "rwkvsearch"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    return path


@pytest.fixture
def warm(daemon: int, script: Path) -> Warm:
    """Run the console script; it has to be the daemon that answers."""

    def call(*arguments: object, **environment: str) -> Outcome:
        before = answered()
        outcome = launch(script, *arguments, **environment)
        assert answered() == before + 1
        return outcome

    return call


def launch(script: Path, *arguments: object, **environment: str) -> Outcome:
    done = subprocess.run(
        [script, *map(str, arguments)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | environment,
    )
    out, err = (text.decode(errors="surrogateescape") for text in (done.stdout, done.stderr))
    return Outcome(done.returncode, out, err)


def answered() -> int:
    found = status()
    assert found
    return int(found["answered"])


def wait(what: Callable[[], Any]) -> None:
    until = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def paths(outcome: Outcome) -> set[str]:
    assert outcome.code == 0
    return {Path(line).name for line in outcome.out.splitlines()}


COMMANDS: list[list[str]] = [
    ["query", "a dog"],
    ["query", "a dog", "-k", "3", "--json"],
    ["query", "a dog", "--paths"],
    ["query", "--image", "3.png", "-k", "2"],
    ["query", "--image", "missing.png"],
    ["query", "--help"],
    ["query"],
    ["query", "a", "b"],
    ["query", "a", "--no-such-option"],
    ["query", "a", "-k", "0"],
    ["query", "  "],
    ["query", "a dog", "--library", "nowhere"],
    ["query", "a dog", "--model", "nothing"],
    ["query", "a dog", "--device", "abacus"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_byte_is_the_same(
    command: list[str],
    library: Path,
    photos: Path,
    run: Run,
    warm: Warm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_picture(photos / os.fsdecode(b"bad\xff.png"), 9)
    assert run("index", photos, "--model", "tiny").code == 0
    monkeypatch.chdir(photos)
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)  # as of the console script
    for columns in ("60", "100"):
        monkeypatch.setenv("COLUMNS", columns)
        assert warm(*command) == run(*command)


def test_what_is_indexed_is_found_at_once(
    library: Path, photos: Path, run: Run, warm: Warm
) -> None:
    ask = ("query", "a dog", "--paths", "-k", 50)
    assert len(paths(warm(*ask))) == 8
    opened = status()
    for number in (9, 10):
        make_picture(photos / f"{number}.png", number)
        assert run("index", photos, "--model", "tiny").code == 0
        assert f"{number}.png" in paths(warm(*ask))
    (photos / "9.png").unlink()
    assert run("index", photos, "--model", "tiny").code == 0
    assert len(paths(warm(*ask))) == 9
    make_picture(photos / "9.png", 9)
    assert run("index", photos, "--model", "tiny").code == 0
    assert len(paths(warm(*ask))) == 10
    before, after = opened, status()
    assert before and after
    assert after["reopened"] >= before["reopened"] + 4
    assert warm(*ask) == warm(*ask)
    assert status()["reopened"] == after["reopened"]  # type: ignore[index]


def test_another_library_in_the_same_place(
    library: Path, photos: Path, tmp_path: Path, run: Run, warm: Warm
) -> None:
    make_picture(tmp_path / "other" / "other.png", 20)
    elsewhere = tmp_path / "elsewhere"
    run("index", tmp_path / "other", "--model", "tiny", "--library", elsewhere)
    assert len(paths(warm("query", "a dog", "--paths"))) == 8
    for name in ("library.sqlite", "library.sqlite-wal", "library.sqlite-shm"):
        (library / name).unlink(missing_ok=True)
    (elsewhere / "library.sqlite").rename(library / "library.sqlite")
    assert paths(warm("query", "a dog", "--paths")) == {"other.png"}
    shutil.rmtree(library)
    gone = warm("query", "a dog")
    assert gone.code == 1
    assert "no library at" in gone.err
    assert gone == run("query", "a dog")


def test_a_killed_daemon_leaves_no_query_behind(
    library: Path, alone: Path, script: Path, weights: Path
) -> None:
    first = int(start()["pid"])
    found = launch(script, "query", "a dog", "--json")
    assert answered() == 1
    os.kill(first, signal.SIGKILL)
    wait(lambda: daemon_client._holder() is None)
    assert (alone / "daemon.sock").exists()
    assert status() is None
    assert launch(script, "query", "a dog", "--json") == found
    assert status() is None
    second = int(start()["pid"])
    assert second != first
    assert launch(script, "query", "a dog", "--json") == found
    assert answered() == 1


def test_nobody_else_may_enter(daemon: int, shared: Path) -> None:
    folder = shared / "rwkvsearch"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "daemon.sock").stat().st_mode) == 0o600
    folder.chmod(0o755)
    try:
        assert main.ask(["rwkvsearch", "query", "--help"]) is None
    finally:
        folder.chmod(0o700)
    assert main.ask(["rwkvsearch", "query", "--help"])


def test_a_folder_that_others_may_enter_is_refused(alone: Path, tmp_path: Path) -> None:
    alone.mkdir(mode=0o755)
    mine = tmp_path / "mine"
    mine.write_text("precious")
    (alone / "daemon.log").symlink_to(mine)
    with pytest.raises(DaemonError, match="others may enter"):
        start()
    assert mine.read_text() == "precious"
    with (alone / "daemon.lock").open("w") as lock:  # as another user would, to have it killed
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(str(os.getpid()))
        lock.flush()
        assert daemon_client._holder() is None
        alone.chmod(0o700)
        assert daemon_client._holder() == os.getpid()


def test_a_query_is_answered_where_no_daemon_can_be(library: Path, alone: Path, run: Run) -> None:
    alone.write_text("no folder")
    expected = run("query", "a dog")
    said = run("query", "a dog", "--daemon")
    assert (said.code, said.out) == (0, expected.out)
    assert said.err.startswith("rwkvsearch: answered without a daemon: ")
    assert said.err.split("\n", 1)[1] == expected.err


def test_a_daemon_of_another_version_is_replaced(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start()
    question = main._question(["rwkvsearch", "query", "--help"])
    assert "code" in main._exchange(question)
    assert main._exchange(question | {"version": "0"}) == {"refused": "another version"}
    monkeypatch.setattr(daemon_client, "VERSION", "2")  # this process is the newer one
    monkeypatch.setattr(daemon_client, "START_TIME", 0.0)
    with pytest.raises(DaemonError, match="does not answer"):  # what is started is of this code
        start()
    assert daemon_client._holder() != first["pid"]


def test_one_daemon_of_two_starts(alone: Path, script: Path) -> None:
    both = [subprocess.Popen([script, "daemon", "start"], stdout=subprocess.PIPE) for _ in range(2)]
    said = {process.communicate(timeout=DEADLINE)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(said) == 1
    assert said.pop().decode() == f"running, pid {status()['pid']}\n"  # type: ignore[index]


def test_fifty_clients_at_once(library: Path, daemon: int, run: Run) -> None:
    words = [f"{number} dogs" for number in range(5)]
    expected = [run("query", text, "--paths").out for text in words]
    asked = [main._question(["rwkvsearch", "query", text, "--paths"]) for text in words] * 10
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(main._exchange, asked))
    assert [answer["output"][0] for answer in answers] == [[1, text] for text in expected * 10]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\0\0",
        b"\xff\xff\xff\xff{}",
        b"\0\0\0\x10half",
        b"\0\0\0\x02[]",
        b"\0\0\0\x02{}",
        b"\0\0\0\x03\xff\xfe{",
        b"\0\x01\x86\xa0" + b"[" * 100_000,
    ],
    ids=lambda sent: repr(sent[:8]),
)
def test_what_is_no_question_harms_nobody(sent: bytes, daemon: int) -> None:
    with main.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            connection.recv(1 << 16)
    assert main.ask(["rwkvsearch", "query", "--help"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"do": "dance"},
        {"argv": []},
        {"argv": "query"},
        {"argv": [1]},
        {"cwd": "/nowhere/at/all"},
        {"cwd": "/"},
        {"place": [1]},
        {"environ": {"PATH": 1}},
        {"environ": ["PATH"]},
        {"environ": {"OMP_NUM_THREADS": "3"}},
        {"environ": {"A": "nul\0"}},
        {"environ": {"A=B": "1"}},
        {"encoding": "latin-1"},
        {"umask": "022"},
        {"terminal": [True]},
        {"shown": 3},
    ],
    ids=str,
)
def test_a_question_that_would_be_answered_otherwise_is_refused(
    wrong: dict[str, Any], daemon: int
) -> None:
    question = main._question(["rwkvsearch", "query", "--help"])
    assert list(main._exchange(question | wrong)) == ["refused"]
    assert "code" in main._exchange(question)


def test_a_daemon_that_does_not_answer_is_not_waited_for(
    library: Path, daemon: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answered()
    os.kill(daemon, signal.SIGSTOP)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(main, "PATIENCE", 0.3)
            patch.setattr(daemon_client, "ANSWER_TIME", 0.3)
            assert main.ask(["rwkvsearch", "query", "a dog"]) is None
            with pytest.raises(DaemonError, match=f"pid {daemon}, does not answer"):
                status()
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert main.ask(["rwkvsearch", "query", "a dog"])
    assert answered() == before + 1  # the one that was given up was not run


def test_query_starts_it(
    library: Path, alone: Path, script: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY")  # as on most machines; then every command sets it
    expected = run("query", "a dog")
    assert launch(script, "query", "a dog") == expected
    assert status() is None
    assert launch(script, "query", "a dog", "--daemon") == expected
    assert answered() == 1
    for ask in (["a dog"], ["a dog", "--daemon"], ["--daemon", "--", "a dog"]):
        assert launch(script, "query", *ask) == expected
    assert answered() == 4
    assert launch(script, "query", "a dog", OMP_NUM_THREADS="1") == expected
    assert answered() == 4


def test_it_stops_when_idle_and_on_sigterm_and_without_its_socket(alone: Path) -> None:
    sock = alone / "daemon.sock"
    start(idle=1)
    wait(lambda: daemon_client._holder() is None)
    assert not sock.exists()
    os.kill(int(start()["pid"]), signal.SIGTERM)
    wait(lambda: daemon_client._holder() is None)
    assert not sock.exists()
    start()
    sock.unlink()
    wait(lambda: daemon_client._holder() is None)
    log = (alone / "daemon.log").read_text()
    assert [reason in log for reason in ("idle", "SIGTERM", "its socket was removed")] == [True] * 3


def test_the_log_says_nothing_of_queries(library: Path, warm: Warm, shared: Path) -> None:
    warm("query", "a very private thing")
    warm("query", "a very private thing", "--library", "very private")
    log = (shared / "rwkvsearch" / "daemon.log").read_text()
    assert "started, pid" in log
    assert "private" not in log


def test_commands(alone: Path, run: Run) -> None:
    none = run("daemon", "status")
    assert (none.code, none.out) == (1, "")
    assert none.err.startswith("rwkvsearch: no daemon runs")
    assert run("daemon", "stop").out == "no daemon runs\n"
    assert run("daemon", "status", "--json").out == "null\n"
    started = run("daemon", "start", "--idle", 100)
    found = json.loads(run("daemon", "status", "--json").out)
    assert started.out == f"running, pid {found['pid']}\n"
    assert found["stops_after_seconds"] == 100
    assert (found["answered"], found["engines"]) == (0, 0)
    assert found["memory_bytes"] > 10_000_000
    assert f"running   pid {found['pid']}, for 0:00:" in run("daemon", "status").out
    assert run("daemon", "restart").out != started.out
    assert run("daemon", "stop").out == "stopped\n"
    assert not (alone / "daemon.sock").exists()


def test_it_does_not_hold_on_to_the_terminal(alone: Path, tmp_path: Path) -> None:
    pid = int(start()["pid"])
    assert os.getsid(pid) == pid
    assert (Path("/proc") / str(pid) / "cwd").readlink() == Path("/")
    fds = {fd: (Path("/proc") / str(pid) / "fd" / fd).readlink() for fd in "012"}
    log = alone / "daemon.log"
    assert fds == {"0": Path(os.devnull), "1": log, "2": log}


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["query", "a dog"], True),
        (["query", "a - b"], True),
        (["query", "--help"], True),
        (["query", "--image", "-"], False),
        (["query", "--image=-"], False),
        (["query", "a dog", "--open"], False),
        (["query", "--image", "/dev/stdin"], False),
        (["query", "a + /dev/fd/63"], False),
        (["query", "a", "--captions=/proc/self/fd/11"], False),
        (["index", "."], False),
        (["--help"], False),
        ([], False),
    ],
)
def test_which_commands_are_for_the_daemon(arguments: list[str], asked: bool) -> None:
    assert main._is_for_daemon(arguments) == asked


def test_the_socket_has_a_short_name_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for letter in "ab":
        folder = tmp_path / (letter * 100)
        folder.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
        found.add(main.socket_path())
    assert len(found) == 2
    assert max(map(len, found)) <= main._LONGEST_NAME
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    monkeypatch.setenv("TMPDIR", "/short")
    assert main.socket_path() == f"/short/rwkvsearch-{os.geteuid()}/daemon.sock"
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("c" * 100)))
    assert len(main.socket_path()) <= main._LONGEST_NAME and main.socket_path() not in found
    monkeypatch.setenv("TMPDIR", ".")
    usual = main.socket_path()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relative").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert usual.startswith("/tmp/rwkvsearch-") and main.socket_path().startswith(("/run", "/tmp"))


@pytest.mark.parametrize(
    ("target", "interrupted", "code", "said"),
    [
        ("/dev/full", False, 1, b"rwkvsearch: [Errno 28] No space left on device\n"),
        (None, False, 1, b""),
        (None, True, 130, b""),
    ],
)
def test_an_answer_that_cannot_be_written(
    target: str | None, interrupted: bool, code: int, said: bytes
) -> None:
    reading, writing = os.pipe()
    if target:
        os.close(writing)
        writing = os.open(target, os.O_WRONLY)
    process = subprocess.Popen(
        [sys.executable, "-c", DELIVER], stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    with process:
        try:
            if interrupted:
                assert os.read(reading, 1) == b"x"  # it writes, and waits for more to be read
                process.send_signal(signal.SIGINT)
                assert process.wait(DEADLINE) == code
            os.close(reading)
            assert process.communicate(timeout=DEADLINE)[1] == said
        finally:
            process.kill()
    assert process.returncode == code


def test_the_console_script_begins_light() -> None:
    shown = "import sys, rwkvsearch.ui.main; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    loaded = {name for name in run.stdout.split() if name.startswith("rwkvsearch.")}
    assert loaded == {"rwkvsearch.ui", "rwkvsearch.ui.main"}
    assert set(run.stdout.split()) & {"typer", "numpy", "platformdirs", "argparse"} == set()


def on_terminal(script: Path, *arguments: str, answer: bytes = b"") -> bytes:
    """What a command writes on a terminal of its own, which gives `answer` when it is asked."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(script, [str(script), *arguments])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 70, 0, 0))
    written = b""
    with suppress(OSError):  # how a terminal ends that nobody is on any more
        while part := os.read(terminal, 1 << 16):
            written += part
            if part.endswith(b"\x1b[c"):
                os.write(terminal, answer)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return written


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer", [b"\x1b[6;16;8t\x1b[?62;4c", b"\x1b[6;20;10t\x1b[?62;4c", b"\x1b[?6c"]
)
def test_pictures_in_the_terminal_are_the_same(
    answer: bytes,
    library: Path,
    daemon: int,
    alone: Path,
    script: Path,
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("textual_image")
    monkeypatch.setenv("TERM", "xterm-256color")
    cold = on_terminal(script, "query", "a dog", "-k", "2", answer=answer)
    assert not alone.exists()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(shared))
    before = answered()
    warm = on_terminal(script, "query", "a dog", "-k", "2", answer=answer)
    assert answered() == before + 2  # once to be told that it has to look at its terminal
    assert warm == cold
    assert len(warm) > 1000
