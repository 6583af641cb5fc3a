"""Thumbnails: made once from the right bytes, kept where that can be, of live pictures only."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rwkvsearch.data.errors import ImageError, LibraryError
from rwkvsearch.data.images import read_image
from rwkvsearch.indexer import edit, thumbnails
from rwkvsearch.indexer.details import content_hashes
from rwkvsearch.indexer.doctor.run import Checkup, diagnose, repair
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.places import images_at
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.thumb_files import ThumbFiles, is_whole
from rwkvsearch.indexer.thumbnails import Thumbnails

TURNED = 6  # the EXIF orientation of a camera held upright


def picture(path: Path, width: int, height: int, seed: int = 0, **how: Any) -> Path:
    """Smooth colours, which a thumbnail keeps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    image = Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)
    image.save(path, **how)
    moment = time.time_ns() - 60_000_000_000
    os.utime(path, ns=(moment, moment))
    return path


def exif(orientation: int) -> Image.Exif:
    said = Image.Exif()
    said[0x0112] = orientation
    said[0x0110] = "A camera that nobody may hear of"
    return said


def content_of(library: Library, path: Path) -> str:
    image_id = images_at(library, [path])[path]
    return content_hashes(library, [image_id])[image_id]


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "WEBP"
    image.load()
    return image


def difference(thumb: Image.Image, path: Path) -> float:
    """The mean one to the picture, scaled by another way than ours."""
    whole = read_image(path).resize(thumb.size, Image.Resampling.BOX)
    return float(np.abs(np.asarray(thumb, float) - np.asarray(whole, float)).mean())


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (2000, 1500, {320: (320, 240), 1600: (1600, 1200)}),
        (1501, 2003, {320: (240, 320), 1600: (1199, 1600)}),
        (400, 30, {320: (320, 24), 1600: (400, 30)}),
        (3000, 7, {320: (320, 1), 1600: (1600, 4)}),
        (40, 30, {320: (40, 30), 1600: (40, 30)}),
        (1, 1, {320: (1, 1), 1600: (1, 1)}),
    ],
)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_sizes(
    width: int, height: int, expected: Any, suffix: str, tmp_path: Path, library: Library,
    encoder: Any,
) -> None:  # fmt: skip
    path = picture(tmp_path / f"photos/one.{suffix}", width, height)
    sync(library, [path.parent], encoder)
    for size, wanted in expected.items():
        thumb = opened(Thumbnails(library).get(content_of(library, path), size))
        assert thumb.size == wanted and thumb.mode == "RGB"
        if min(thumb.size) > 8:  # of fewer, what is made of them depends on how
            assert difference(thumb, path) < 6


def test_upright_without_what_the_file_says(tmp_path: Path, library: Library, encoder: Any) -> None:
    path = picture(tmp_path / "photos/one.jpg", 800, 400, exif=exif(TURNED), comment=b"secret")
    clear = Image.new("RGBA", (640, 640), (0, 0, 0, 0))
    clear.save(tmp_path / "photos/clear.png")
    sync(library, [path.parent], encoder)
    data = Thumbnails(library).get(content_of(library, path))
    thumb = opened(data)
    assert thumb.size == (160, 320)
    assert difference(thumb, path) < 6
    assert not thumb.getexif() and not {"exif", "xmp", "icc_profile"} & thumb.info.keys()
    assert not any(secret in data for secret in (b"nobody", b"secret", b"EXIF"))
    white = opened(Thumbnails(library).get(content_of(library, path.with_name("clear.png"))))
    assert white.getpixel((160, 160)) == (255, 255, 255)


def test_kept_in_the_library_and_served_without_the_picture(
    library: Library, photos: Path, encoder: Any
) -> None:
    sync(library, [photos], encoder)
    path = photos / "a/0.png"
    content = content_of(library, path)
    data = Thumbnails(library).get(content)
    kept = library.path / "thumbs" / content[:2] / f"{content}-320.webp"
    assert kept.read_bytes() == data
    assert [file for file in kept.parent.iterdir()] == [kept]
    shutil.rmtree(photos)
    assert Thumbnails(library).get(content) == data
    with pytest.raises(LibraryError, match=r"a/0\.png: not there or changed .* `rwkvsearch index`"):
        Thumbnails(library).get(content, 1600)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:9],
        lambda data: data + b"\0",
        lambda data: b"x" * len(data),
        lambda data: data[:8] + b"WAVE" + data[12:],
    ],
)
def test_a_damaged_one_is_made_anew(
    damage: Callable[[bytes], bytes], library: Library, photos: Path, encoder: Any
) -> None:
    sync(library, [photos], encoder)
    content = content_of(library, photos / "a/0.png")
    data = Thumbnails(library).get(content)
    kept = ThumbFiles(library.path).path(content, 320)
    kept.write_bytes(damage(data))
    assert Thumbnails(library).get(content) == data
    assert kept.read_bytes() == data


