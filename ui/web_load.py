"""Clients of a server, all at once, for a while: `python -m rwkvsearch.ui.web_load ADDRESS`.

A process of its own beside the server. Each client is a thread with one connection that is kept
open, and asks again as soon as it is answered. Prints one JSON object: requests, what went wrong,
milliseconds by kind of request.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np

KNOWN = (
    "a dog on the beach",
    "two children playing",
    "a man riding a bicycle",
    "people at night in a city",
    "a red car",
    "snow on a mountain",
    "a football match",
    "a girl in a blue dress",
)
_NOUNS = "dog cat man woman child horse boat bicycle car tree house river ball bird crowd".split()
_DOING = "running standing sleeping jumping waiting playing turning falling looking".split()
_WHERE = "beach street park forest kitchen bridge garden stadium station field market".split()
MIXED = {"known": 30, "new": 20, "thumb": 35, "filter": 8, "similar": 5, "upload": 2}
"""How often each kind of request is made by a mixed load."""
_PAGE = 48  # hits, as the search page asks for


@dataclass(frozen=True)
class Request:
    """One request of a kind."""

    kind: str
    path: str
    body: bytes | None = None


@dataclass
class Done:
    """What one client has met, or all of them."""

    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    wrong: Counter[str] = field(default_factory=Counter)


class Asking:
    """Makes requests; of new words no two are alike, in this run and in others."""

    def __init__(self, mix: dict[str, int], hits: list[dict[str, Any]], picture: bytes) -> None:
        self._mix = mix
        self._hits = hits
        self._picture = picture
        self._random = random.Random(time.time_ns())
        self._number = count()
        self._run = f"{time.time_ns() // 1_000_000:x}"

    def __call__(self) -> Request:
        """The next one."""
        kind = self._random.choices([*self._mix], [*self._mix.values()])[0]
        chosen = self._random.choice
        if kind == "thumb":
            return Request(kind, chosen(self._hits)["thumb"])
        if kind == "similar":
            return Request(
                kind, f"/api/v1/images/{chosen(self._hits)['image_id']}/similar?k={_PAGE}"
            )
        if kind == "upload":  # other bytes each time, or it would be known
            return Request(
                kind, "/api/v1/uploads", self._picture + f"{next(self._number)}".encode()
            )
        asked = {"q": self._words() if kind == "new" else chosen(KNOWN), "k": _PAGE}
        if kind == "filter":
            asked |= chosen(({"orientation": "portrait"}, {"min_width": 400}, {"format": "jpeg"}))
        return Request(kind, f"/api/v1/search?{urlencode(asked)}")

    def _words(self) -> str:
        noun, doing, where = map(self._random.choice, (_NOUNS, _DOING, _WHERE))
        return f"a {noun} {doing} near the {where}, number {self._run} {next(self._number)}"


def main() -> None:
    """Ask as the arguments say, and print what came of it."""
    asked = argparse.ArgumentParser(prog="python -m rwkvsearch.ui.web_load", description=__doc__)
    asked.add_argument("address", help="such as http://127.0.0.1:7860")
    asked.add_argument("--clients", type=int, default=1)
    asked.add_argument("--seconds", type=float, default=5)
    asked.add_argument("--kind", default="known", choices=["mixed", *MIXED])
    asked.add_argument("--picture", type=Path, help="what `upload` sends")
    options = asked.parse_args()
    picture = options.picture.read_bytes() if options.picture else b""
    mix = MIXED if options.kind == "mixed" else {options.kind: 1}
    found = load(options.address, options.clients, options.seconds, mix, picture)
    sys.stdout.write(json.dumps(found) + "\n")


def load(
    address: str, clients: int, seconds: float, mix: dict[str, int], picture: bytes
) -> dict[str, Any]:
    """Let so many clients ask for so long; what came of it as JSON."""
    asking = Asking(mix, list(_first_hits(address)), picture)
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        ends = [began + seconds] * clients
        parts = list(pool.map(lambda end: client(address, asking, end), ends))
    took = time.perf_counter() - began
    whole = Done()
    for part in parts:
        whole.wrong += part.wrong
        for kind, times in part.milliseconds.items():
            whole.milliseconds.setdefault(kind, []).extend(times)
    everything = [one for times in whole.milliseconds.values() for one in times]
    return {
        "clients": clients,
        "seconds": round(took, 2),
        "requests": len(everything) + whole.wrong.total(),
        "wrong": dict(whole.wrong),
        "per_second": round(len(everything) / took, 1),
        "all": quantiles(everything),
        "kinds": {kind: quantiles(times) for kind, times in sorted(whole.milliseconds.items())},
    }


def client(address: str, asking: Callable[[], Request], end: float) -> Done:
    """One client, until `end` by `perf_counter`."""
    done = Done()
    connection = _connection(address)
    while (began := time.perf_counter()) < end:
        request = asking()
        try:
            status = _status(connection, request)
        except (OSError, HTTPException) as error:
            connection.close()
            done.wrong[f"{request.kind}: {type(error).__name__}"] += 1
            continue
        if status >= 400:
            done.wrong[f"{request.kind}: {status}"] += 1
            continue
        spent = 1000 * (time.perf_counter() - began)
        done.milliseconds.setdefault(request.kind, []).append(spent)
    connection.close()
    return done


def quantiles(milliseconds: list[float]) -> dict[str, float]:
    """Median and tail of times."""
    if not milliseconds:
        return {"n": 0}
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99]).round(2).tolist()
    return {"n": len(milliseconds), "p50": p50, "p90": p90, "p99": p99}


def get(address: str, path: str) -> Any:
    """The JSON at a path; `OSError` if there is none."""
    with closing(_connection(address)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        data = answer.read()
    if answer.status >= 400:
        raise OSError(f"{address}{path}: {answer.status}")
    return json.loads(data)


def _first_hits(address: str) -> Iterator[dict[str, Any]]:
    """The hits of what is known; asking for them makes it so."""
    for text in KNOWN:
        yield from get(address, f"/api/v1/search?{urlencode({'q': text, 'k': _PAGE})}")["hits"]


def _status(connection: HTTPConnection, request: Request) -> int:
    """Ask, and read the whole answer."""
    headers = {"Content-Type": "application/octet-stream"} if request.body else {}
    method = "POST" if request.body else "GET"
    connection.request(method, request.path, request.body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def _connection(address: str) -> HTTPConnection:
    return HTTPConnection(urlsplit(address).netloc, timeout=60)


if __name__ == "__main__":
    main()
