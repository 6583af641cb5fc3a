"""What pictures say about themselves, well and badly written."""

import io
import random
import tracemalloc
from types import ModuleType

import pytest
from PIL.PngImagePlugin import PngInfo

from rwkvsearch.data.exif import read_exif
from rwkvsearch.data.fields import Metadata, camera_name, merge, read_moment
from rwkvsearch.data.images import read_picture
from rwkvsearch.data.iptc import read_iptc
from rwkvsearch.data.texts import MAX_LENGTH, clean, join_keywords
from rwkvsearch.data.xmp import MAX_BYTES, read_xmp

LATITUDE = [(47, 1), (30, 1), (0, 1)]
LONGITUDE = [(8, 1), (3000, 100), (3600, 100)]


def everything(build: ModuleType, order: str = "<") -> bytes:
    main = [(0x010E, 2, b"A boat on the lake\0"), (0x010F, 2, b"Canon\0")]
    main += [(0x0110, 2, b"Canon EOS 40D\0"), (0x0112, 3, [6])]
    main += [(0x9C9C, 1, list("Ein Boot\0".encode("utf-16-le")))]
    main += [(0x9C9E, 1, list("lake;boat\0".encode("utf-16-le")))]
    inner = [(0x9003, 2, b"2019:06:03 12:33:01\0"), (0x9004, 2, b"2019:06:04 00:00:00\0")]
    inner += [(0x9286, 7, b"ASCII\0\0\0The old harbour"), (0xA434, 2, b"EF50mm f/1.8\0")]
    gps = [(1, 2, b"S\0"), (2, 5, LATITUDE), (3, 2, b"W\0"), (4, 5, LONGITUDE)]
    return build.exif(main, inner, gps, order)


EVERYTHING = Metadata(
    taken_at="2019-06-03T12:33:01",
    camera="Canon EOS 40D",
    lens="EF50mm f/1.8",
    latitude=-47.5,
    longitude=-8.51,
    texts=(
        ("exif", "A boat on the lake"),
        ("exif", "Ein Boot"),
        ("exif", "The old harbour"),
        ("keywords", "lake, boat"),
    ),
    orientation=6,
)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif(order: str, build: ModuleType) -> None:
    block = everything(build, order)
    assert read_exif(block) == EVERYTHING
    assert read_exif(block[6:]) == EVERYTHING


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif_of_each_format(kind: str, build: ModuleType) -> None:
    data = build.encoded(build.scene(), kind, exif=everything(build))
    found = read_picture(io.BytesIO(data)).metadata
    assert found == EVERYTHING


def test_exif_of_heic(build: ModuleType) -> None:
    pytest.importorskip("pillow_heif")
    found = read_picture(io.BytesIO(build.heic(build.scene(), exif=everything(build)))).metadata
    assert merge(Metadata(orientation=6), found) == EVERYTHING


def test_exif_of_tiff_and_raw(build: ModuleType) -> None:
    tiff = build.encoded(build.scene(), "TIFF", tiffinfo={270: "a pier", 271: "Acme"})
    picture = read_picture(io.BytesIO(tiff))
    assert picture.metadata == Metadata(camera="Acme", texts=(("exif", "a pier"),))
    pytest.importorskip("rawpy")
    jpeg = build.encoded(build.scene(320, 240), "JPEG")
    more = [(0x010E, 2, b"a pier\0"), (700, 1, list(build.xmp("<dc:subject>sea</dc:subject>")))]
    found = read_picture(io.BytesIO(build.dng(jpeg, more=more))).metadata
    assert found.texts == (("exif", "a pier"), ("keywords", "sea"))


