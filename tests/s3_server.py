"""As much of S3 as reading takes: list, head and get of objects that are held in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Thing(NamedTuple):
    content: bytes
    changed: int  # seconds since 1970


Bucket = dict[str, Thing]


class Handler(BaseHTTPRequestHandler):
    buckets: dict[str, Bucket]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        name, _, key = unquote(asked.path).lstrip("/").partition("/")
        bucket = self.buckets.get(name)
        if bucket is None:
            self._reply(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        elif not key:
            self._reply(200, _listing(bucket, parse_qs(asked.query)))
        elif key not in bucket:
            self._reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._send(bucket[key])

    def _send(self, thing: Thing) -> None:
        asked = self.headers.get("Range")
        first, last = 0, len(thing.content) - 1
        if asked:
            words = asked.removeprefix("bytes=").split("-")
            first, last = int(words[0]), min(last, int(words[1] or last))
        headers = {
            "Last-Modified": formatdate(thing.changed, usegmt=True),
            "Content-Range": f"bytes {first}-{last}/{len(thing.content)}",
        }
        self._reply(206 if asked else 200, thing.content[first : last + 1], headers)

    def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for word, value in (headers or {}).items():
            self.send_header(word, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(buckets: dict[str, Bucket]) -> Iterator[str]:
    """The address of a server; what it holds may change meanwhile."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"buckets": buckets}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _listing(bucket: Bucket, asked: dict[str, list[str]]) -> bytes:
    prefix, delimiter = asked.get("prefix", [""])[0], asked.get("delimiter", [""])[0]
    keys, folders = [], set()
    for key in sorted(bucket):
        if key.startswith(prefix):
            inner, slash, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if slash:
                folders.add(prefix + inner + slash)
            else:
                keys.append(key)
    rows = [
        f"<Contents><Key>{escape(key)}</Key><Size>{len(bucket[key].content)}</Size>"
        f"<LastModified>{_moment(bucket[key].changed)}</LastModified></Contents>"
        for key in keys
    ]
    rows += [f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders]
    count = f"<KeyCount>{len(rows)}</KeyCount><IsTruncated>false</IsTruncated>"
    return f"<ListBucketResult>{count}{''.join(rows)}</ListBucketResult>".encode()


def _moment(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
