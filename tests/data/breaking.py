"""Read broken pictures, one line of JSON for each: `python breaking.py KIND COUNT [SEED]`.

A process of its own, so that a crash or a hang in a decoder is seen and ends nothing else: memory
is limited, and a file that takes longer than `SECONDS` ends the process with a traceback.
"""

import faulthandler
import io
import json
import random
import resource
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Iterator

import builders
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from rwkvsearch.data.errors import ImageError
from rwkvsearch.data.images import read_picture

SECONDS = 20
MEMORY = 4 << 30
SUFFIXES = (".jpg", ".png", ".webp", ".gif", ".bmp", ".tif", ".heic", ".dng", ".nef", ".cr3", "")


def with_blocks() -> dict[str, bytes]:
    """EXIF, XMP and ICC that a mutation can fall into."""
    main = [(0x010E, 2, b"A boat on the lake\0"), (0x0112, 3, [6])]
    gps = [(1, 2, b"S\0"), (2, 5, [(47, 1), (30, 1), (0, 1)])]
    return {
        "exif": builders.exif(main, [(0x9003, 2, b"2019:06:03 12:33:01\0")], gps),
        "icc_profile": builders.icc("RGB", 2.2, builders.WIDE),
        "xmp": builders.xmp(builders.alternatives("dc:title", "Bridge")),
    }


def whole_files(kind: str) -> list[bytes]:
    """Good files of one kind, in its several codings."""
    scene, blocks = builders.scene(), with_blocks()
    frames = {"save_all": True, "append_images": [builders.scene(), Image.new("RGB", (64, 48))]}
    made = builders.encoded
    if kind == "JPEG":
        plain = made(scene, kind, **blocks)
        caption = builders.with_iptc(plain, builders.iptc((120, b"caption"), (25, b"word")))
        cmyk = made(scene.convert("CMYK"), kind)
        return [caption, made(scene, kind, progressive=True, **blocks), cmyk]
    if kind == "PNG":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", blocks.pop("xmp").decode(), zip=True)
        grey = Image.frombytes("I;16", (64, 48), bytes(range(256)) * 24)
        rgba = scene.convert("RGBA")
        modes = [made(scene.quantize(16), kind, transparency=3), made(grey, kind)]
        return [made(rgba, kind, pnginfo=text, **blocks), made(scene, kind, **frames), *modes]
    if kind == "WEBP":
        options = ({"quality": 60}, {"lossless": True}, frames)
        return [made(scene, kind, **blocks, **option) for option in options]
    if kind == "AVIF":
        return [made(scene, kind, **blocks), made(scene, kind, **frames)]
    if kind == "GIF":
        return [made(scene, kind), made(scene, kind, **frames, transparency=2)]
    if kind == "BMP":
        return [made(scene, kind), made(scene.quantize(16), kind), made(scene.convert("1"), kind)]
    if kind == "TIFF":
        profile = blocks["icc_profile"]
        codings = ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")
        files = [made(scene, kind, compression=one, icc_profile=profile) for one in codings]
        files.append(made(scene, kind, **blocks))
        return [
            *files,
            made(scene, kind, **frames),
            made(scene.convert("1"), kind, compression="group4"),
        ]
    if kind == "HEIC":
        return [builders.heic(scene, **blocks), builders.heic(scene.convert("RGBA"))]
    jpeg = made(builders.scene(160, 120), "JPEG", exif=blocks["exif"])
    return [builders.dng(jpeg, (160, 120), 6), builders.dng(made(scene, "JPEG"), (64, 48))]


def cut(data: bytearray, at: int, chance: random.Random) -> None:
    del data[at:]


def flip(data: bytearray, at: int, chance: random.Random) -> None:
    data[at] ^= 1 << chance.randrange(8)


def scatter(data: bytearray, at: int, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 20)):
        data[chance.randrange(len(data))] = chance.randrange(256)