def test_parts_of_cr3(build: ModuleType) -> None:
    from rwkvsearch.data.raw import raw_metadata

    def part(rows: list[tuple[int, int, object]]) -> bytes:
        return b"II*\0\x08\0\0\0" + build.directory(rows, 8)

    boxes = b"CMT1" + part([(0x010F, 2, b"Acme\0"), (0x0110, 2, b"One\0")])
    boxes += b"CMT2" + part([(0x9003, 2, b"2019:06:03 12:33:01\0")])
    boxes += b"CMT4" + part([(1, 2, b"N\0"), (2, 5, LATITUDE), (3, 2, b"E\0"), (4, 5, LONGITUDE)])
    found = raw_metadata(io.BytesIO(b"\0\0\0\x18ftypcrx " + boxes), "CR3")
    assert found == Metadata("2019-06-03T12:33:01", "Acme One", None, 47.5, 8.51)


def test_raw_profile_of_imagemagick(build: ModuleType) -> None:
    info = PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n  99\n{everything(build).hex()}")
    data = build.encoded(build.scene(), "PNG", pnginfo=info)
    picture = read_picture(io.BytesIO(data))
    assert picture.metadata == EVERYTHING
    assert (picture.width, picture.height) == (48, 64)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2019:06:03 12:33:01", "2019-06-03T12:33:01"),
        ("2019-06-03T12:33:01.25+02:00", "2019-06-03T12:33:01"),
        ("2019:06:03 12:33", "2019-06-03T12:33:00"),
        ("2019-06-03", "2019-06-03T00:00:00"),
        ("0000:00:00 00:00:00", None),
        ("2019:13:03 12:33:01", None),
        ("2019:02:30 12:33:01", None),
        ("2019:06:03 25:33:01", None),
        ("    :  :     :  :  ", None),
        ("9999:06:03 12:33:01", None),
        ("2019", None),
        ("", None),
    ],
)
def test_moments(text: str, expected: str | None) -> None:
    assert read_moment(text) == expected


def test_the_original_date_comes_first_and_an_impossible_one_not_at_all(build: ModuleType) -> None:
    bad = (0x9003, 2, b"0000:00:00 00:00:00\0")
    digitized = (0x9004, 2, b"2019:06:04 00:00:01\0")
    assert read_exif(build.exif([], [bad, digitized])).taken_at == "2019-06-04T00:00:01"
    assert read_exif(build.exif([], [bad])).taken_at is None
    packet = build.xmp("", 'xmp:CreateDate="2001-02-03T04:05:06Z"')
    data = build.encoded(build.scene(), "JPEG", exif=build.exif([], [bad]), xmp=packet)
    assert read_picture(io.BytesIO(data)).metadata.taken_at == "2001-02-03T04:05:06"


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D750", "NIKON D750"),
        ("SONY", "ILCE-7", "SONY ILCE-7"),
        ("Apple", "", "Apple"),
        ("", "E-M5", "E-M5"),
        ("", "", None),
    ],
)
def test_camera_name(make: str, model: str, expected: str | None) -> None:
    assert camera_name(make, model) == expected


