import asyncio
import json
import re
import warnings
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from rwkvsearch.ui.api.guards import limits
from rwkvsearch.ui.api.guards.gradio_door import GradioDoor, names_a_file
from rwkvsearch.ui.api.guards.origins import Names, host_name, is_plain
from rwkvsearch.ui.api.guards.protect import protect
from rwkvsearch.ui.api.settings import Settings

ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
HOST = "127.0.0.1:7860"
JSON = {"Content-Type": "application/json"}


def settings(**changes: Any) -> Settings:
    return Settings(**{"library": Path("library"), **changes})


def small_app() -> FastAPI:
    app = FastAPI()

    @app.post("/api/v1/take")
    @app.post("/take")
    async def take(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.get("/api/v1/seen")
    def seen(request: Request) -> dict[str, Any]:
        return {"headers": dict(request.headers), "scheme": request.url.scheme}

    @app.get("/page")
    def page() -> HTMLResponse:
        return HTMLResponse("<script>own()</script><script src=a.js></script><p>text</p>")

    @app.get("/open")
    def open_to_all() -> Response:
        headers = {"Access-Control-Allow-Origin": "*", "Server": "x", "X-Frame-Options": "ALLOW"}
        return Response(b"", headers={**headers, "Cache-Control": "max-age=5"})

    @app.get("/fail")
    def fail() -> None:
        raise RuntimeError("secret")

    return app


@pytest.fixture
def app() -> Any:
    return protect(small_app(), settings())


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860", "127.0.0.2", "[::1]"]
)
def test_own_names(ask: Any, app: Any, host: str) -> None:
    assert ask(app, path="/page", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.nip.io"),
        *("192.168.0.1", "", "127.0.0.1:x", "user@127.0.0.1", "127.0.0.1/x", "[::1", "::1"),
        *("0.0.0.0:7860", "127.0.0.1, evil.example", "localhost evil", "[::ffff:8.8.8.8]"),
    ],
)
def test_other_names(ask: Any, app: Any, host: str) -> None:
    refused = ask(app, path="/page", headers={"Host": host})
    assert refused.status == 403 and refused.problem["title"]
    assert ask(app, path="/x", headers={"Host": host}, kind="websocket").closed == 1008


def test_one_name_only(ask: Any, app: Any) -> None:
    hosts = [("Host", "127.0.0.1"), ("Host", "evil.example")]
    assert ask(app, path="/page", headers=hosts).status == 403


@pytest.mark.parametrize(
    ("bound", "own", "other"),
    [
        ("192.168.1.5", ["192.168.1.5:7860", "pictures.example"], ["192.168.1.6", "localhost"]),
        ("nas.local", ["nas.local:7860", "NAS.local."], ["evil.example", "127.0.0.1"]),
        ("0.0.0.0", ["192.168.1.5", "[2001:db8::1]:7860", "localhost"], ["evil.example"]),
        ("::", ["192.168.1.5", "pictures.example"], ["evil.example"]),
    ],
)
def test_names_of_other_addresses(ask: Any, bound: str, own: list[str], other: list[str]) -> None:
    app = Names(small_app(), settings(host=bound, token="x" * 16, hosts=("pictures.example",)))
    assert {ask(app, path="/page", headers={"Host": host}).status for host in own} == {200}
    assert {ask(app, path="/page", headers={"Host": host}).status for host in other} == {403}


def test_malformed_hosts_have_no_name() -> None:
    assert host_name("[::1]:80") == "::1" and host_name("A.b.") == "a.b"
    for host in (None, "", "a:b", "[::1", "a?b", "a#b", "a:99999999", "."):
        assert host_name(host) is None


def test_headers_of_proxies_do_not_pass(ask: Any, app: Any) -> None:
    names = ("X-Forwarded-Host", "X-Forwarded-For", "Forwarded", "X-Gradio-Server", "X-Gradio-User")
    given = dict.fromkeys(names, "evil.example") | {"X-Other": "kept"}
    seen = json.loads(ask(app, path="/api/v1/seen", headers=given).body)
    assert set(seen["headers"]) == {"host", "x-other"} and seen["scheme"] == "http"
    secure = ask(app, path="/api/v1/seen", headers={"X-Forwarded-Proto": "https"})
    assert json.loads(secure.body)["scheme"] == "https"


