"""The whole server, as it is served, attacked at every route that its applications have.

The routes are read from the applications themselves, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import re
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest
import uvicorn
from gradio import processing_utils
from gradio.routes import App as GradioApp
from PIL import Image
from starlette.routing import Mount

from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.ui.api.guards.probes import PROBES
from rwkvsearch.ui.api.running import assemble
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.api.settings import Settings

pytestmark = pytest.mark.server

TOKEN = "correct-horse-battery-staple"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/json"}
HOSTILE = '"><img src=x onerror=alert(1)>.png'
SECRET = b"the-secret-that-must-not-be-served"
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class World:
    """A server that runs, and what it must not give away."""

    app: Any
    port: int
    photos: Path
    home: Path
    outside: bytes
    hidden: bytes

    @property
    def fastapi(self) -> Any:
        return self.app.app.app

    def ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: Any = None,
        chunked: bool = False,
    ) -> Answer:
        """Send `path` as it stands, with the token unless other headers are given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with closing(connection):
            connection._validate_path = lambda _: None  # type: ignore[attr-defined]
            sent = BEARER if headers is None else headers
            connection.request(method, path, body, sent, encode_chunked=chunked)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            streams = found.get("content-type", "").startswith("text/event-stream")
            endless = streams and method == "GET"
            return Answer(answer.status, found, b"" if endless else answer.read())

    def call(self, target: str, **fields: Any) -> Any:
        answer = self.ask("GET", f"{target}?{urlencode(fields)}" if fields else target)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)


