"""Patterns of paths, with the meaning they have in an ignore file, as SQLite can look for them.

A pattern is relative to the root that a file belongs to; one that begins with `/` may as well be an
absolute path. The last pattern that fits a file decides, so `!*.png` takes back what an earlier one
gave. Where the first one begins with `!`, they say what is left out, each with its opposite.

SQLite's GLOB has no special `/`, so only the plainest patterns mean the same there. For the others
it finds every file that may fit, and `Globs.fits` decides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from pathspec import GitIgnoreSpec

from rwkvsearch.data.errors import QueryError

_NAME = r"[^*?\[\\/!#\s](?:[^*?\[\\/]*[^*?\[\\/\s])?"
_A_NAME = re.compile(rf"(?:\*\*/)?(\*?{_NAME}\*?)(/?)")
_A_PLACE = re.compile(rf"(?=.*/.)/?({_NAME}(?:/{_NAME})*)((?:/\*{{0,2}})?)")
_TOKEN = re.compile(r"\\(.)|([^*?/\\\[]+)|(\[)|[*?/]", re.DOTALL)


class SqlGlob(NamedTuple):
    """A pattern for GLOB, for a path between two `/`; `exact` if that is all the pattern means.

    `absolute` if it may as well fit the whole path, root and all.
    """

    pattern: bytes
    exact: bool
    absolute: bool


class Globs:
    """Some patterns, in their order.

    Raises:
        QueryError: one of them is none.
    """

    def __init__(self, globs: Sequence[str]) -> None:
        for glob in globs:
            _check(glob)
        lines = [line for glob in globs for line in _with_links_resolved(glob)]
        self.leave_out = lines[:1] != [] and lines[0].startswith("!")
        """Whether a file passes that does not fit."""
        if self.leave_out:
            lines = [line[1:] if line.startswith("!") else f"!{line}" for line in lines]
        self._lines = lines
        self._takes_back = any(line.startswith("!") for line in lines)
        self._anywhere = any(map(_is_absolute, lines))
        self._relative = GitIgnoreSpec.from_lines(lines)
        self._absolute = GitIgnoreSpec.from_lines(filter(_is_absolute, lines))
        self._whole: dict[str, GitIgnoreSpec] = {}

    @property
    def exact(self) -> bool:
        """Whether a file fits if GLOB says so for one of `sql`; else `fits` has to be asked."""
        return not self._takes_back and all(glob.exact for glob in self.sql)

    @property
    def sql(self) -> list[SqlGlob]:
        """At least one of them is true for every file that fits."""
        return [_as_sql(line) for line in self._lines if not line.startswith("!")]

    def passes(self, root: str, path: str) -> bool:
        """Whether the file `path` of `root` is one of those that are meant."""
        return self.fits(root, path) != self.leave_out

    def fits(self, root: str, path: str) -> bool:
        """Whether the patterns, the opposite ones where they say what is left out, fit a file."""
        if not self._anywhere:
            return self._relative.match_file(path)
        whole = f"{root}/{path}".lstrip("/")
        if not self._takes_back:
            return self._relative.match_file(path) or self._absolute.match_file(whole)
        if root not in self._whole:  # what takes back has to meet all others in one order
            lines = [one for line in self._lines for one in _at_root(root, line)]
            self._whole[root] = GitIgnoreSpec.from_lines(lines)
        return self._whole[root].match_file(whole)


def _at_root(root: str, line: str) -> list[str]:
    """A pattern that is relative to `root` as one of whole paths, and an absolute one as it is."""
    sign, line = ("!", line[1:]) if line.startswith("!") else ("", line)
    start = sign + escaped_path(root.rstrip("/"))
    if _is_absolute(line):
        return [sign + line, start + line]
    return [f"{start}{'/' if '/' in line.rstrip().rstrip('/') else '/**/'}{line}"]


def escaped_path(path: str) -> str:
    """An absolute path as a pattern."""
    return re.sub(r"[*?\[\\]", r"\\\g<0>", path)


def _check(glob: str) -> None:
    try:
        patterns = [*GitIgnoreSpec.from_lines([glob]).patterns]
    except ValueError:
        patterns = []
    if not glob.strip("!/ ") or all(pattern.include is None for pattern in patterns):
        raise QueryError(
            f"{glob!r} is no pattern of paths: write such as '*.png', '2019/**' or '/photos/**', "
            r"and a backslash before what is not special, as in '\#1' or '\[1]'"
        )


def _is_absolute(line: str) -> bool:
    return line.startswith(("/", "!/"))


def _with_links_resolved(glob: str) -> list[str]:
    """The pattern, and the same behind the links in its plain beginning: roots are resolved."""
    if not _is_absolute(glob):
        return [glob]
    sign, _, place = glob.partition("/")
    names = place.split("/")
    plain = next((at for at, name in enumerate(names) if re.search(r"[*?\[\\]", name)), len(names))
    head, rest = names[:plain], names[plain:]
    if head and not head[-1]:  # what follows the last slash
        rest = [head.pop()]
    if not all(head):
        return [glob]
    here = "/" + "/".join(head)
    there = os.path.realpath(here)
    resolved = sign + "/".join([escaped_path(there.rstrip("/")), *rest])
    return [glob] if there == here else [glob, resolved]


def _as_sql(line: str) -> SqlGlob:
    absolute = _is_absolute(line)
    for shape, start in ((_A_NAME, "*/"), (_A_PLACE, "/")):
        if match := shape.fullmatch(line):
            end = "/?*" if match[2] else "/*"
            return SqlGlob(os.fsencode(f"{start}{match[1]}{end}"), True, absolute)
    pieces = []
    for escaped, plain, group in _TOKEN.findall(line.strip()):
        if group:
            break  # what it holds, and where it ends, is left to `fits`
        pieces.append(re.sub(r"[*?\[]", r"[\g<0>]", escaped or plain))
    return SqlGlob(os.fsencode("*".join(["", *filter(None, pieces), ""]) or "*"), False, absolute)
