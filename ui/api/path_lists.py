"""Paths as text that other programs take: lines, NUL-separated, or words for a shell."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

Form = Literal["lines", "nul", "shell"]


def path_list(paths: Iterable[Path], form: Form) -> bytes:
    """The bytes of all paths; lines end in a line feed, NUL ends each of `nul`."""
    names = [os.fsencode(path) for path in paths]
    if form == "shell":
        return b" ".join(map(shell_word, names)) + b"\n" if names else b""
    end = b"\n" if form == "lines" else b"\0"
    return b"".join(name + end for name in names)


def shell_word(name: bytes) -> bytes:
    r"""A word that bash, zsh and ksh read as `name`; bytes that cannot be pasted as `\xNN`."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and text.isprintable():
        return shlex.quote(text).encode()
    plain = frozenset(range(0x20, 0x7F)) - frozenset(b"\\'")
    body = "".join(chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in name)
    return f"$'{body}'".encode()
