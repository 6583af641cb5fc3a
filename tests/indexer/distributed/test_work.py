"""What a worker does, without a cluster around it."""

import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from rwkvsearch.data.errors import ModelError
from rwkvsearch.indexer.distributed.attempts import Attempts
from rwkvsearch.indexer.distributed.work import Done, Task, Worker
from rwkvsearch.indexer.found import Found, Stat
from rwkvsearch.indexer.prepare import Limits

NOTHING = np.zeros(0, "S32")
IDS = ("fake", "fake-8", "0" * 64)


def found(paths: Sequence[Path]) -> list[Found]:
    return [Found(1, p.parent, p.name, Stat.of(p.stat())) for p in paths]


def work(task: Task, paths: Sequence[Path], known: Any = NOTHING) -> Done:
    done = pickle.loads(Worker(task, known)(pickle.dumps(found(paths))))
    assert isinstance(done, Done)
    return done


@pytest.fixture
def task(encoder: Any) -> Task:
    return Task(uuid4().hex, lambda: encoder, IDS, Limits(), 2, 1 << 28)


@pytest.fixture
def pictures(photos: Path) -> list[Path]:
    return sorted(photos.rglob("*.png"))


def test_embeddings_come_back_by_content(task: Task, pictures: list[Path], encoder: Any) -> None:
    done = work(task, pictures)
    assert [item.found.path for item in done.batch] == pictures
    for item, path in zip(done.batch, pictures, strict=True):
        assert item.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()
        assert item.pixels is None and item.error is None
        assert item.content is not None and item.content.width == 16
        assert len(done.embeddings[item.content_hash]) == 2 * encoder.dim
    assert done.spent["encode"] > 0


def test_what_is_known_is_hashed_only(task: Task, pictures: list[Path], encoder: Any) -> None:
    digests = sorted(hashlib.sha256(path.read_bytes()).digest() for path in pictures[:4])
    done = work(task, pictures, np.array(digests, "S32"))
    assert encoder.encoded == len(done.embeddings) == 6
    assert [item.content is None for item in done.batch] == [True] * 4 + [False] * 6


def test_a_digest_that_ends_in_zeros_is_found(task: Task) -> None:
    digests = [bytes([n]) * 31 + b"\0" for n in range(1, 9)]
    worker = Worker(task, np.sort(np.frombuffer(b"".join(digests), "S32")))
    assert all(worker._known(digest.hex()) for digest in digests)
    assert worker._known((b"\1" * 32).hex()) is None


def test_bad_files_are_named(task: Task, pictures: list[Path]) -> None:
    pictures[3].write_bytes(pictures[3].read_bytes()[:60])
    done = work(task, pictures)
    assert [item.found.path for item in done.batch if item.error] == [pictures[3]]
    assert len(done.embeddings) == 9


def test_another_model_on_a_worker_is_refused(task: Task, pictures: list[Path]) -> None:
    done = work(replace(task, model=("fake", "fake-8", "1" * 64)), pictures)
    assert done.failure is not None and "weights 000000000000" in done.failure
    assert not done.batch


def test_a_model_that_is_missing_is_told(task: Task, pictures: list[Path]) -> None:
    def load() -> Any:
        raise ModelError("fake is not installed")

    assert work(replace(task, load=load), pictures).failure == "fake is not installed"


def test_copies_are_encoded_once(
    task: Task, tmp_path: Path, paint: Callable[[Path, int], Path], encoder: Any
) -> None:
    copies = [paint(tmp_path / f"{n}.png", 1) for n in range(5)]
    assert len(work(task, copies).embeddings) == encoder.encoded == 1


def test_a_file_that_kills_is_found_out(
    task: Task, pictures: list[Path], encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a decoder does that crashes; each try is a process of its own, as an actor is."""
    deadly = np.asarray(Image.open(pictures[6]))
    preprocess = encoder.preprocess

    def crash(image: Image.Image) -> Any:
        if np.array_equal(np.asarray(image), deadly):
            os._exit(9)
        return preprocess(image)

    monkeypatch.setattr(encoder, "preprocess", crash)
    batch, result = pickle.dumps(found(pictures)), tmp_path / "result"
    tries = 0
    while not result.exists() and tries < 10:
        tries += 1
        child = os.fork()
        if not child:
            result.write_bytes(Worker(task, NOTHING)(batch))
            os._exit(0)
        os.waitpid(child, 0)
    done = pickle.loads(result.read_bytes())
    assert tries == 5
    bad = [(item.found.path, item.error) for item in done.batch if item.error]
    assert bad == [(pictures[6], "unreadable: the process that reads it dies")]
    assert len(done.batch) == 10 and len(done.embeddings) == 9
    assert [*Path(tempfile.gettempdir()).glob(f"rwkvsearch-{task.run}-*")] == []


def test_what_the_dead_leave_is_removed() -> None:
    attempts = Attempts(uuid4().hex)
    with attempts.cleared():
        begun = attempts.begin(b"batch")
        assert begun.__enter__() == 0  # and never ended
        with attempts.begin(b"other") as before:
            assert before == 0
        again = attempts.begin(b"batch")
        assert again.__enter__() == 1
    assert [*Path(tempfile.gettempdir()).glob(f"rwkvsearch-{attempts.run}-*")] == []