def test_only_of_live_pictures(
    library: Library, photos: Path, encoder: Any, paint: Callable[[Path, int], Path]
) -> None:
    sync(library, [photos], encoder)
    gone, edited = (content_of(library, photos / name) for name in ("a/0.png", "a/1.png"))
    thumbs = Thumbnails(library)
    for content in (gone, edited):
        thumbs.get(content)
    (photos / "a/0.png").unlink()
    paint(photos / "a/1.png", 99)
    sync(library, [photos], encoder)
    for content in (gone, edited, "0" * 64):
        with pytest.raises(LibraryError, match="no picture of .* has the content"):
            thumbs.get(content)
    assert thumbs.get(content_of(library, photos / "a/1.png"))


@pytest.mark.parametrize(
    "forged",
    ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", "../" * 21 + "a", "/etc/passwd",
     "é" * 64, "٣" * 64, "0" * 63 + "\0", "%" * 64, "_" * 64],
)  # fmt: skip
def test_what_is_no_content_is_no_path(forged: str, library: Library) -> None:
    with pytest.raises(LibraryError) as raised:
        Thumbnails(library).get(forged)
    assert len(str(raised.value).splitlines()) == 1
    assert not (library.path / "thumbs").exists()


def test_other_sizes_are_not_made(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder)
    with pytest.raises(LibraryError, match="only of 320 and 1600"):
        Thumbnails(library).get(content_of(library, photos / "a/0.png"), 321)


def test_of_other_bytes_none_is_made(
    library: Library, photos: Path, encoder: Any, paint: Callable[[Path, int], Path]
) -> None:
    path = photos / "a/0.png"
    copy = Path(shutil.copy2(path, photos / "copy.png"))
    sync(library, [photos], encoder)
    content = content_of(library, path)
    paint(path, 99)
    shown = np.asarray(opened(Thumbnails(library).get(content)), float)
    assert np.abs(shown - np.asarray(Image.open(copy), float)).mean() < 30
    assert np.abs(shown - np.asarray(Image.open(path), float)).mean() > 30
    paint(copy, 98)
    with pytest.raises(LibraryError, match="changed since it was indexed"):
        Thumbnails(library).get(content, 1600)


def test_a_touched_file_is_still_the_picture(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder)
    path = photos / "a/0.png"
    os.utime(path, (5, 5))
    assert Thumbnails(library).get(content_of(library, path))


def test_a_member_of_a_shard(
    tmp_path: Path, library: Library, encoder: Any, paint: Callable[[Path, int], Path]
) -> None:
    shard = tmp_path / "some.tar"
    with tarfile.open(shard, "w") as archive:
        for n in range(3):
            archive.add(picture(tmp_path / f"{n}.jpg", 700, 500, n), f"{n}.jpg")
    sync(library, [shard], encoder)
    content = content_of(library, shard / "1.jpg")
    assert difference(opened(Thumbnails(library).get(content)), tmp_path / "1.jpg") < 6
    data = bytearray(shard.read_bytes())
    data[:] = data[:100] + bytes(len(data) - 100)
    shard.write_bytes(data)
    with pytest.raises(LibraryError, match=r"some\.tar/1\.jpg: not there or changed"):
        Thumbnails(library).get(content, 1600)


