"""What SQLite's GLOB is asked for, against what pathspec says of the same pattern."""

import sqlite3

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.globs import Globs

NAMES = st.text("ab.[]*? -é", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PARTS = st.sampled_from(
    [
        "*",
        "**",
        "?",
        "/",
        "/**/",
        "/**",
        "/*",
        "**/",
        "a",
        "b",
        ".a",
        "[ab]",
        "[!a]",
        r"\*",
        r"\[",
        " ",
    ]
)
PATTERNS = st.lists(PARTS, min_size=1, max_size=5).map("".join)
SQL = sqlite3.connect(":memory:")


def globbed(pattern: bytes, path: str) -> bool:
    asked = "SELECT '/' || CAST(? AS TEXT) || '/' GLOB CAST(? AS TEXT)"
    return bool(SQL.execute(asked, (path.encode(), pattern)).fetchone()[0])


@given(PATTERNS, PATHS)
@example("a/**/b", "a/b")
@example("**/a", "a")
@example("a*", "b/ab/c")
@example("*a", "ba")
@example("a/", "a")
@example("a/*", "a")
@example("/a", "b/a")
@example(r"a\ ", "a ")
@settings(max_examples=300)
def test_glob_finds_what_fits_and_says_when_that_is_all(pattern: str, path: str) -> None:
    try:
        globs = Globs([pattern])
    except QueryError:
        return
    (sql,) = globs.sql
    fits = GitIgnoreSpec.from_lines([pattern]).match_file(path)
    found = globbed(sql.pattern, path)
    assert found or not fits
    assert found == fits or not sql.exact
    assert sql.absolute == pattern.startswith("/")
    assert globs.fits("/", path) == fits


@given(st.lists(st.tuples(st.booleans(), PATTERNS), min_size=1, max_size=3), PATHS)
@settings(max_examples=300)
def test_several_patterns(marked: list[tuple[bool, str]], path: str) -> None:
    lines = [f"!{pattern}" if taken else pattern for taken, pattern in marked]
    try:
        globs = Globs(lines)
    except QueryError:
        return
    left_out = lines[0].startswith("!")
    opposite = [pattern if taken else f"!{pattern}" for taken, pattern in marked]
    spec = GitIgnoreSpec.from_lines(opposite if left_out else lines)
    assert globs.passes("/", path) == (spec.match_file(path) != left_out)
    if not any(line.startswith(("/", "!/")) for line in lines):
        assert globs.passes("/photos [a]", path) == globs.passes("/", path)
    assert globs.leave_out == left_out
    assert not spec.match_file(path) or any(globbed(sql.pattern, path) for sql in globs.sql)
    assert not (globs.exact and len({taken for taken, _ in marked}) > 1)


@pytest.mark.parametrize(
    ("pattern", "sql"),
    [
        ("*.png", b"*/*.png/*"),
        ("holiday", b"*/holiday/*"),
        ("**/holiday/", b"*/holiday/?*"),
        ("IMG_*", b"*/IMG_*/*"),
        ("2019/**", b"/2019/?*"),
        ("2019/06/*", b"/2019/06/?*"),
        ("/2019", b"/2019/*"),
    ],
)
def test_what_people_write_needs_sqlite_alone(pattern: str, sql: bytes) -> None:
    globs = Globs([pattern])
    assert globs.exact and [glob.pattern for glob in globs.sql] == [sql]


@pytest.mark.parametrize(
    ("globs", "passing"),
    [
        (["!holiday"], "a.png b/a.png"),
        (["!*.png"], "holiday/a.jpg"),
        (["!*.png", "b/**"], "b/a.png holiday/a.jpg"),
        (["*.png", "!holiday/**"], "a.png b/a.png"),
    ],
)
def test_what_is_left_out(globs: list[str], passing: str) -> None:
    paths = ["a.png", "b/a.png", "holiday/a.jpg", "holiday/a.png"]
    found = Globs(globs)
    assert " ".join(path for path in paths if found.passes("/photos", path)) == passing


def test_an_absolute_pattern_fits_the_whole_path() -> None:
    assert Globs(["/photos/*/a.png"]).passes("/photos/in", "a.png")
    assert not Globs(["photos/*/a.png"]).passes("/photos/in", "a.png")
    assert Globs(["/photos/**", "!/photos/in/*.png"]).passes("/photos/in", "a.jpg")
    assert not Globs(["/photos/**", "!/photos/in/*.png"]).passes("/photos/in", "a.png")
    assert not Globs(["/photos/**", "!/*.png"]).passes("/photos/in", "a.png")
    assert Globs(["/photos/**", "!/*.png"]).passes("/photos/in", "b/a.png")
    assert Globs(["!/photos/**", "*.png"]).passes("/photos/in", "a.png")