@pytest.mark.parametrize(
    "path",
    [
        *("/../etc/passwd", "/a/../../b", "/..", "/./page", "/a/.", "//page", "//evil.example/..")
        + ("/page\0.png", "/page\n", "http://evil.example/page", "", "/a\x7f"),
    ],
)
def test_paths_of_bad_faith(ask: Any, app: Any, path: str) -> None:
    assert not is_plain(path)
    assert ask(app, path=path).status == 404


@pytest.mark.parametrize(
    "path", ["/", "/a b", "/%2e%2e/x", "/...", "/a..b", "/Urlaub äöü", "/a//b"]
)
def test_paths_of_good_faith(path: str) -> None:
    assert is_plain(path)


CROSS = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:3000"},
    {"Origin": "http://localhost:7860"},
    {"Origin": f"ftp://{HOST}"},
    {"Origin": "http://["},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "nonsense"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "cross-site", "Origin": f"http://{HOST}"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    {"Referer": "https://evil.example/page"},
    {"Cookie": "rwkvsearch-7860=x"},
    {"Authorization": "Bearer x", "Origin": "https://evil.example"},
]
OWN = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": f"http://{HOST}"},
    {"Origin": f"https://{HOST}", "Sec-Fetch-Site": "same-origin"},
    {"Authorization": "Bearer x", "Cookie": "a=b"},
]


