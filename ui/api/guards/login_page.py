"""The page that asks for the token, and the one that ends a session: plain HTML, no scripts."""

from __future__ import annotations

from html import escape
from urllib.parse import quote, urlsplit

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif;
  --page: #f8fafc; --card: #fff; --text: #0f172a; --line: #cbd5e1; --accent: #4338ca;
  --bad: #b91c1c }
@media (prefers-color-scheme: dark) { :root {
  --page: #0b1120; --card: #1e293b; --text: #f1f5f9; --line: #475569; --accent: #a5b4fc;
  --bad: #fca5a5 } }
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem;
  background: var(--page); color: var(--text) }
main { width: 100%; max-width: 24rem; padding: 1.5rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .75rem }
h1 { margin: 0 0 1rem; font-size: 1.25rem }
label { display: block; font-weight: 600 }
input, button { width: 100%; min-height: 2.75rem; font: inherit; border-radius: .5rem }
input { margin: .25rem 0 1rem; padding: 0 .75rem; color: inherit; background: transparent;
  border: 1px solid var(--line) }
button { border: 0; font-weight: 600; color: var(--card); background: var(--accent);
  cursor: pointer }
input:focus-visible, button:focus-visible, a:focus-visible { outline: 3px solid var(--accent);
  outline-offset: 2px }
p { margin: 0 0 1rem } p:last-child { margin: 1rem 0 0 } a { color: var(--accent) }
[role=alert] { color: var(--bad) }
"""


def login_page(next_path: str, trouble: str = "") -> bytes:
    """Ask for the token; afterwards the browser goes to `next_path`."""
    alert = f'<p role="alert" id="trouble">{escape(trouble)}</p>' if trouble else ""
    described = ' aria-describedby="trouble" aria-invalid="true"' if trouble else ""
    target = escape(next_path)
    return _page(
        "Sign in",
        f"""<h1>rwkvsearch</h1>
{alert}<form method="post" action="/login">
<input type="hidden" name="next" value="{target}">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required
 autofocus spellcheck="false" autocapitalize="none"{described}>
<button>Sign in</button>
</form>
<p>The one that <code>rwkvsearch serve</code> was started with.
Signed in already? <a href="{target}">Go on</a></p>""",
    )


def logout_page() -> bytes:
    """Ask whether to end the session; a link elsewhere must not do it."""
    return _page(
        "Sign out",
        """<h1>rwkvsearch</h1>
<form method="post" action="/logout"><button>Sign out</button></form>
<p><a href="/">Back to the search</a></p>""",
    )


def safe_next(path: str | None) -> str:
    """`path` if it is one of this server, as `/map?x=1`; otherwise `/`."""
    if not path or not path.startswith("/") or len(path) > 4096:
        return "/"
    # Browsers read a backslash as a slash, and drop tabs and line ends.
    if path.startswith("//") or "\\" in path or any(ord(letter) < 33 for letter in path):
        return "/"
    try:
        parts = urlsplit(path)
    except ValueError:
        return "/"
    own = not parts.scheme and not parts.netloc
    return path if own and parts.path not in {"/login", "/logout"} else "/"


def login_address(path: str, query: str) -> str:
    """Where a browser without a session is sent that wanted `path`."""
    wanted = safe_next(quote(path, safe="/~:@!$&'()*+,;=") + (f"?{query}" if query else ""))
    return "/login" if wanted == "/" else f"/login?next={quote(wanted, safe='/')}"


def _page(title: str, content: str) -> bytes:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title} - rwkvsearch</title>
<style>{_STYLE}</style>
</head>
<body><main>
{content}
</main></body>
</html>
""".encode()