def png(colour: tuple[int, int, int] | None = None, seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = Image.new("RGB", (32, 32), colour) if colour else Image.fromarray(noise)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def world(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    base = tmp_path_factory.mktemp("world")
    photos, home, away = base / "photos", base / "home", base / "away"
    outside, hidden = png((1, 2, 3)), png((3, 2, 1))
    for folder in (photos / "trip", away):
        folder.mkdir(parents=True)
    for seed in range(6):
        (photos / "trip" / f"{seed}.png").write_bytes(png(seed=seed))
    (photos / HOSTILE).write_bytes(png(seed=77))
    (photos / "wren.png").write_bytes(png(seed=78))
    (photos / "wren.txt").write_text("<script>alert(2)</script> a wren")
    (photos / ".hidden.png").write_bytes(hidden)
    (photos / "secret.txt").write_bytes(SECRET)
    (away / "outside.png").write_bytes(outside)
    (away / "secret.txt").write_bytes(SECRET)
    (photos / "link.png").symlink_to(away / "outside.png")
    (photos / "text.png").symlink_to(away / "secret.txt")
    (photos / "out").symlink_to(away)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rwkvsearch.retrieval.models._SHIPPED", weights)
        patch.setenv("RWKVSEARCH_HOME", str(home))
        with Library.create(home) as library:
            sync(library, [photos], Encoder.load("starter"))
        (home / "secret.txt").write_bytes(SECRET)
        (home / "thumbs").mkdir(exist_ok=True)
        (home / "thumbs" / "link.webp").symlink_to(away / "secret.txt")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            settings = Settings(home, port=port, token=TOKEN, max_upload_bytes=1 << 20)
            with running(settings, listener) as app:
                yield World(app, port, photos, home, outside, hidden)


@contextmanager
def running(settings: Settings, listener: socket.socket) -> Iterator[Any]:
    with closing(Service(settings)) as service:

        async def made() -> Any:  # outside of a loop Gradio makes one and leaves it open
            return assemble(service)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # several pages, not rendered by a server
            app = asyncio.run(made())
        config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        assert service.warm.wait(60)
        yield app
        server.should_exit = True
        thread.join()


def routes_of(routes: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path template of every route, those of mounted applications included."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes_of(inner.routes, prefix + route.include_context.prefix)
        elif isinstance(route, Mount):
            yield from routes_of(route.routes, prefix + route.path)
            yield "GET", f"{prefix}{route.path}/anything"
            yield "POST", f"{prefix}{route.path}/"
        else:
            path = prefix + (getattr(route, "path", None) or "/unknown")
            yield from (
                (method, path) for method in sorted(getattr(route, "methods", None) or {"GET"})
            )


PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


def filled(template: str, value: str = "1") -> str:
    return PARAMETER.sub(lambda _: value, template)


@pytest.fixture(scope="module")
def routes(world: World) -> list[tuple[str, str]]:
    found = sorted(set(routes_of(world.fastapi.routes)))
    paths = {path for _, path in found}
    for known in ("/api/v1/search", "/api/v1/images/{id}", "/gradio_api/upload", "/openapi.json"):
        assert known in paths
    assert len(found) > 100
    return found


def test_no_route_answers_without_the_token(ask: Any, world: World, routes: Any) -> None:
    cookie = f"rwkvsearch-{world.port}"
    attempts: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": f"{cookie}={TOKEN}; token={TOKEN}"},
        {"Accept": "text/html"},
    ]
    for number, (method, template) in enumerate(routes):
        for headers in attempts:
            own = {**headers, "Host": "localhost", "Sec-Fetch-Site": "same-origin"}
            query = f"token={TOKEN}&access_token={TOKEN}"
            client = f"10.0.{number // 250}.{number % 250}"
            path = filled(template)
            got = ask(world.app, method, path, own, b"{}", query=query, client=client)
            if path in PROBES and method in {"GET", "HEAD"}:
                assert got.status == 200 and got.body in (b"", b"alive\n", b"ready\n")
            elif path == "/login":
                assert got.status in {200, 401, 405} and SECRET not in got.body
            elif "Accept" in headers and method in {"GET", "HEAD"}:
                assert got.status == 303 and got.headers["location"].startswith("/login")
            else:
                assert got.status == 401, (method, path, headers)
                assert got.headers["www-authenticate"].startswith("Bearer")
            assert "set-cookie" not in got.headers
            assert HEADERS.items() <= got.headers.items(), (method, path)


def test_probes_tell_one_word_to_anybody(ask: Any, world: World, routes: Any) -> None:
    assert {path for _, path in routes} >= PROBES
    for path, word in {"/healthz": b"alive\n", "/readyz": b"ready\n"}.items():
        for host in ("10.0.0.7:7860", "evil.example", ""):
            got = ask(world.app, "GET", path, {"Host": host}, query="q=x&token=y")
            assert (got.status, got.body) == (200, word)
            assert HEADERS.items() <= got.headers.items() and "set-cookie" not in got.headers
            assert not [name for name in got.headers if name.startswith("access-control")]
        assert ask(world.app, "HEAD", path, {}).status == 200
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert ask(world.app, method, path, {"Host": "localhost"}).status == 401
        for near in (
            f"{path}/",
            f"/{path}",
            f"{path}/x",
            f"{path}%2e",
            path.upper(),
            f"/x/..{path}",
        ):
            assert ask(world.app, "GET", near, {"Host": "localhost"}).status in {401, 404}
        assert ask(world.app, "GET", path, {}, kind="websocket").closed


def test_no_web_socket_opens(ask: Any, world: World, routes: Any) -> None:
    for _, template in routes:
        for headers in ({}, BEARER):
            own = {**headers, "Host": "localhost"}
            assert ask(world.app, path=filled(template), headers=own, kind="websocket").closed


def test_no_route_answers_to_another_name(ask: Any, world: World, routes: Any) -> None:
    others = [route for route in routes if route[1] not in PROBES]
    for method, template in [*others, ("GET", "/login"), ("POST", "/healthz")]:
        for host in ("evil.example", f"evil.example:{world.port}", "localhost.evil.example"):
            got = ask(world.app, method, filled(template), {**BEARER, "Host": host}, b"{}")
            assert got.status == 403, (method, template)


def test_no_route_is_changed_by_another_site(ask: Any, world: World, routes: Any) -> None:
    sites: list[dict[str, str]] = [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"},
    ]
    unsafe = {(method, path) for method, path in routes if method not in {"GET", "HEAD", "OPTIONS"}}
    assert len(unsafe) > 20
    for method, template in [*unsafe, ("POST", "/login"), ("POST", "/logout")]:
        for site in sites:
            own = {**BEARER, **JSON, "Host": "localhost", **site}
            assert ask(world.app, method, filled(template), own, b"{}").status == 403, template


def test_nothing_of_a_page_is_loaded_by_another_site(ask: Any, world: World, routes: Any) -> None:
    loading = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Host": "localhost"}
    for method, template in routes:
        assert ask(world.app, method, filled(template), {**BEARER, **loading}).status == 403


ATTACKS = [
    *("../../../../../../etc/passwd", "..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd"),
    *("..%252f..%252f..%252fetc%252fpasswd", "%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/etc/passwd"),
    *("....//....//etc/passwd", "..%5c..%5cetc%5cpasswd", "%c0%ae%c0%ae%c0%afetc/passwd"),
    *(
        "1%00.png",
        "%00",
        "file:%2f%2f%2fetc%2fpasswd",
        "%0d%0aSet-Cookie:%20a=b",
        "~%2f.ssh%2fid_rsa",
    ),
    *(
        "{photos}/secret.txt",
        "{photos}/.hidden.png",
        "{photos}/link.png",
        "{photos}/out/secret.txt",
    ),
    *("{home}/library.sqlite", "..%2flibrary.sqlite", "link", "link.webp", "../secret.txt"),
    *("0", "-1", "1e3", "0x1", "99999999999999999999999999", "1%20OR%201=1", "1';DROP TABLE files"),
    *("%F0%9F%98%80", "%ff%fe", "a" * 5000, "%3Cimg%20src=x%20onerror=alert(1)%3E", "None", "*"),
]


def attacks(world: World) -> list[str]:
    known = {"{photos}": str(world.photos), "{home}": str(world.home)}
    found = []
    for attack in ATTACKS:
        for name, folder in known.items():
            attack = attack.replace(name, quote(folder, safe=""))
        found.append(attack.replace(" ", "%20"))
    return found


def check(world: World, answer: Answer, what: Any) -> None:
    """Nothing that is not of the library, no markup, no failure, and all headers."""
    assert answer.status < 500 or answer.status == 503, (what, answer.body)
    for secret in (SECRET, b"root:x:", b"SQLite format", world.outside, world.hidden):
        assert secret not in answer.body, what
    assert HEADERS.items() <= answer.headers.items(), what
    assert "set-cookie" not in answer.headers, what
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], what
    assert not any(name.startswith("access-control-") for name in answer.headers), what
    if answer.headers.get("content-type", "").startswith("text/html"):
        assert b"<img src=x" not in answer.body, what
    assert b"Traceback" not in answer.body, what


def test_no_path_leads_out(world: World, routes: Any) -> None:
    with_parameters = [(method, path) for method, path in routes if PARAMETER.search(path)]
    assert len(with_parameters) > 30
    for method, template in with_parameters:
        for attack in attacks(world):
            path = filled(template, attack)
            check(world, world.ask(method, path, {**BEARER, **JSON}, b"{}"), (method, path))
    for attack in attacks(world):
        for path in (f"/{attack}", f"/assets/../{attack}", f"/gradio_api/file={attack}", attack):
            check(world, world.ask("GET", path), path)


def test_no_query_leads_out(world: World) -> None:
    paths = world.call("/openapi.json")["paths"]
    asked = 0
    for path, methods in paths.items():
        for parameter in methods.get("get", {}).get("parameters", []):
            if parameter["in"] != "query":
                continue
            for attack in attacks(world)[::4]:
                target = f"{filled(path)}?{parameter['name']}={attack}"
                answer = world.ask("GET", target)
                check(world, answer, target)
                asked += 1
    assert asked > 300


def test_every_answer_carries_the_headers(world: World, routes: Any) -> None:
    quiet = {"/api/v1/sync", "/api/v1/map", "/api/v1/doctor"}  # which would start work
    for method, template in routes:
        if method == "POST" and template in quiet:
            continue
        path = filled(template)
        check(world, world.ask(method, path, {**BEARER, **JSON}, b"{}"), (method, path))


def test_hidden_files_and_links_are_not_in_the_library(world: World) -> None:
    hits = world.call("/api/v1/search", q="a wren", k=100)["hits"]
    names = {Path(hit["path"]).relative_to(world.photos).as_posix() for hit in hits}
    assert names == {*(f"trip/{seed}.png" for seed in range(6)), HOSTILE, "wren.png"}
    for hit in hits:
        original = world.ask("GET", f"/api/v1/images/{hit['image_id']}/original")
        assert original.body == Path(hit["path"]).read_bytes()
        assert original.headers["content-disposition"].startswith("attachment;")
        assert original.headers["content-type"] == "application/octet-stream"


def test_what_takes_the_place_of_a_picture_is_not_served(world: World) -> None:
    (hit,) = world.call("/api/v1/search", q="x", path="trip/5.png")["hits"]
    file, kept = Path(hit["path"]), Path(hit["path"]).read_bytes()
    routes = [f"/api/v1/images/{hit['image_id']}/original", f"{hit['thumb']}?size=1600"]
    try:
        for target in (world.photos / "out" / "secret.txt", Path("/etc/passwd")):
            file.unlink()
            file.symlink_to(target)
            for path in routes:
                answer = world.ask("GET", path)
                assert answer.status == 404, answer.body
                check(world, answer, path)
    finally:
        file.unlink()
        file.write_bytes(kept)


def test_forged_ids(world: World) -> None:
    content_hash = world.call("/api/v1/images/1")["content_hash"]
    hashes = [content_hash.upper(), content_hash[:-1], content_hash + "0", "0" * 64, "f" * 64]
    for forged in hashes:
        assert world.ask("GET", f"/api/v1/thumbs/{forged}").status in {404, 422}
        assert world.ask("GET", f"/api/v1/search?upload={forged}").status in {404, 422}
    for forged in ("0", "-1", "9999", str(2**63), str(2**64), "1.5", "%31%00"):
        for path in (f"/api/v1/images/{forged}", f"/api/v1/search?image_id={forged}"):
            assert world.ask("GET", path).status in {404, 422}
    assert world.ask("GET", f"/api/v1/thumbs/{content_hash}?size=100000").status == 422


def multipart(parts: list[tuple[str, str | None, bytes]]) -> tuple[dict[str, str], bytes]:
    body = b""
    for name, file, data in parts:
        body += f'--x\r\nContent-Disposition: form-data; name="{name}"'.encode()
        body += (f'; filename="{file}"\r\n' if file is not None else "\r\n").encode()
        body += b"\r\n" + data + b"\r\n"
    return {**BEARER, "Content-Type": "multipart/form-data; boundary=x"}, body + b"--x--\r\n"


NOT_PICTURES = [
    b"x",
    b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    b"%!PS-Adobe\n(/etc/passwd) (r) file",
    b"push graphic-context\nimage over 0,0 0,0 'https://127.0.0.1/x'\n",
    b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    png(seed=1)[:60],
    png(seed=1)[:-30],
    b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02",
    bytes(100_000),
]


@pytest.mark.parametrize("data", NOT_PICTURES)
def test_malformed_uploads(world: World, data: bytes) -> None:
    raw = world.ask("POST", "/api/v1/uploads", BEARER, data)
    form = world.ask("POST", "/api/v1/search", *multipart([("image", "a.png", data)]))
    for answer in (raw, form):
        assert answer.status == 422, answer.body
        problem = json.loads(answer.body)
        assert "\n" not in problem["detail"] and "rwkvsearch" not in problem["detail"]


def test_oversized_uploads(world: World) -> None:
    large = bytes(3 << 20)
    for path in ("/api/v1/uploads", "/api/v1/search", "/api/v1/captions", "/api/v1/classify"):
        kind, body = multipart([("image", "a.png", large)])
        assert world.ask("POST", path, kind, body).status == 413
        sent = (body[at : at + 65536] for at in range(0, len(body), 65536))
        got = world.ask("POST", path, {**kind, "Transfer-Encoding": "chunked"}, sent, True)
        assert got.status == 413 and json.loads(got.body)["status"] == 413
    assert world.ask("POST", "/gradio_api/run/predict", {**BEARER, **JSON}, large).status == 413
    assert world.ask("POST", "/login", BEARER, large).status in {401, 413}
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    refused = world.ask("POST", "/api/v1/uploads", BEARER, bomb.getvalue())
    assert refused.status == 422 and b"400 megapixels" in refused.body


def test_names_of_uploads_play_no_part(world: World) -> None:
    for name in ("../../x.png", "/etc/passwd", "a.svg", "http://127.0.0.1/", HOSTILE[2:], ""):
        answer = world.ask("POST", "/api/v1/search", *multipart([("image", name, png(seed=3))]))
        check(world, answer, name)
        assert answer.status in {200, 422}
    assert not (world.photos / "x.png").exists()


def test_forms_of_many_parts(world: World) -> None:
    fields = [(f"f{number}", None, b"x") for number in range(5000)]
    files = [("image", "a.png", b"x") for _ in range(2000)]
    for parts in (fields, files):
        assert 400 <= world.ask("POST", "/api/v1/search", *multipart(parts)).status < 500


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that must not be asked, and whoever did."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        stop = threading.Event()

        def accept() -> None:
            while not stop.is_set():
                try:
                    connection, address = server.accept()
                except TimeoutError:
                    continue
                asked.append(str(address))
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", asked
        time.sleep(0.1)
        stop.set()
        thread.join()


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Gradio was about to fetch."""
    urls: list[str] = []

    async def get(url: str, *_: object, **__: object) -> None:
        urls.append(url)
        raise ValueError("not fetched")

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_get", get)
    return urls


def gradio_of(world: World) -> GradioApp:
    (mount,) = [one for one in world.fastapi.routes if isinstance(one, Mount)]
    return next(one for one in [mount._base_app] if isinstance(one, GradioApp))


def test_no_address_of_a_request_is_asked(
    world: World, listener: tuple[str, list[str]], fetched: list[str]
) -> None:
    address, asked = listener
    functions = gradio_of(world).get_blocks().fns
    assert functions
    urls = [f"http://{address}/a.png", "http://evil.example/a.png", "file:///etc/passwd"]
    for url in urls:
        file = {"path": url, "url": url, "meta": {"_type": "gradio.FileData"}}
        for index, fn in functions.items():
            event = {"fn_index": index, "session_hash": f"s{index}", "trigger_id": 1}
            for value in (file, [file], {"value": file}, [{"image": file}]):
                body = json.dumps({**event, "data": [value] * max(1, len(fn.inputs))})
                for path in ("/gradio_api/run/predict", "/gradio_api/queue/join"):
                    answer = world.ask("POST", path, {**BEARER, **JSON}, body)
                    assert answer.status == 400, answer.body
        for path in (
            f"/gradio_api/file={url}",
            f"/gradio_api/proxy={url}",
            f"/api/v1/search?q={quote(url)}",
            f"/api/v1/search?q={quote(url)}&plain=true",
            f"/api/v1/images/{quote(url, safe='')}",
            f"/?deep_link={quote(url)}",
            f"/config?deep_link={quote(url)}",
        ):
            check(world, world.ask("GET", path), path)
        world.ask("POST", "/api/v1/uploads", BEARER, url.encode())
        world.ask("POST", "/api/v1/search", *multipart([("image", url, url.encode())]))
    for name in ("X-Forwarded-Host", "X-Gradio-Server", "Forwarded", "X-Original-Host"):
        given = {**BEARER, name: f"http://{address}" if "Server" in name else address}
        for path in ("/", "/config", "/gradio_api/info", "/openapi.json"):
            assert address.encode() not in world.ask("GET", path, given).body
        tool = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        accept = {**given, **JSON, "Accept": "application/json, text/event-stream"}
        world.ask("POST", "/gradio_api/mcp/", accept, json.dumps(tool))
    assert asked == [] and fetched == []


def tool(world: World, name: str, **arguments: Any) -> Answer:
    call = {"name": name, "arguments": arguments}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call})
    accept = {**BEARER, **JSON, "Accept": "application/json, text/event-stream"}
    return world.ask("POST", "/gradio_api/mcp/", accept, body)


def test_tools_open_no_path_and_ask_no_address(
    world: World, listener: tuple[str, list[str]], fetched: list[str]
) -> None:
    address, asked = listener
    good = tool(world, "search_pictures", words="a wren", k=48)
    assert good.status == 200 and b"wren.png" in good.body
    outside = world.photos.parent / "away" / "outside.png"
    found = set()
    for words in (outside, world.photos / ".hidden.png", "/nowhere.png", "/etc/passwd"):
        said = tool(world, "search_pictures", words=str(words))
        assert said.status == 200 and b"score" not in said.body
        found.add(said.body.replace(str(words).encode(), b""))
    assert len(found) == 1, "whether a file exists must not be told"
    for url in (f"http://{address}/a.png", "http://evil.example/a.png"):
        assert tool(world, "search_pictures", words=url).status == 200
        file = {"path": url, "url": url, "meta": {"_type": "gradio.FileData"}}
        for name in ("search_pictures", "about_picture", "similar_pictures", "none"):
            for argument in ("words", "image_id", "k", "other"):
                assert tool(world, name, **{argument: file}).status == 400
    for wrong in ("1", "x", 2**70, -1, None, [1], {"a": 1}):
        for name in ("about_picture", "similar_pictures"):
            check(world, tool(world, name, image_id=wrong), wrong)
    assert asked == [] and fetched == []


def test_gradio_would_have_asked_it(world: World, fetched: list[str], ask: Any) -> None:
    """Without the door: what the test above looks for does happen."""
    gradio = gradio_of(world)
    file = {"path": "http://evil.example/a.png", "meta": {"_type": "gradio.FileData"}}
    for index, fn in gradio.get_blocks().fns.items():
        inputs = [block for block in fn.inputs if not getattr(block, "stateful", False)]
        if inputs:
            body = json.dumps({"fn_index": index, "data": [file] * len(fn.inputs)}).encode()
            ask(gradio, "POST", "/gradio_api/run/predict", JSON, body)
            break
    assert fetched == ["http://evil.example/a.png"]


def test_pages_hold_no_component_that_takes_or_serves_files(world: World) -> None:
    kinds = {component["type"] for component in world.call("/config")["components"]}
    harmless = {
        *(
            "accordion",
            "api",
            "barplot",
            "browserstate",
            "button",
            "checkbox",
            "checkboxgroup",
            "column",
        ),
        *("dataframe", "dropdown", "form", "group", "html", "json", "label", "lineplot"),
        *("markdown", "navbar", "number", "radio", "row", "scatterplot", "sidebar", "slider"),
        *("state", "tab", "tabitem", "tabs", "textbox", "timer", "walkthrough"),
    }
    assert kinds <= harmless, kinds - harmless


def test_names_and_texts_of_files_are_no_markup(world: World) -> None:
    (hit,) = world.call("/api/v1/search", q="x", path="/" + HOSTILE)["hits"]
    assert Path(hit["path"]).name == HOSTILE
    targets = [
        f"/api/v1/images/{hit['image_id']}",
        f"/api/v1/images/{hit['image_id']}/captions",
        "/api/v1/search?q=wren&k=100",
        "/api/v1/facets",
        f"/api/v1/search?q={quote('./' + HOSTILE)}",
        f"/api/v1/albums/{quote(HOSTILE)}",
        f"/api/v1/search?under={quote('/' + HOSTILE)}",
    ]
    for target in targets:
        answer = world.ask("GET", target, {**BEARER, "Accept": "text/html,*/*"})
        kind = answer.headers["content-type"]
        assert kind in {"application/json", "application/problem+json"}, (target, kind)
        assert answer.headers["x-content-type-options"] == "nosniff"
    name = world.ask("GET", f"/api/v1/images/{hit['image_id']}/original").headers
    assert "<" not in name["content-disposition"] and '"' not in name["content-disposition"]


def test_no_page_lets_a_name_run(world: World) -> None:
    pages = {path for method, path in routes_of(world.fastapi.routes) if method == "GET"}
    shown = 0
    for path in sorted(pages):
        if "{" in path:
            continue
        query = quote(HOSTILE)
        answer = world.ask(
            "GET", f"{path}?q={query}&image={query}", {**BEARER, "Accept": "text/html"}
        )
        if answer.headers.get("content-type", "").startswith("text/html"):
            assert b"<img src=x" not in answer.body
            policy = answer.headers["content-security-policy"]
            (scripts,) = re.findall(r"script-src ([^;]*);", policy)
            assert "unsafe-inline" not in scripts and "http" not in scripts and "*" not in scripts
            shown += 1
    assert shown >= 3


def test_pages_name_no_other_server(world: World) -> None:
    """What a browser loads by itself: scripts, styles, pictures, fonts of a page."""
    for path in ("/", "/docs"):
        page = world.ask("GET", path, {**BEARER, "Accept": "text/html"}).body.decode()
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?([^\"' >]+)", page)
        assert loaded and not [one for one in loaded if re.match(r"(https?:)?//", one)], loaded


def test_errors_do_not_tell_where_the_program_is(world: World) -> None:
    here = str(Path(__file__).parents[3]).encode()
    for path in ("/api/v1/images/99", "/api/v1/search", "/nowhere", "/api/v1/nowhere", "/config"):
        assert here not in world.ask("GET", path).body
    broken = json.dumps({"fn_index": 0, "data": [{"a": [1]}] * 9})
    answer = world.ask("POST", "/gradio_api/run/predict", {**BEARER, **JSON}, broken)
    assert here not in answer.body and b"Traceback" not in answer.body


def test_a_session_by_cookie_reaches_everything(world: World) -> None:
    form = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Origin": f"http://127.0.0.1:{world.port}",
    }
    answer = world.ask("POST", "/login", form, urlencode({"token": TOKEN, "next": "/docs"}))
    assert (answer.status, answer.headers["location"]) == (303, "/docs")
    carried = {"Cookie": answer.headers["set-cookie"].split(";")[0]}
    for path in ("/", "/docs", "/api/v1/search?q=a", "/gradio_api/info"):
        assert world.ask("GET", path, carried).status == 200
    assert world.ask("POST", "/api/v1/albums", {**carried, **JSON}, b"{}").status == 403
    own = {**carried, **JSON, "Origin": f"http://127.0.0.1:{world.port}"}
    assert world.ask("POST", "/api/v1/albums", own, b"{}").status == 422


def test_without_a_token_a_program_of_this_computer_gets_in(
    world: World, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RWKVSEARCH_HOME", str(world.home))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with running(Settings(world.home, port=port), listener) as app:
            open_to_all = World(app, port, world.photos, world.home, b"-", b"-")
            assert open_to_all.ask("GET", "/api/v1/search?q=a", {}).status == 200
            assert open_to_all.ask("GET", "/", {"Host": "evil.example"}).status == 403
            posted = open_to_all.ask("POST", "/api/v1/uploads", {}, png(seed=1))
            assert posted.status == 201
            evil = {"Origin": "http://evil.example"}
            assert open_to_all.ask("POST", "/api/v1/uploads", evil, png(seed=1)).status == 403
