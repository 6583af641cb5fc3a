"""Make picture files of every kind, whole or with one thing about them odd; loaded as `build`."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

Value = bytes | list[int] | list[tuple[int, int]]
Rows = list[tuple[int, int, Value]]
_CODES = {1: "B", 3: "H", 4: "L", 5: "LL", 10: "ll"}


def scene(width: int = 64, height: int = 48) -> Image.Image:
    """A smooth picture without any symmetry, so that a wrong turn or flip shows."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = x * 255 / max(1, width - 1), y * 255 / max(1, height - 1)
    return Image.fromarray(np.stack([red, green, 128 + 0 * x], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def difference(a: Image.Image, b: Image.Image) -> float:
    assert a.size == b.size
    return float(np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).mean())


def directory(rows: Rows, at: int, order: str = "<", link: int = 0) -> bytes:
    """A TIFF directory of (tag, type, value) that lies `at` bytes into its file."""
    start = at + 2 + 12 * len(rows) + 4
    table, data = struct.pack(order + "H", len(rows)), b""
    for tag, kind, value in sorted(rows, key=lambda row: row[0]):
        if isinstance(value, bytes):
            raw, count = value, len(value)
        else:
            parts = (v if isinstance(v, tuple) else (v,) for v in value)
            raw = b"".join(struct.pack(order + _CODES[kind], *part) for part in parts)
            count = len(value)
        if len(raw) <= 4:
            table += struct.pack(order + "HHL", tag, kind, count) + raw.ljust(4, b"\0")
        else:
            data += b"\0" * (len(data) % 2)
            table += struct.pack(order + "HHLL", tag, kind, count, start + len(data))
            data += raw
    return table + struct.pack(order + "L", link) + data


def exif(main: Rows, inner: Rows | None = None, gps: Rows | None = None, order: str = "<") -> bytes:
    """An EXIF block with the directories that are given."""
    rows, tail = list(main), b""
    size = 8 + len(directory([*rows, *[(0x8769 + i, 4, [0]) for i in range(2)]], 8, order))
    for tag, part in ((0x8769, inner), (0x8825, gps)):
        if part is not None:
            tail += b"\0" * ((size + len(tail)) % 2)
            rows.append((tag, 4, [size + len(tail)]))
            tail += directory(part, size + len(tail), order)
    head = directory(rows, 8, order).ljust(size - 8, b"\0")
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + magic + struct.pack(order + "L", 8) + head + tail


def xmp(inside: str, attributes: str = "") -> bytes:
    """An XMP packet with one description."""
    names = "".join(
        f' xmlns:{short}="{uri}"'
        for short, uri in {
            "dc": "http://purl.org/dc/elements/1.1/",
            "xmp": "http://ns.adobe.com/xap/1.0/",
            "exif": "http://ns.adobe.com/exif/1.0/",
            "tiff": "http://ns.adobe.com/tiff/1.0/",
            "aux": "http://ns.adobe.com/exif/1.0/aux/",
            "photoshop": "http://ns.adobe.com/photoshop/1.0/",
        }.items()
    )
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta '
        'xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about=""{names} {attributes}>{inside}</rdf:Description></rdf:RDF>'
        '</x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def alternatives(name: str, *texts: str) -> str:
    """An XMP property with one text per language, the first of them the default."""
    languages = ["x-default", "de", "fr"]
    items = zip(languages, texts, strict=False)
    inside = "".join(f'<rdf:li xml:lang="{code}">{text}</rdf:li>' for code, text in items)
    return f"<{name}><rdf:Alt>{inside}</rdf:Alt></{name}>"


def iptc(*fields: tuple[int, bytes]) -> bytes:
    """An IPTC block of datasets of record 2."""
    return b"".join(
        b"\x1c\x02" + bytes([number]) + struct.pack(">H", len(value)) + value
        for number, value in fields
    )


def with_iptc(jpeg: bytes, block: bytes) -> bytes:
    """A JPEG with an IPTC block, in the segment of Photoshop."""
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">L", len(block)) + block
    body = b"Photoshop 3.0\0" + resource + b"\0" * (len(block) % 2)
    return jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def dng(
    jpeg: bytes | None,
    size: tuple[int, int] = (320, 240),
    orientation: int = 1,
    raw: tuple[int, int] = (64, 48),
    more: Rows | None = None,
    bitmap: bool = False,
) -> bytes:
    """A DNG with an uncompressed raw picture and as its preview `jpeg`, or RGB bytes."""
    (width, height), (w, h) = size, raw
    pixels = (np.arange(w * h, dtype="<u2") % 4096).tobytes()
    preview = jpeg or b""
    body = pixels + preview + b"\0" * (len(preview) % 2)
    at = 8 + len(body)
    sub = b""
    if jpeg is not None:
        rows: Rows = [(254, 4, [1]), (256, 4, [width]), (257, 4, [height]), (258, 3, [8, 8, 8])]
        rows += [(259, 3, [1 if bitmap else 7]), (262, 3, [2 if bitmap else 6])]
        rows += [(273, 4, [8 + len(pixels)]), (277, 3, [3])]
        rows += [(278, 4, [height]), (279, 4, [len(preview)]), (284, 3, [1])]
        sub = directory(rows, at)
        sub += b"\0" * (len(sub) % 2)
    main: Rows = [(254, 4, [0]), (256, 4, [w]), (257, 4, [h]), (258, 3, [16]), (259, 3, [1])]
    main += [(262, 3, [32803]), (271, 2, b"Acme\0"), (272, 2, b"Acme One\0"), (273, 4, [8])]
    main += [(274, 3, [orientation]), (277, 3, [1]), (278, 4, [h]), (279, 4, [len(pixels)])]
    main += [(284, 3, [1]), (33421, 3, [2, 2]), (33422, 1, [0, 1, 1, 2]), (50706, 1, [1, 4, 0, 0])]
    unit = [(1, 1), (0, 1), (0, 1), (0, 1), (1, 1), (0, 1), (0, 1), (0, 1), (1, 1)]
    main += [(50708, 2, b"Acme One\0"), (50721, 10, unit), (50778, 3, [21]), (50717, 4, [4095])]
    if sub:
        main.append((330, 4, [at]))
    main += more or []
    start = at + len(sub)
    return b"II*\0" + struct.pack("<L", start) + body + sub + directory(main, start)