def test_a_picture_that_cannot_be_decoded_here(
    library: Library, photos: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(library, [photos], encoder)

    def fail(stream: Any, **_: Any) -> None:
        raise ImageError(stream.name, "needs pip install 'rwkvsearch[heic]'")

    monkeypatch.setattr(thumbnails, "read_picture", fail)
    with pytest.raises(ImageError, match=r"a/0\.png: needs pip install"):
        Thumbnails(library).get(content_of(library, photos / "a/0.png"))


def test_many_at_once_make_it_once(
    library: Library, tmp_path: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [picture(tmp_path / f"photos/{n}.jpg", 900, 700, n) for n in range(6)]
    sync(library, [tmp_path / "photos"], encoder)
    contents = [content_of(library, path) for path in paths]
    made: list[str] = []
    now = most = 0
    lock = threading.Lock()
    read = thumbnails.read_picture

    def counted(stream: Any, **how: Any) -> Any:
        nonlocal now, most
        with lock:
            made.append(stream.name)
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        try:
            return read(stream, **how)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(thumbnails, "read_picture", counted)
    monkeypatch.setattr(thumbnails, "usable_cores", lambda: 2)
    thumbs = Thumbnails(library)
    with ThreadPoolExecutor(24) as pool:
        found = [*pool.map(thumbs.get, contents * 4)]
    assert sorted(made) == sorted(str(path) for path in paths)
    assert found == found[:6] * 4 and len({*found}) == 6
    assert most == 2
    assert not thumbs._making and thumbs.made == 6


def test_a_failure_is_told_to_all_and_not_remembered(
    library: Library, photos: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(library, [photos], encoder)
    content = content_of(library, photos / "a/0.png")
    read = thumbnails.read_picture
    tries: list[int] = []

    def fail(stream: Any, **_: Any) -> None:
        tries.append(1)
        time.sleep(0.2)
        raise ImageError("a/0.png", "truncated file")

    def asked(_: int) -> str:
        try:
            thumbs.get(content)
        except ImageError as error:
            return error.reason
        return ""

    thumbs = Thumbnails(library)
    monkeypatch.setattr(thumbnails, "read_picture", fail)
    with ThreadPoolExecutor(8) as pool:
        assert {*pool.map(asked, range(8))} == {"truncated file"}
    assert len(tries) < 8
    monkeypatch.setattr(thumbnails, "read_picture", read)
    assert thumbs.get(content)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def make(number: int) -> None:
        def fail(*_: Any) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(Path, "write_bytes", fail)

    return make


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_stays_in_memory(
    number: int, library: Library, photos: Path, encoder: Any, full: Callable[[int], None]
) -> None:
    sync(library, [photos], encoder)
    thumbs = Thumbnails(library)
    contents = [content_of(library, photos / f"a/{n}.png") for n in range(4)]
    full(number)
    with pytest.raises(LibraryError, match=f"cannot be written: {os.strerror(number).lower()}"):
        thumbs.warm()
    first = [thumbs.get(content) for content in contents]
    shutil.rmtree(photos)
    assert [thumbs.get(content) for content in contents] == first
    assert not any(path.is_file() for path in (library.path / "thumbs").rglob("*"))


def test_memory_is_bounded(
    library: Library, photos: Path, encoder: Any, full: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    sync(library, [photos], encoder)
    contents = [content_of(library, photos / f"a/{n}.png") for n in range(3)]
    whole = Thumbnails(library)
    sizes = [len(whole.get(content)) for content in contents]
    shutil.rmtree(library.path / "thumbs")
    full(errno.ENOSPC)
    monkeypatch.setattr(thumbnails, "_IN_MEMORY", sum(sizes) - 1)
    thumbs = Thumbnails(library)
    for content in (contents[0], contents[1], contents[0], contents[2]):
        thumbs.get(content)
    shutil.rmtree(photos)
    assert thumbs.get(contents[0]) and thumbs.get(contents[2])
    with pytest.raises(LibraryError, match="not there or changed"):
        thumbs.get(contents[1])  # the one that was not asked for longest


UNWRITABLE = """
import os, sys
from pathlib import Path
from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.thumbnails import Thumbnails

if os.geteuid() == 0:
    os.setuid(65534)
with Library.open(Path(sys.argv[1])) as library:
    thumbs = Thumbnails(library)
    assert thumbs.get(sys.argv[2]) == thumbs._memory.get((sys.argv[2], 320))
    assert thumbs.get(sys.argv[2]) is thumbs.get(sys.argv[2])
    try:
        thumbs.warm()
    except LibraryError as error:
        print(error)
"""


def test_a_library_that_cannot_be_written(
    open_path: Path, photos: Path, encoder: Any, paint: Callable[[Path, int], Path]
) -> None:
    pictures = [paint(open_path / f"photos/{n}.png", n) for n in range(3)]
    with Library.create(open_path / "library") as made:
        sync(made, [open_path / "photos"], encoder)
        contents = [content_of(made, path) for path in pictures]
    for path in [open_path / "library", *(open_path / "library").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = subprocess.run(
        [sys.executable, "-c", UNWRITABLE, str(open_path / "library"), contents[0]],
        capture_output=True,
        text=True,
    )
    for path in (open_path / "library", *(open_path / "library").rglob("*")):
        path.chmod(0o755)
    assert done.stderr == ""
    assert "thumbs: thumbnails cannot be written: permission denied" in done.stdout
    assert not (open_path / "library/thumbs").exists()


def test_ahead(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder)
    thumbs = Thumbnails(library)
    contents = [content_of(library, path) for path in sorted(photos.rglob("*.png"))]
    thumbs.get(contents[3])
    assert sorted(thumbs.lacking()) == sorted({*contents} - {contents[3]})
    assert len(thumbs.lacking(1600)) == 10
    (photos / "a/0.png").unlink()
    (photos / "a/1.png").write_bytes(b"no picture")
    told: list[int] = []
    done = thumbs.warm(progress=told.append, threads=3)
    assert done.made == 7 and told == [1] * 9
    assert len(done.failed) == 2
    assert all("not there or changed since it was indexed" in fault for fault in done.failed)
    for path in photos.rglob("b/*.png"):
        path.unlink()
    assert all(thumbs.get(content) for content in contents[2:])
    assert sorted(thumbs.lacking()) == sorted(contents[:2])
    ThumbFiles(library.path).path(contents[4], 320).write_bytes(b"")  # of a power cut
    assert contents[4] in thumbs.lacking()


KILLED = """
import os, signal, sys
from pathlib import Path
from rwkvsearch.indexer import thumb_files
from rwkvsearch.indexer.address import place_of
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.thumbnails import Thumbnails

done = []
write = Path.write_bytes

def half(path, data):
    if len(done) == 4:
        write(path, data[:10])
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(write(path, data))

Path.write_bytes = half
with Library.open(place_of(sys.argv[1])) as library:
    Thumbnails(library).warm(threads=1)
"""


def test_a_killed_run_goes_on_and_what_it_leaves_is_removed(
    library: Library, photos: Path, encoder: Any
) -> None:
    sync(library, [photos], encoder)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(library.place)])
    assert killed.returncode == -signal.SIGKILL
    (part,) = (library.path / "thumbs").rglob(".*.part")
    thumbs = Thumbnails(library)
    whole = [path for path in (library.path / "thumbs").rglob("*.webp")]
    assert 1 <= len(whole) <= 4 and all(is_whole(path.read_bytes()) for path in whole)
    assert len(thumbs.lacking()) == 10 - len(whole)
    assert diagnose(library, Checkup()).clean  # it may be being written
    os.utime(part, (1, 1))
    report = diagnose(library, Checkup())
    assert [f.text for f in report.findings if f.state == "fault"] == [
        "1 file in thumbs/ of a run that was killed"
    ]
    assert repair(library, Checkup()).clean and not part.exists()
    assert thumbs.warm().made == 10 - len(whole)
    assert thumbs.lacking() == []


def test_stopped_in_the_middle(
    library: Library, photos: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(library, [photos], encoder)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        Thumbnails(library).warm(progress=stop, threads=1)
    assert threading.active_count() == before
    left = len(Thumbnails(library).lacking())
    assert 0 < left < 10 or os.cpu_count() == 1
    assert Thumbnails(library).warm().made == left


def test_forgotten_with_their_picture(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder)
    thumbs = Thumbnails(library)
    thumbs.warm()
    thumbs.warm(size=1600)
    assert len([*ThumbFiles(library.path)]) == 20
    (photos / "a/0.png").unlink()
    sync(library, [photos], encoder)
    report = diagnose(library, Checkup())
    assert report.clean  # as usual as a deleted picture
    assert "2 thumbnails of pictures that are not there any more" in {
        finding.text for finding in report.findings if finding.state == "note"
    }
    assert repair(library, Checkup()).done
    assert len([*ThumbFiles(library.path)]) == 18
    edit.forget(library, photos / "a")
    assert len([*ThumbFiles(library.path)]) == 10
    assert {f.state for f in diagnose(library, Checkup(full=True)).findings} == {"ok"}


def test_doctor_knows_ours(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder)
    Thumbnails(library).warm()
    folder = library.path / "thumbs" / "00"
    folder.mkdir(exist_ok=True)
    ours = [folder / f"{'0' * 64}{end}" for end in ("-320.webp", "-1600.webp", ".webp")]
    others = [folder / name for name in ("my.webp", f"{'0' * 64}.jpg", f".{'0' * 64}-320.webp")]
    for path in (*ours, *others):
        path.write_bytes(b"left over")
    assert not diagnose(library, Checkup()).clean
    assert repair(library, Checkup()).clean
    assert not any(path.exists() for path in ours) and all(path.exists() for path in others)
    assert Thumbnails(library).lacking() == []