@pytest.mark.parametrize("headers", CROSS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE"])
def test_other_sites_change_nothing(
    ask: Any, app: Any, method: str, headers: dict[str, str]
) -> None:
    assert ask(app, method, "/take", {**JSON, **headers}, b"{}").status == 403
    assert ask(app, path="/x", headers=headers, kind="websocket").closed == 1008


@pytest.mark.parametrize("headers", OWN)
def test_own_pages_and_programs_do(ask: Any, app: Any, headers: dict[str, str]) -> None:
    assert ask(app, "POST", "/take", headers, b"12").body == b'{"bytes":2}'


def test_two_origins_are_none(ask: Any, app: Any) -> None:
    origins = [("Origin", f"http://{HOST}"), ("Origin", "https://evil.example")]
    assert ask(app, "POST", "/take", origins, b"12").status == 403


def test_other_sites_may_link_but_not_load(ask: Any, app: Any) -> None:
    away = {"Sec-Fetch-Site": "cross-site"}
    link = {**away, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert ask(app, path="/page", headers=link).status == 200
    assert ask(app, path="/page", headers={**link, "Sec-Fetch-Dest": "iframe"}).status == 403
    for loaded in ({}, {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}):
        assert ask(app, path="/api/v1/seen", headers={**away, **loaded}).status == 403
    assert ask(app, path="/page", headers={"Sec-Fetch-Site": "same-origin"}).status == 200


@pytest.mark.parametrize("path", ["/page", "/open", "/missing", "/api/v1/seen"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_headers_are_on_every_answer(ask: Any, app: Any, method: str, path: str) -> None:
    for host in (HOST, "evil.example"):
        headers = ask(app, method, path, {"Host": host, "Origin": f"http://{HOST}"}).headers
        assert ALWAYS.items() <= headers.items()
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "cache-control" in headers and "permissions-policy" in headers
        assert not {"server", "access-control-allow-origin"} & set(headers)


def test_what_an_application_says_of_its_cache_stays(ask: Any, app: Any) -> None:
    assert ask(app, path="/open").headers["cache-control"] == "max-age=5"


def test_failures_carry_them_too_and_tell_nothing(app: Any) -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/fail",
        "query_string": b"",
        "scheme": "http",
    }
    scope |= {"headers": [(b"host", HOST.encode())], "client": ("127.0.0.1", 1), "server": None}
    with pytest.raises(RuntimeError):
        asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 500
    assert (b"x-frame-options", b"DENY") in sent[0]["headers"]
    assert b"secret" not in b"".join(message.get("body", b"") for message in sent)


def test_only_the_scripts_of_a_page_itself_may_run(ask: Any, app: Any) -> None:
    reply = ask(app, path="/page", headers={"Accept": "text/html"})
    policy = reply.headers["content-security-policy"]
    scripts = re.search(r"script-src ([^;]*);", policy)
    assert scripts is not None
    # echo -n 'own()' | openssl dgst -sha256 -binary | base64
    hashed = "'sha256-1yruO3ZUqBddjC8oRrsLLZ/oiHYCAveB39McCaLvqnk='"
    assert scripts[1].split() == ["'self'", "'unsafe-eval'", hashed]
    assert "http" not in policy and "*" not in policy
    other = ask(app, path="/api/v1/seen").headers["content-security-policy"]
    assert "script-src" not in other and other.startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("path", "kind", "limit"),
    [
        ("/take", "application/octet-stream", limits.SMALL),
        ("/api/v1/take", "application/json", limits.SMALL),
        ("/api/v1/take", "application/merge-patch+JSON; x", limits.SMALL),
        ("/api/v1/take", "image/jpeg", 3 * limits.FORM),
        ("/api/v1/take", "multipart/form-data; boundary=x", 3 * limits.FORM),
    ],
)
def test_bodies_are_limited(ask: Any, path: str, kind: str, limit: int) -> None:
    app = protect(small_app(), settings(max_upload_bytes=2 << 20))
    headers = {"Content-Type": kind}
    for size, expected in ((limit, 200), (limit + 1, 413)):
        body = bytes(size)
        told = ask(app, "POST", path, {**headers, "Content-Length": str(size)}, body)
        chunked = ask(
            app,
            "POST",
            path,
            {**headers, "Transfer-Encoding": "chunked"},
            [body[at : at + 65536] for at in range(0, size, 65536)],
        )
        lied = ask(app, "POST", path, {**headers, "Content-Length": "3"}, [body[:-1], b"x"])
        assert [told.status, chunked.status, lied.status] == [expected] * 3
        if expected == 413:
            assert all("megabytes" in reply.problem["detail"] for reply in (told, chunked, lied))


def test_a_silent_client_is_given_up(ask: Any, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SILENCE", 0.05)

    async def silent(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        first = await receive()

        async def slow() -> Any:
            nonlocal first
            if first:
                message, first = first, None
                return {**message, "more_body": True}
            await asyncio.sleep(60)

        await app(scope, slow, send)

    assert ask(silent, "POST", "/take", {"Content-Length": "100"}, b"x").problem["status"] == 408


def test_uploads_at_one_time_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PATIENCE", 0.05)
    busy = most = 0

    async def hold(scope: Any, receive: Any, send: Any) -> None:
        nonlocal busy, most
        busy, most = busy + 1, max(most, busy + 1)
        await asyncio.sleep(0.3)
        busy -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def run() -> list[int]:
        guard = limits.Bodies(hold, settings())
        size = str(limits.SMALL + 1).encode()
        got: list[int] = []

        async def one(number: int, length: bytes) -> None:
            async def send(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    got.append(message["status"])

            headers = [(b"content-length", length), (b"content-type", b"image/png")]
            scope = {"type": "http", "method": "POST", "path": "/api/v1/x", "headers": headers}

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": b"", "more_body": False}

            await guard(scope, receive, send)

        large = [one(number, size) for number in range(limits.UPLOADS + 3)]
        await asyncio.gather(*large, one(99, b"10"))
        return got

    statuses = asyncio.run(run())
    assert statuses.count(503) == 3 and statuses.count(200) == limits.UPLOADS + 1
    assert most == limits.UPLOADS + 1


def test_the_rate_is_limited_for_each_client(ask: Any) -> None:
    app = protect(small_app(), settings(rate=5))
    assert [ask(app, path="/page").status for _ in range(5)] == [200] * 5
    refused = ask(app, path="/page")
    assert refused.problem["status"] == 429 and 1 <= int(refused.headers["retry-after"]) <= 12
    assert refused.headers["x-frame-options"] == "DENY"
    assert ask(app, path="/page", client="10.0.0.2").status == 200
    assert ask(app, path="/assets/a.js").status == 404, "the page's own files do not count"


def test_without_a_rate_there_is_no_limit(ask: Any, app: Any) -> None:
    assert {ask(app, path="/page").status for _ in range(300)} == {200}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"path": "http://a", "meta": {"_type": "gradio.FileData"}}, True),
        ({"data": [[{"x": [{"path": "a", "meta": {"_type": "gradio.FileData"}}]}]]}, True),
        ({"meta": {"_type": "gradio.FileData"}}, True),
        ({"meta": "gradio.FileData", "path": "http://a"}, False),
        ([None, 1, "gradio.FileData", {"meta": {"_type": "other"}}], False),
    ],
)
def test_files_in_events(value: Any, found: bool) -> None:
    assert names_a_file(value) == found


@pytest.fixture(scope="module")
def pages() -> Any:
    async def mounted() -> Any:  # outside of a loop Gradio makes one and leaves it open
        with gr.Blocks() as demo:
            box = gr.Textbox()
            box.submit(lambda text: f"<{text}>", box, box, queue=False, api_name="say")
        with demo.route("Map", "map"):
            gr.Markdown("map")
        app = gr.mount_gradio_app(FastAPI(), demo, path="/", footer_links=[], run_history=False)
        return protect(app, settings())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that several pages cannot be rendered here
        return asyncio.run(mounted())


@pytest.mark.parametrize(
    "path", ["/", "/map", "/config", "/theme.css", "/gradio_api/info", "/gradio_api/app_id"]
)
def test_what_pages_need_of_gradio_is_there(ask: Any, pages: Any, path: str) -> None:
    assert ask(pages, path=path).status == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/gradio_api/upload", "/gradio_api/file=/etc/passwd", "/gradio_api/proxy=http://a/"),
        *("/gradio_api/stream/x", "/gradio_api/component_server", "/gradio_api/dev/reload"),
        *("/gradio_api/deep_link", "/monitoring", "/monitoring/summary", "/gradio_api/token"),
        *("/gradio_api/runs", "/gradio_api/vibe-edit", "/gradio_api/openapi.json", "/other"),
        *("/gradio_api/run-history/buckets", "/gradio_api/call/say", "/pwa_icon/99999"),
        *("/gradio_api/mcp/sse", "/gradio_api/mcp/messages/", "/svelte/x", "/login", "/logout"),
        *("/gradio_api/custom_component/a/client/b/c", "/gradio_api/user", "/openapi.json/"),
    ],
)
def test_what_they_do_not_need_is_not(ask: Any, pages: Any, path: str) -> None:
    for method in ("GET", "POST", "PUT", "HEAD"):
        assert ask(pages, method, path, JSON, b"{}").status in {404, 405}
    assert ask(pages, "POST", "/", JSON, b"{}").status == 404


