"""Lists of paths, read back by the programs that they are for."""

import os
import subprocess
from pathlib import Path

import pytest

from rwkvsearch.ui.api.path_lists import Form, path_list

NAMES = [
    b"/plain.jpg",
    b"/with space.jpg",
    b"/it's.jpg",
    b'/"><img src=x onerror=alert(1)>.jpg',
    b"/line\nfeed\ttab.jpg",
    b"/$(touch x)`id`;&|!.jpg",
    b"/caf\xe9 d'or\\.jpg",
    b"/\xe9abc0.jpg",
    b"/~/*?[a].jpg",
    "/größe-日本.jpg".encode(),
    "/right-to-left-\u202e.jpg".encode(),
    b"/-rf",
]
PATHS = [Path(os.fsdecode(name)) for name in NAMES]


def test_a_shell_reads_the_words_as_the_names() -> None:
    words = path_list(PATHS, "shell")
    assert words.count(b"\n") == 1
    words.decode()  # can be pasted
    command = b"printf '%s\\0' " + words
    read = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, check=True)
    assert read.stdout.split(b"\0")[:-1] == NAMES


def test_xargs_reads_the_names() -> None:
    read = subprocess.run(
        ["xargs", "-0", "printf", "%s\\0"],
        input=path_list(PATHS, "nul"),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert read.stdout.split(b"\0")[:-1] == NAMES


def test_lines() -> None:
    assert path_list(PATHS[:2], "lines") == b"/plain.jpg\n/with space.jpg\n"


@pytest.mark.parametrize("form", ["lines", "nul", "shell"])
def test_nothing(form: Form) -> None:
    assert path_list([], form) == b""
