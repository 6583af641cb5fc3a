"""Random changes of a photo library, and SIGKILL at random moments, against a plain model of it.

After every sync that came to its end: each readable picture is there with its own embedding and is
found by it (zero losses), nothing else is (zero ghosts), and no content was embedded that was known
before (zero repeated work). `make torture` goes on for longer: TORTURE_STEPS, TORTURE_SEED.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import select

from rwkvsearch.data.images import read_image
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.search import SearchIndex
from rwkvsearch.indexer.tables import FileRow, ImageRow, RootRow

HERE = Path(__file__).parent
STEPS = int(os.environ.get("TORTURE_STEPS", "14"))
SEED = int(os.environ.get("TORTURE_SEED", "1"))


class World:
    """Two folders, a shard beside them, and everything that may happen to them."""

    def __init__(self, home: Path, chance: random.Random) -> None:
        self.home = home
        self.chance = chance
        self.number = 0
        self.ever: list[bytes] = []  # contents that existed at some time
        self.bad: set[bytes] = set()
        self.closed: list[Path] = []
        self.roots = [home / "first", home / "second"]
        self.shard = home / "pack.tar"
        self.other_shard = home / "other.tar"
        for root in self.roots:
            (root / "in" / "deep").mkdir(parents=True)
        (self.roots[0] / ".rwkvsearchignore").write_text("unwanted/\n")
        (self.roots[0] / "unwanted").mkdir()
        for _ in range(12):
            self.add()
        self.pack()

    @property
    def actions(self) -> list[Callable[[], None]]:
        return [
            *[self.add] * 4,
            *[self.edit, self.delete, self.move, self.rename] * 3,
            *[self.copy, self.bring_back, self.pack, self.move_folder, self.spoil] * 2,
            *[self.rename_shard] * 2,
            *[self.unmount, self.mount, self.close, self.open, self.lock, self.delete_folder],
        ]

    def here(self) -> list[Path]:
        """The roots that are in their place."""
        return [root for root in self.roots if not self.away(root).exists()]

    def away(self, root: Path) -> Path:
        return root.with_name(f".away-{root.name}")

    def files(self) -> list[Path]:
        """Every picture file that may be changed, sorted so that a seed means the same run."""
        found = (p for root in self.here() for p in sorted(root.rglob("*.png")))
        return [p for p in found if not any(p.is_relative_to(c) for c in self.closed)]

    def folders(self) -> list[Path]:
        found = [p for root in self.here() for p in [root, *sorted(root.rglob("*"))] if p.is_dir()]
        return [p for p in found if not any(p.is_relative_to(c) for c in self.closed)]

    def inner(self) -> list[Path]:
        """Folders that may be moved or removed as a whole."""
        fixed = [*self.roots, self.roots[0] / "unwanted", *self.closed]
        return [p for p in self.folders() if not any(f.is_relative_to(p) for f in fixed)]

    def place(self) -> Path | None:
        folders = self.folders()
        self.number += 1
        name = self.chance.choice(["{}.png", "z {}.png", "é{}.png", ".hidden{}.png"])
        return self.chance.choice(folders) / name.format(self.number) if folders else None

    def picture(self) -> bytes:
        """All of one size, so that only the time of the last change tells an edit."""
        self.number += 1
        colours = np.random.default_rng(self.number).integers(0, 256, (2, 2, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(colours.repeat(4, 0).repeat(4, 1)).save(stream, "BMP")
        self.ever.append(stream.getvalue())
        return stream.getvalue()

    def add(self) -> None:
        if place := self.place():
            place.write_bytes(self.picture())

    def edit(self) -> None:
        if files := self.files():
            self.chance.choice(files).write_bytes(self.picture())

    def spoil(self) -> None:
        if place := self.place():
            content = self.picture()[: self.chance.choice([0, 20, 80])]
            self.bad.add(content)
            place.write_bytes(content)

    def copy(self) -> None:
        if (files := self.files()) and (place := self.place()):
            how = self.chance.choice([shutil.copy, shutil.copy2, os.link])
            how(self.chance.choice(files), place)

    def bring_back(self) -> None:
        if self.ever and (place := self.place()):
            place.write_bytes(self.chance.choice(self.ever))

    def delete(self) -> None:
        if files := self.files():
            self.chance.choice(files).unlink()

    def delete_folder(self) -> None:
        folders = self.inner()
        if len(folders) > 2:
            shutil.rmtree(self.chance.choice(folders))

    def move(self) -> None:
        if (files := self.files()) and (place := self.place()):
            self.chance.choice(files).rename(place)

    def rename(self) -> None:
        """Two files change places, or one takes the place of another."""
        files = self.files()
        if len(files) < 2:
            return
        one, two = self.chance.sample(files, 2)
        if self.chance.random() < 0.5:
            spare = self.home / "spare"
            one.rename(spare)
            two.rename(one)
            spare.rename(two)
        else:
            one.replace(two)

    def move_folder(self) -> None:
        folders = self.inner()
        targets = self.folders()
        if folders and targets:
            folder, target = self.chance.choice(folders), self.chance.choice(targets)
            self.number += 1
            if not target.is_relative_to(folder):
                folder.rename(target / f"folder{self.number}")

    def pack(self) -> None:
        """Write the shard anew with old and new pictures, or remove it."""
        if self.shard.exists() and self.chance.random() < 0.2:
            self.shard.unlink()
            return
        with tarfile.open(self.home / "pack.part", "w") as archive:
            for n in range(self.chance.randint(1, 5)):
                new = not self.ever or self.chance.random() < 0.5
                content = self.picture() if new else self.chance.choice(self.ever)
                info = tarfile.TarInfo(f"{n}.png")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        (self.home / "pack.part").replace(self.shard)

    def rename_shard(self) -> None:
        one, two = self.chance.sample([self.shard, self.other_shard], 2)
        if one.exists():
            one.replace(two)

    def targets(self) -> list[Path]:
        """What is synced, beside the shards that the library knows."""
        return self.roots + [one for one in (self.shard, self.other_shard) if one.exists()]

    def unmount(self) -> None:
        here = self.here()
        if len(here) == len(self.roots) and not self.closed:
            root = self.chance.choice(here)
            root.rename(self.away(root))
            if self.chance.random() < 0.5:
                root.mkdir()

    def mount(self) -> None:
        for root in self.roots:
            if self.away(root).exists():
                if root.exists():
                    root.rmdir()
                self.away(root).rename(root)

    def close(self) -> None:
        folders = self.inner()
        if folders and not self.closed:
            folder = self.chance.choice(folders)
            folder.chmod(0)
            self.closed.append(folder)

    def open(self) -> None:
        for folder in self.closed:
            folder.chmod(0o755)
        self.closed = []
        for path in self.files():
            path.chmod(0o644)

    def lock(self) -> None:
        """A new picture that may not be read."""
        if place := self.place():
            place.write_bytes(self.picture())
            place.chmod(0)

    def is_walked(self, path: Path) -> bool:
        """Whether a walk comes here: neither hidden nor ignored."""
        parts = path.relative_to(self.home).parts
        hidden = any(part.startswith(".") for part in parts)
        return not hidden and not (parts[0] == "first" and "unwanted" in parts[1:])

    def kept(self) -> list[Path]:
        """Where the library must show what it showed: not there, not readable, or without pictures.

        A root of which no picture is left may be a disk that is not mounted.
        """
        away = [root for root in self.roots if root not in self.here()]
        seen = [path for path in self.files() + self.closed if self.is_walked(path)]
        empty = [r for r in self.here() if not any(path.is_relative_to(r) for path in seen)]
        return away + empty + self.closed

    def expected(self, before: dict[str, str]) -> dict[str, str]:
        """The hash of every picture that the library must show, by path."""
        kept = self.kept()
        found = {
            path: key for path, key in before.items() if any(map(Path(path).is_relative_to, kept))
        }
        for path in filter(self.is_walked, self.files()):
            content = path.read_bytes()
            locked = not path.stat().st_mode & 0o044
            if not (locked or content in self.bad):
                found[str(path)] = hashlib.sha256(content).hexdigest()
        for shard in filter(Path.exists, [self.shard, self.other_shard]):
            with tarfile.open(shard) as archive:
                for member in archive:
                    stream = archive.extractfile(member)
                    assert stream is not None
                    key = hashlib.sha256(stream.read()).hexdigest()
                    found[str(shard / member.name)] = key
        return found


class Worker:
    """The process that syncs, started anew after it was killed."""

    def __init__(self, library: Path, log: Path) -> None:
        self.arguments = [sys.executable, str(HERE / "torture.py"), str(library), str(log)]
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        if self.process is None:
            self.process = subprocess.Popen(
                self.arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert self.process.stdout is not None
            assert json.loads(self.process.stdout.readline()) == {"ready": True}
        return self.process

    def sync(self, roots: list[Path], kill_after: float | None = None) -> dict[str, Any]:
        """The last line: a report, or how much was acknowledged before the kill."""
        process = self.start()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps([str(root) for root in roots]) + "\n")
        process.stdin.flush()
        timer = None
        if kill_after is not None:
            timer = threading.Timer(kill_after, process.kill)
            timer.start()
        last = {"embedded": 0}
        for line in process.stdout:
            if not line.endswith("\n"):
                break
            last = json.loads(line)
            if "embedded" not in last:
                break
        if timer is not None:
            timer.cancel()
            timer.join()
            if "embedded" in last or process.poll() is not None:
                self.stop()
        return last

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def shown(library: Library) -> dict[str, str]:
    """The hash of every picture that the library shows, by path."""
    with library.read() as session:
        rows = session.execute(
            select(RootRow.path, FileRow.path, ImageRow.content_hash)
            .join(RootRow, RootRow.id == FileRow.root_id)
            .join(ImageRow, ImageRow.id == FileRow.image_id)
            .where(FileRow.gone_at.is_(None))
        )
        return {str(root / path): key for root, path, key in rows}


def embedded(library: Library) -> set[str]:
    """The contents that have an embedding, live or not."""
    from rwkvsearch.indexer.tables import EmbeddingRow

    with library.read() as session:
        rows = select(ImageRow.content_hash).join(EmbeddingRow)
        return set(session.scalars(rows))


def check(library: Library, world: World, encoder: Any, before: dict[str, str]) -> None:
    assert shown(library) == world.expected(before)
    if not embedded(library):
        return
    ids, embeddings = library.embeddings("fake", "fake-8")
    paths = library.paths_of(ids.tolist())
    assert sorted(paths) == ids.tolist()
    contents = {hashlib.sha256(content).hexdigest(): content for content in world.ever}
    with library.read() as session:
        hashes = {
            key: name for key, name in session.execute(select(ImageRow.id, ImageRow.content_hash))
        }
    for image_id, embedding in zip(ids.tolist(), embeddings, strict=True):
        picture = read_image(io.BytesIO(contents[hashes[image_id]]), min_side=8)
        own = encoder.encode_pixels(encoder.preprocess(picture)[None])[0]
        np.testing.assert_allclose(embedding, own, atol=1e-3)
    if len(ids):
        scores, found = SearchIndex.open(library, "fake", "fake-8").search(
            embeddings.astype(np.float32), 1
        )
        assert scores.min() > 0.999
        same = embeddings[np.searchsorted(ids, found[:, 0])]
        np.testing.assert_allclose(same, embeddings, atol=2e-3)


def run(home: Path, encoder: Any, steps: int, seed: int) -> int:
    """Torture for so many steps; the number of kills."""
    chance = random.Random(seed)
    (home / "work").mkdir()
    (home / "library").mkdir()
    (home / "library").chmod(0o777)
    log = home / "log"
    log.touch()
    log.chmod(0o666)
    world = World(home / "work", chance)
    worker = Worker(home / "library", log)
    pixels = {}
    kills = 0
    before: dict[str, str] = {}
    try:
        worker.sync(world.targets())
        with Library.open(home / "library") as library:
            check(library, world, encoder, before)
            before = shown(library)
        for _ in range(steps):
            for _ in range(chance.randint(1, 6)):
                chance.choice(world.actions)()
            while kills < steps and chance.random() < 0.55:
                with Library.open(home / "library") as library:
                    known = embedded(library)
                size = log.stat().st_size
                last = worker.sync(
                    world.targets(), chance.choice([0.0, 0.005, 0.02, 0.05, 0.1, 0.3])
                )
                kills += "embedded" in last
                with Library.open(home / "library") as library:
                    assert len(embedded(library)) >= len(known) + last.get("embedded", 0)
                note(world, encoder, pixels)
                assert not known & {pixels[line] for line in new_lines(log, size)}
            with Library.open(home / "library") as library:
                known = embedded(library)
            size = log.stat().st_size
            if chance.random() < 0.3:  # changes go on while it works, and then stop
                changes = threading.Thread(target=lambda: chance.choice([world.add, world.edit])())
                changes.start()
                worker.sync(world.targets())
                changes.join()
            report = worker.sync(world.targets())
            assert "refused" not in report, report
            note(world, encoder, pixels)
            with Library.open(home / "library") as library:
                check(library, world, encoder, before)
                before = shown(library)
            assert not known & {pixels[line] for line in new_lines(log, size)}
    finally:
        worker.stop()
        world.open()
    return kills


def new_lines(log: Path, size: int) -> list[str]:
    lines = log.read_bytes()[size:].decode().splitlines()
    return [line for line in lines if len(line) == 64]


def note(world: World, encoder: Any, pixels: dict[str, str]) -> None:
    """Remember which content the pixels of a log line are of."""
    for content in world.ever[len(pixels) :]:
        seen = encoder.preprocess(read_image(io.BytesIO(content), min_side=8))
        pixels[hashlib.sha256(seen.tobytes()).hexdigest()] = hashlib.sha256(content).hexdigest()


def test_torture(open_path: Path, encoder: Any) -> None:
    began = time.monotonic()
    kills = run(open_path, encoder, STEPS, SEED)
    assert kills >= STEPS // 3
    sys.stderr.write(f"{STEPS} steps, {kills} kills, {time.monotonic() - began:.0f} s\n")