def test_events_are_json_without_files(ask: Any, pages: Any) -> None:
    say = "/gradio_api/run/say"
    good = ask(pages, "POST", say, JSON, b'{"data": ["a"]}')
    assert json.loads(good.body)["data"] == ["<a>"]
    escaped = rb'{"data": [{"path": "http://a/", "meta": {"_type": "\u0067radio.FileData"}}]}'
    assert "files" in ask(pages, "POST", say, JSON, escaped).problem["detail"]
    assert ask(pages, "POST", say, JSON, [b"[" * 500_000]).problem["status"] == 400
    assert ask(pages, "POST", say, JSON, b"{").problem["status"] == 400
    assert ask(pages, "POST", say, JSON, b"\xff").problem["status"] == 400
    assert ask(pages, "POST", say, {"Content-Type": "text/plain"}, good.body).status == 415
    assert ask(pages, "POST", say, {}, b'{"data": ["a"]}').status == 415


def test_gradio_is_behind_its_door(pages: Any) -> None:
    assert [type(route.app) for route in pages.app.routes if hasattr(route, "app")][
        -1
    ] is GradioDoor


def test_what_is_named_by_its_content_is_kept(ask: Any) -> None:
    app = FastAPI()

    @app.get("/{path:path}")
    def give(path: str) -> Response:
        return Response(b"x" * 2000, 404 if "lost" in path else 200, media_type="text/javascript")

    guarded = protect(app, settings())
    cached = {
        "/assets/index-DphvyggB.js": "private, max-age=31536000, immutable",
        "/assets/lost-DphvyggB.js": "private, no-cache",
        "/assets/index.js": "private, no-cache",
        "/favicon.ico": "private, max-age=86400",
        "/api/v1/search": "private, no-cache",
    }
    answers = {path: ask(guarded, path=path).headers["cache-control"] for path in cached}
    assert answers == cached


def test_nothing_is_packed_for_this_computer(ask: Any) -> None:
    for host, expected in (("127.0.0.1", None), ("0.0.0.0", "br")):
        guarded = protect(small_app(), settings(host=host, token="t" * 16))
        headers = {"Accept-Encoding": "br", "Authorization": f"Bearer {'t' * 16}", "Host": HOST}
        seen = json.loads(ask(guarded, path="/api/v1/seen", headers=headers).body)
        assert seen["headers"].get("accept-encoding") == expected