@pytest.mark.parametrize(
    ("gps", "expected"),
    [
        ([(1, 2, b"N\0"), (2, 5, LATITUDE), (3, 2, b"E\0"), (4, 5, LONGITUDE)], (47.5, 8.51)),
        ([(1, 2, b"N\0"), (2, 5, LATITUDE)], (None, None)),
        ([(2, 5, [(0, 1)] * 3), (4, 5, [(0, 1)] * 3)], (None, None)),
        ([(1, 2, b"N\0"), (2, 5, [(0, 1)] * 3), (3, 2, b"E\0"), (4, 5, [(0, 1)] * 3)], (0, 0)),
        ([(1, 2, b"N\0"), (2, 5, [(0, 0)] * 3), (3, 2, b"E\0"), (4, 5, LONGITUDE)], (None, None)),
        ([(1, 2, b"N\0"), (2, 5, [(91, 1)]), (3, 2, b"E\0"), (4, 5, LONGITUDE)], (None, None)),
        (
            [
                (1, 2, b"N\0"),
                (2, 5, [(47, 1), (30, 1), (0, 0)]),
                (3, 2, b"E\0"),
                (4, 5, LONGITUDE),
            ],
            (47.5, 8.51),
        ),
    ],
)
def test_positions(gps: list[object], expected: tuple[object, object], build: ModuleType) -> None:
    found = read_exif(build.exif([], None, gps))
    assert (found.latitude, found.longitude) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("  two\n lines\t", "two lines"),
        ("Café".encode(), "Café"),
        ("Café".encode("latin-1"), "Café"),
        ("Café".encode("utf-16"), "Café"),
        (b"padded\0\0\0garbage", "padded"),
        (b"\x01\x02\x03", ""),
        ("OLYMPUS DIGITAL CAMERA         ", ""),
        ("SONY DSC", ""),
        ("Default", ""),
        ("DSC00019", ""),
        ("000015", ""),
        ("---", ""),
        ("A digital camera on a table", "A digital camera on a table"),
        ("\ud800 half a pair", "? half a pair"),
    ],
)
def test_clean(value: str | bytes, expected: str) -> None:
    assert clean(value) == expected


def test_long_texts_are_cut(build: ModuleType) -> None:
    long = "word " * 5000
    assert len(clean(long)) <= MAX_LENGTH
    assert len(join_keywords(long.split())) <= MAX_LENGTH
    (text,) = read_exif(build.exif([(0x010E, 2, long.encode())])).texts
    assert len(text[1]) == MAX_LENGTH - 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"UNICODE\0" + "Höfe".encode("utf-16-le"), "Höfe"),
        (b"UNICODE\0" + "Höfe".encode("utf-16-be"), "Höfe"),
        (b"UNICODE\0" + "Höfe".encode("utf-16"), "Höfe"),
        (bytes(8) + b"plain", "plain"),
        (b"no mark at all", "no mark at all"),
        (b"ASCII\0\0\0" + bytes(200), None),
        (b"JIS\0\0\0\0\0\x1b$B", None),
    ],
)
def test_user_comment(value: bytes, expected: str | None, build: ModuleType) -> None:
    texts = read_exif(build.exif([], [(0x9286, 7, value)])).texts
    assert texts == ((("exif", expected),) if expected else ())


def test_iptc(build: ModuleType) -> None:
    fields = [(120, "Grüße".encode()), (105, b"News"), (25, b"sea"), (25, b"sun"), (25, b"sea")]
    block = build.iptc(*fields)
    expected = [("iptc", "Grüße"), ("iptc", "News"), ("keywords", "sea, sun")]
    assert read_iptc(block) == expected
    jpeg = build.with_iptc(build.encoded(build.scene(), "JPEG"), block)
    assert read_picture(io.BytesIO(jpeg)).metadata.texts == tuple(expected)
    tiff = build.encoded(build.scene(), "TIFF", tiffinfo={33723: block})
    assert read_picture(io.BytesIO(tiff)).metadata.texts == tuple(expected)


def test_xmp(build: ModuleType) -> None:
    inside = build.alternatives("dc:description", "A bridge", "Eine Brücke")
    inside += build.alternatives("dc:title", "Bridge")
    inside += (
        "<dc:subject><rdf:Bag><rdf:li>river</rdf:li><rdf:li>arch</rdf:li></rdf:Bag></dc:subject>"
    )
    packet = build.xmp(
        inside,
        'exif:DateTimeOriginal="2019-06-03T12:33:01+02:00" tiff:Make="Acme" tiff:Model="Acme 1" '
        'aux:Lens="50mm" exif:GPSLatitude="47,30.0N" exif:GPSLongitude="8,30,36W" '
        'tiff:Orientation="3"',
    )
    texts = (("xmp", "Bridge"), ("xmp", "A bridge"), ("keywords", "river, arch"))
    expected = Metadata("2019-06-03T12:33:01", "Acme 1", "50mm", 47.5, -8.51, texts, 3)
    assert read_xmp(packet) == expected
    for kind in ("JPEG", "WEBP", "AVIF"):
        data = build.encoded(build.scene(), kind, xmp=packet)
        found = read_picture(io.BytesIO(data)).metadata
        assert found.texts == texts, kind
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet.decode())
    data = build.encoded(build.scene(), "PNG", pnginfo=info)
    picture = read_picture(io.BytesIO(data))
    assert picture.metadata == expected
    assert build.difference(picture.image, build.scene().rotate(180)) < 1


