"""`rwkvsearch watch` as a person starts it, with real files; each step is polled for."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.indexer.library import Library

from .conftest import Run, make_picture

LAUNCH = """
import sys
from pathlib import Path
from rwkvsearch.retrieval import models
from rwkvsearch.ui.cli import main
models._SHIPPED = Path(sys.argv.pop(1))
main()
"""

WATCH = """
import sys
from pathlib import Path
from rwkvsearch.indexer import watch
watch._POLL = 0.2
def tell(*what): print(*what, flush=True)
watch.Watching([Path(sys.argv[1])], lambda paths: tell("sync"), tell, Path("/nowhere")).run()
"""

DEADLINE = 90  # seconds, of a machine that does much else


@contextmanager
def watching(weights: Path, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", LAUNCH, weights, "watch", *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait(what: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until and process.poll() is None:
        try:
            if what():
                return
        except LibraryError:  # it is not made yet
            pass
        time.sleep(0.05)
    process.kill()
    pytest.fail("it did not come about: " + "".join(process.communicate()))


def names(home: Path) -> set[str]:
    """The pictures that can be found."""
    with Library.open(home) as library:
        models = library.models()
        if not models:
            return set()
        ids, _ = library.embeddings(models[0].model_id, models[0].preprocessing_id)
        return {p.name for paths in library.paths_of(ids.tolist()).values() for p in paths}


@contextmanager
def writer(library: Library) -> Iterator[None]:
    """The library's writer, as soon as `watch` is not."""
    until = time.monotonic() + DEADLINE
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(library.writer())
                break
            except LibraryBusy:
                assert time.monotonic() < until
                time.sleep(0.05)
        yield


def embeddings(home: Path) -> int:
    with Library.open(home) as library:
        return sum(model.embeddings for model in library.models())


def test_it_keeps_the_library_current(weights: Path, photos: Path, home: Path) -> None:
    all_of = {f"{seed}.png" for seed in range(8)}
    with watching(weights, photos) as process:
        wait(lambda: names(home) == all_of, process)

        make_picture(photos / "new" / "8.png", 8)
        make_picture(photos / "9.png", 9)
        wait(lambda: names(home) == all_of | {"8.png", "9.png"}, process)

        with Library.open(home) as library, writer(library):  # as `index` or `forget` would
            (photos / "9.png").rename(photos / "nine.png")
            assert process.stderr is not None
            assert "waiting for it" in process.stderr.readline()
        wait(lambda: names(home) == all_of | {"8.png", "nine.png"}, process)

        (photos / "new" / "8.png").unlink()
        (photos / "new").rmdir()
        wait(lambda: names(home) == all_of | {"nine.png"}, process)

        photos.rename(photos.with_name("away"))
        assert "is not there any more" in process.stderr.readline()
        make_picture(photos.with_name("away") / "10.png", 10)
        photos.with_name("away").rename(photos)
        wait(lambda: "10.png" in names(home), process)
        assert embeddings(home) == 11
        process.send_signal(signal.SIGKILL)

    (photos / "10.png").rename(photos / "ten.png")
    with watching(weights) as process:
        wait(lambda: "ten.png" in names(home) and "10.png" not in names(home), process)
        (photos / "rough.png").write_bytes((photos / "1.png").read_bytes()[:40])
        assert process.stderr is not None
        assert "rough.png: unreadable: broken" in process.stderr.readline()
        assert process.stdout is not None
        lines = [process.stdout.readline().split(" ", 1)[1] for _ in range(2)]
        assert lines == ["1 already known\n", "1 skipped\n"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (0, "", "")
    assert names(home) == all_of | {"nine.png", "ten.png"}
    assert embeddings(home) == 11


def test_ctrl_c(weights: Path, photos: Path, home: Path) -> None:
    with watching(weights, photos) as process:
        wait(lambda: len(names(home)) == 8, process)
        assert process.stdout is not None
        assert process.stdout.readline().endswith(" 8 embedded\n")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert (out, err.split(" ", 1)[1]) == ("", "stopped\n")


def test_no_more_watches(tmp_path: Path) -> None:
    """The limit of a user namespace of its own, which is as real as the machine's."""
    for name in "abc":
        make_picture(tmp_path / name / "1.png", 1)
    limit = "echo 2 > /proc/sys/user/max_inotify_watches"
    if subprocess.run(["unshare", "-Ur", "sh", "-c", limit], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    command = ["unshare", "-Ur", "sh", "-c", f'{limit}; exec "$@"', "sh"]
    command += [sys.executable, "-c", WATCH, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("the kernel watches no more folders (inotify watch limit")
            assert "max_user_watches" in line
            assert process.stdout.readline() == "sync\n"
            make_picture(tmp_path / "c" / "2.png", 2)
            assert process.stdout.readline() == "sync\n"
        finally:
            process.kill()


def test_wrong_use(photos: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run("watch", photos / "1.png")
    assert outcome.code == 1 and "`watch` takes folders" in outcome.err
    outcome = run("watch")
    assert outcome.code == 1 and "no library at" in outcome.err
    monkeypatch.setitem(sys.modules, "watchdog.observers", None)
    outcome = run("watch", photos)
    assert outcome.code == 1 and "pip install 'rwkvsearch[watch]'" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_for_nobody(weights: Path, photos: Path, tmp_path: Path) -> None:
    """With a log for programs and a file for Prometheus."""
    home, file = tmp_path / "home", tmp_path / "x.prom"
    options = ("--log-format", "json", "--metrics", file)
    with watching(weights, photos, "--library", home, *options) as process:
        wait(file.exists, process)
        make_picture(photos / "new.png", 99)
        (photos / "bad.jpg").write_bytes(b"no picture")
        wait(lambda: 'index_files_total{result="bad"} 1.0' in file.read_text(), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out) == (130, "")
    said = [json.loads(line) for line in err.splitlines()]
    synced = [line for line in said if line.get("event") == "synced"]
    assert synced[0]["embedded"] == 8 and sum(line["embedded"] for line in synced) == 9
    (skipped,) = [line for line in said if line.get("event") == "skipped"]
    assert skipped["path"] == str(photos / "bad.jpg") and said[-1]["message"] == "stopped"
    assert 'index_files_total{result="embedded"} 9.0' in file.read_text()