def blank(data: bytearray, at: int, chance: random.Random) -> None:
    end = min(len(data), at + chance.randint(1, 64))
    data[at:end] = bytes(end - at)


def drop(data: bytearray, at: int, chance: random.Random) -> None:
    del data[at : at + chance.randint(1, 64)]


def insert(data: bytearray, at: int, chance: random.Random) -> None:
    data[at:at] = chance.randbytes(chance.randint(1, 64))


def repeat(data: bytearray, at: int, chance: random.Random) -> None:
    data[at:at] = data[at : at + chance.randint(1, 64)] * chance.randint(1, 50)


def exaggerate(data: bytearray, at: int, chance: random.Random) -> None:
    """A size or an offset as large or as small as its field."""
    end = min(len(data), at + chance.choice((2, 4)))
    data[at:end] = chance.choice((b"\xff", b"\x7f", b"\0")) * (end - at)


def behead(data: bytearray, at: int, chance: random.Random) -> None:
    """A fault in the header, which leads the furthest."""
    data[chance.randrange(min(64, len(data)))] = chance.randrange(256)


FAULTS = (cut, flip, scatter, blank, drop, insert, repeat, exaggerate, behead)


def mutate(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """`data` with some of the faults that disks, cables and programs leave in a file."""
    broken = bytearray(data)
    if chance.random() < 0.1:
        at = chance.randrange(len(broken))
        broken[at:] = other[at:]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if broken:
            chance.choice(FAULTS)(broken, chance.randrange(len(broken)), chance)
    return bytes(broken)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that ask for far more than they hold."""
    side = 60_000
    yield "empty", b""
    yield "zeros", bytes(100_000)
    yield "png size", builders.png_header(side, side)
    yield "png past 32 bits", builders.png_header(0xFFFFFFFF, 0xFFFFFFFF)
    rows = zlib.compress(bytes(128_000_000), 9)
    head = builders.png_header(100_000, 1_280)[:-8]
    yield "png of zeros", head + builders.png_chunk(b"IDAT" + rows) + builders.png_chunk(b"IEND")
    text = builders.png_chunk(b"zTXtcomment\0\0" + zlib.compress(bytes(200_000_000), 9))
    yield "png text", builders.png_header(8, 8)[:33] + text * 3
    profile = builders.png_chunk(b"iCCPicc\0\0" + zlib.compress(bytes(200_000_000), 9))
    yield "png profile", builders.png_header(8, 8)[:33] + profile
    gif = bytearray(builders.encoded(builders.scene(), "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    yield "gif size", bytes(gif)
    gif = bytearray(builders.encoded(builders.scene(), "GIF"))
    at = gif.index(b",", 13 + 3 * 256)
    gif[at + 5 : at + 9] = struct.pack("<HH", 65535, 65535)
    yield "gif frame", bytes(gif)
    yield "gif comments", bytes(gif[:at]) + b"!\xfe\xff" * 200_000
    yield "gif blocks", bytes(gif[:at]) + b"!\xfe" + b"\x01a" * 2_000_000
    canvas = b"VP8X\x0a\0\0\0\x02\0\0\0" + (16382).to_bytes(3, "little") * 2
    yield "webp size", b"RIFF" + struct.pack("<L", 4 + len(canvas)) + b"WEBP" + canvas
    for name, width, height, strip in (
        ("tiff size", side, side, 100),
        ("tiff strip", 64, 48, 0xFFFFFFF0),
        ("tiff sixteen bits", 10_000, 10_000, 100),
    ):
        table = [(256, 4, [width]), (257, 4, [height]), (258, 3, [8, 8, 8]), (259, 3, [8])]
        table += [(262, 3, [2]), (273, 4, [8]), (277, 3, [3]), (278, 4, [height])]
        table += [(279, 4, [strip])]
        yield name, b"II*\0\x08\0\0\0" + builders.directory(table, 8)
    entries = b"".join(struct.pack("<HHLL", tag, 7, 900_000, 0) for tag in range(60_000))
    tags = b"II*\0\x08\0\0\0" + struct.pack("<H", 60_000) + entries + bytes(300_000)
    yield "tiff tags", tags
    yield (
        "tiff pages",
        b"II*\0\x08\0\0\0" + (struct.pack("<HHHLL", 1, 256, 4, 1, 1) + b"\x08\0\0\0"),
    )
    png = builders.encoded(builders.scene(), "PNG")
    yield "png exif tags", png[:33] + builders.png_chunk(b"eXIf" + tags) + png[33:]
    bmp = bytearray(builders.encoded(builders.scene(), "BMP"))
    bmp[18:26] = struct.pack("<ll", 0x7FFFFFFF, -0x7FFFFFFF)
    yield "bmp size", bytes(bmp)
    jpeg = builders.encoded(builders.scene(), "JPEG", progressive=True)
    at = jpeg.index(b"\xff\xc2")
    yield "jpeg size", jpeg[: at + 5] + struct.pack(">HH", 65500, 65500) + jpeg[at + 9 :]
    at, end = jpeg.index(b"\xff\xda"), jpeg.rindex(b"\xff\xd9")
    yield "jpeg scans", jpeg[:at] + jpeg[at:end] * 3000 + jpeg[end:]
    yield "jpeg segments", jpeg[:2] + (b"\xff\xe1\0\x08Exif\0\0") * 100_000 + jpeg[2:]
    yield (
        "jpeg profile",
        jpeg[:2] + (b"\xff\xe2\0\x12ICC_PROFILE\0\x01\xff\0\0") * 60_000 + jpeg[2:],
    )
    laughs = b'<!DOCTYPE x [<!ENTITY a "ha">'
    laughs += b"".join(b'<!ENTITY %c "%b">' % (98 + n, b"&%c;" % (97 + n) * 20) for n in range(9))
    yield "xmp laughs", builders.encoded(builders.scene(), "JPEG", xmp=laughs + b"]><x>&j;</x>")
    for kind in ("AVIF", "HEIC"):
        data = bytearray(whole_files(kind)[0])
        at = data.index(b"ispe") + 8
        data[at : at + 8] = struct.pack(">LL", side, side)
        yield f"{kind.lower()} size", bytes(data)
    dng = whole_files("DNG")[0]
    length = dng.rindex(struct.pack("<HHL", 279, 4, 1)) + 8
    yield "dng strip", dng[:length] + b"\xf0\xff\xff\xff" + dng[length + 4 :]
    for name, start in (("svg", b"<svg xmlns="), ("eps", b"%!PS-Adobe-3.0 EPSF"), ("pdf", b"%PDF")):
        yield name, start + bytes(1000)


def broken_files(kind: str, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` files of one kind under names that may lie about it; or the bombs."""
    if kind == "BOMB":
        yield from bombs()
        return
    chance = random.Random(f"{kind} {seed}")
    whole = whole_files(kind)
    for number in range(count):
        data = mutate(chance.choice(whole), chance.choice(whole), chance)
        yield f"{kind} {seed} {number}{chance.choice(SUFFIXES)}", data


def say(fact: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


class Named(io.BytesIO):
    """A stream with the name of a file."""

    name = ""


def main(kind: str, count: int, seed: int) -> None:
    """Say what becomes of each file; the name is said before it is read."""
    warnings.simplefilter("ignore")
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for name, data in broken_files(kind, count, seed):
        say({"name": name, "bytes": len(data)})
        stream = Named(data)
        stream.name = name
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        started = time.monotonic()
        reason = None
        try:
            picture = read_picture(stream, min_side=16)
            assert picture.image.mode == "RGB" and picture.frames >= 1
            picture.image.tobytes()
        except ImageError as error:
            reason = error.reason
        seconds = time.monotonic() - started
        faulthandler.cancel_dump_traceback_later()
        say({"reason": reason, "seconds": round(seconds, 3)})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