def icc(space: str, gamma: float, primaries: list[list[float]] | None = None) -> bytes:
    """An ICC profile: grey, or RGB with `primaries` as columns of XYZ at D50."""

    def fixed(value: float) -> bytes:
        return struct.pack(">l", round(value * 65536))

    def xyz(values: list[float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    white = [0.9642, 1.0, 0.8249]
    name = b"made by hand\0"
    described = b"desc\0\0\0\0" + struct.pack(">L", len(name)) + name + bytes(78)
    curve = b"curv\0\0\0\0" + struct.pack(">LH", 1, round(gamma * 256)) + b"\0\0"
    tags = {b"desc": described, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz(white)}
    if primaries is None:
        tags[b"kTRC"] = curve
    else:
        for letter, primary in zip((b"r", b"g", b"b"), primaries, strict=True):
            tags[letter + b"XYZ"], tags[letter + b"TRC"] = xyz(primary), curve
    table, data = struct.pack(">L", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += tag + struct.pack(">LL", start + len(data), len(value))
        data += value
    head = struct.pack(
        ">L4sL4s4s4s",
        start + len(data),
        b"lcms",
        0x02400000,
        b"mntr",
        space.encode().ljust(4),
        b"XYZ ",
    )
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += b"".join(map(fixed, white)) + bytes(48)
    return head + table + data


# Columns for the primaries of Adobe RGB (1998), adapted to D50, in a space with gamma 2.2.
WIDE = [[0.6097, 0.3111, 0.0195], [0.2053, 0.6257, 0.0609], [0.1492, 0.0632, 0.7446]]


def png_header(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(head) + struct.pack(">I", 99) + b"IDAT"


def png_chunk(named: bytes) -> bytes:
    return struct.pack(">I", len(named) - 4) + named + struct.pack(">I", zlib.crc32(named))


def heic(image: Image.Image, **options: object) -> bytes:
    """Needs pillow-heif."""
    import pillow_heif

    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, **options)
    return stream.getvalue()