def test_the_same_caption_in_three_places_is_one(build: ModuleType) -> None:
    data = build.encoded(
        build.scene(),
        "JPEG",
        exif=build.exif([(0x010E, 2, b"A bridge\0")]),
        xmp=build.xmp(build.alternatives("dc:description", "a BRIDGE")),
    )
    data = build.with_iptc(data, build.iptc((120, b"A bridge")))
    assert read_picture(io.BytesIO(data)).metadata.texts == (("exif", "A bridge"),)


def test_hostile_xmp_gives_nothing_and_soon(build: ModuleType) -> None:
    laughs = b'<!DOCTYPE x [<!ENTITY a "ha">' + b"".join(
        b'<!ENTITY %c "%b">' % (98 + n, b"&%c;" % (97 + n) * 20) for n in range(12)
    )
    for packet in (
        laughs + b"]><x>&m;</x>",
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>',
        b"<a>" * 300_000,
        b"<a>" * 100_000 + b"</a>" * 100_000,
        build.xmp("<dc:title>" + "x" * MAX_BYTES + "</dc:title>"),
        b"<",
        b"\xff\xfe\0",
        b"",
    ):
        assert read_xmp(packet) == Metadata()


def test_nested_descriptions_take_no_time(build: ModuleType) -> None:
    depth = 12_000
    inside = "<dc:title><rdf:Description>" * depth + "</rdf:Description></dc:title>" * depth
    assert read_xmp(build.xmp(inside)).texts == ()


def test_hostile_exif_takes_no_memory() -> None:
    rows = b"".join(
        tag.to_bytes(2, "little") + b"\x02\0" + (1 << 20).to_bytes(4, "little") + bytes(4)
        for tag in range(60_000)
    )
    block = b"II*\0\x08\0\0\0" + (60_000).to_bytes(2, "little") + rows
    tracemalloc.start()
    read_exif(block)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    loop = b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"
    assert read_exif(loop) == Metadata()


def test_no_block_that_is_cut_or_damaged_raises(build: ModuleType) -> None:
    chance = random.Random(1)
    packet = build.xmp(build.alternatives("dc:title", "Bridge"))
    blocks = {
        read_exif: everything(build),
        read_iptc: build.iptc((120, b"caption"), (25, b"word")),
        read_xmp: packet,
    }
    for read, whole in blocks.items():
        for cut in range(len(whole)):
            read(whole[:cut])
        for _ in range(500):
            data = bytearray(whole)
            for _ in range(chance.randint(1, 6)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            read(bytes(data))


def test_damaged_blocks_do_not_cost_the_picture(build: ModuleType) -> None:
    data = build.encoded(
        build.scene(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", icc_profile=b"no"
    )
    picture = read_picture(io.BytesIO(data))
    assert picture.metadata == Metadata() and picture.image.size == (64, 48)


def test_merge_takes_the_first_that_is_said() -> None:
    first = Metadata(camera="A", latitude=None, texts=(("exif", "one"),))
    second = Metadata(
        camera="B", latitude=1.0, longitude=2.0, texts=(("xmp", "One"), ("xmp", "two"))
    )
    both = merge(first, second)
    assert (both.camera, both.latitude, both.longitude) == ("A", 1.0, 2.0)
    assert both.texts == (("exif", "one"), ("xmp", "two"))
