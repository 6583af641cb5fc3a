import logging
import re
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from rwkvsearch.ui.api.guards import access as module
from rwkvsearch.ui.api.guards.access import GUESSES, SESSION, Access, Sessions
from rwkvsearch.ui.api.guards.buckets import Buckets
from rwkvsearch.ui.api.guards.login_page import login_page, safe_next
from rwkvsearch.ui.api.settings import Settings

TOKEN = "correct-horse-battery"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def inside(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


@pytest.fixture
def app() -> Access:
    return Access(inside, Settings(library=Path("library"), token=TOKEN))


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def signed_in(ask: Any, app: Access, scheme: str = "http") -> str:
    body = f"token={TOKEN}&next=/map".encode()
    answer = ask(app, "POST", "/login", FORM, body)
    assert (answer.status, answer.headers["location"]) == (303, "/map")
    return str(answer.headers["set-cookie"])


@pytest.mark.parametrize("path", ["/", "/api/v1/search", "/login/", "/logout", "/LOGIN", "//login"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE", "OPTIONS", "TRACE"])
def test_every_path_needs_the_token(ask: Any, app: Access, path: str, method: str) -> None:
    refused = ask(app, method, path)
    assert refused.status == 401
    assert refused.headers["www-authenticate"].startswith("Bearer ")
    assert (refused.body == b"") if method == "HEAD" else refused.problem["title"] == "Unauthorized"
    assert ask(app, method, path, bearer()).body == b"inside"


@pytest.mark.parametrize(
    "given",
    [
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xff\xfe",
    ],
)
def test_wrong_tokens(ask: Any, app: Access, given: str) -> None:
    assert ask(app, headers={"Authorization": given}).status == 401


def test_two_tokens_are_none(ask: Any, app: Access) -> None:
    wrong_and_right = [("Authorization", "Bearer wrong"), ("Authorization", f"Bearer {TOKEN}")]
    assert ask(app, headers=wrong_and_right).status == 401


def test_the_token_in_an_address_or_a_cookie_is_none(ask: Any, app: Access) -> None:
    assert ask(app, query=f"token={TOKEN}&access_token={TOKEN}").status == 401
    cookies = {"Cookie": f"token={TOKEN}; rwkvsearch-7860={TOKEN}"}
    assert ask(app, headers=cookies).status == 401


def test_web_sockets_need_it(ask: Any, app: Access) -> None:
    assert ask(app, path="/any", kind="websocket").closed == 1008
    assert ask(app, path="/login", kind="websocket").closed == 1008
    assert ask(app, path="/any", headers=bearer(), kind="websocket").closed is None


def test_a_browser_is_sent_to_the_login_page_and_back(ask: Any, app: Access) -> None:
    sent = ask(app, path="/map", headers=HTML, query="q=a%20dog&k=3")
    assert sent.status == 303
    assert sent.headers["location"] == "/login?next=" + quote("/map?q=a%20dog&k=3", safe="/")
    page = ask(app, path="/login", headers=HTML, query="next=/map%3Fq%3Da")
    assert page.status == 200 and b'value="/map?q=a"' in page.body
    assert b"<script" not in page.body.lower()


def test_signing_in_and_out(ask: Any, app: Access) -> None:
    cookie = signed_in(ask, app)
    assert re.fullmatch(
        rf"rwkvsearch-7860=[\w-]{{43}}; Max-Age={SESSION}; Path=/; HttpOnly; SameSite=Strict",
        cookie,
    )
    assert TOKEN not in cookie
    name, _, secret = cookie.split(";")[0].partition("=")
    carried = {"Cookie": f'other="; {name}=forged; {name}={secret}'}
    assert ask(app, path="/api/v1/search", headers=carried).body == b"inside"
    assert ask(app, path="/any", headers=carried, kind="websocket").closed is None
    assert ask(app, path="/login", headers=carried, query="next=/x").headers["location"] == "/x"
    assert ask(app, path="/logout", headers=carried).status == 200, "a link must not sign out"
    assert ask(app, path="/api", headers=carried).body == b"inside"
    out = ask(app, "POST", "/logout", carried)
    assert out.status == 303 and "Max-Age=0" in out.headers["set-cookie"]
    assert ask(app, path="/api", headers=carried).status == 401, "the session itself is over"


def test_the_cookie_is_secure_where_the_connection_is(ask: Any) -> None:
    async def over_https(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        scope["scheme"] = "https"
        await Access(inside, Settings(library=Path("l"), token=TOKEN))(scope, receive, send)

    answer = ask(over_https, "POST", "/login", FORM, f"token={TOKEN}".encode())
    assert answer.headers["set-cookie"].endswith("; Secure")


def test_wrong_tokens_slow_a_client_down(ask: Any, app: Access) -> None:
    for _ in range(GUESSES):
        assert ask(app, "POST", "/login", FORM, b"token=wrong").status == 401
    slowed = ask(app, "POST", "/login", FORM, f"token={TOKEN}".encode())
    assert slowed.status == 429 and 0 < int(slowed.headers["retry-after"]) <= 10
    assert "set-cookie" not in slowed.headers, "the right token must not be told from a wrong one"
    assert ask(app, headers=bearer()).status == 429
    assert ask(app, headers=bearer(), client="10.0.0.9").body == b"inside"


def test_the_right_token_is_never_slowed_down(ask: Any, app: Access) -> None:
    answers = [ask(app, headers=bearer()).status for _ in range(50)]
    assert answers == [200] * 50


def test_a_client_of_ipv6_has_one_network(ask: Any, app: Access) -> None:
    for number in range(GUESSES):
        ask(app, headers=bearer("wrong"), client=f"2001:db8::{number:x}")
    assert ask(app, headers=bearer(), client="2001:db8::ffff").status == 429
    assert ask(app, headers=bearer(), client="2001:db8:0:1::1").status == 200


@pytest.mark.parametrize(
    "body", [b"", b"token=" + b"x" * 20_000, b"\xff\xfe", b"token=%ff%fe", b"a=1&" * 50, b"token"]
)
def test_malformed_forms(ask: Any, app: Access, body: bytes) -> None:
    assert ask(app, "POST", "/login", FORM, body).status == 401


def test_a_form_that_never_ends(ask: Any, app: Access) -> None:
    assert ask(app, "POST", "/login", FORM, [b"x" * 4096] * 100).status == 401


@pytest.mark.parametrize("path", ["/", "/map?q=a&k=1", "/?q=%E2%82%AC%20x", "/a//b", "/?next=//x"])
def test_addresses_to_go_on_to(path: str) -> None:
    assert safe_next(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *("", "map", "//evil.example", "/\\evil.example", "\\\\evil", "https://evil.example"),
        *("javascript:alert(1)", "/\t/evil.example", "/\n/evil", " /x", "/login", "/logout?x"),
        *("///evil.example", "/x" * 5000, "http:/x", "/[", "//[", "/a\r\nSet-Cookie: b=c"),
    ],
)
def test_addresses_elsewhere(ask: Any, app: Access, path: str) -> None:
    expected = path if path == "/[" else "/"
    assert safe_next(path) == expected
    body = f"token={TOKEN}&next={quote(path)}".encode()
    if len(body) < 16_000:
        assert ask(app, "POST", "/login", FORM, body).headers["location"] == expected


def test_the_login_page_escapes(ask: Any, app: Access) -> None:
    hostile = '/"><img src=x onerror=alert(1)>'.replace(" ", "%20")
    assert b"<img" not in login_page(hostile)
    assert b"<img" not in ask(app, path="/login", query="next=" + quote(hostile)).body


def test_other_methods(ask: Any, app: Access) -> None:
    refused = ask(app, "DELETE", "/login")
    assert refused.status == 405 and "POST" in refused.headers["allow"]


def test_nothing_is_logged(
    ask: Any, app: Access, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    signed_in(ask, app)
    ask(app, headers=bearer("wrong-token-0123456789"))
    text = caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in text and "wrong-token" not in text
    assert TOKEN not in repr(Settings(library=Path("l"), token=TOKEN))


def test_sessions_end_and_are_not_without_number(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    sessions = Sessions(lambda: now)
    secret = sessions.begin()
    now = SESSION - 1.0
    assert sessions.is_open(secret)
    now = SESSION + 1.0
    assert not sessions.is_open(secret) and not sessions.is_open("")
    monkeypatch.setattr(module, "_MOST_SESSIONS", 3)
    secrets = [sessions.begin() for _ in range(5)]
    assert [sessions.is_open(each) for each in secrets] == [False, False, True, True, True]


def clock_of(times: list[float]) -> Callable[[], float]:
    return lambda: times[0]


def test_buckets_fill_again_and_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    buckets = Buckets(2, 0.5, clock_of(now))
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 2]
    assert buckets.take("b") == 0
    now[0] = 1.0
    assert buckets.wait("a") == 1
    now[0] = 2.0
    assert [buckets.take("a") for _ in range(2)] == [0, 2]
    monkeypatch.setattr("rwkvsearch.ui.api.guards.buckets._MOST_CLIENTS", 10)
    for number in range(50):
        buckets.take(str(number))
    assert len(buckets) <= 11
