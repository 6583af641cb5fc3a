"""Where a language model is and how it lets us in: address, key, name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rwkvsearch.data.errors import ModelError

KEY_VARIABLE = "RWKVSEARCH_LLM_KEY"


def read_key(file: Path | None) -> str | None:
    """The key of a file, else of `$RWKVSEARCH_LLM_KEY`, else None.

    Raises:
        ModelError: the file cannot be read or holds no key.
    """
    if file is None:
        return os.environ.get(KEY_VARIABLE, "").strip() or None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text"
        raise ModelError(f"{file}: the key cannot be read: {reason}") from error
    if not key or not key.isascii() or len(key.split()) != 1:
        raise ModelError(f"{file}: holds no key; expected one word")
    return key


def only_model(url: str, key: str | None) -> str:
    """The name of the model that an endpoint serves, where it is a single one.

    Raises:
        ModelError: no answer, or several models.
    """
    httpx = need_httpx()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        response = httpx.get(f"{checked_address(url)}/models", headers=headers, timeout=20)
        response.raise_for_status()
        names = [str(model["id"]) for model in response.json()["data"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{url}: does not say which model it serves ({reason}); name one with --llm-model"
        ) from error
    if len(names) != 1:
        known = ", ".join(names[:10]) or "none"
        raise ModelError(f"{url}: serves {known}: name one with --llm-model")
    return names[0]


def checked_address(url: str) -> str:
    """The address without a slash or `/chat/completions` behind it, with `/v1` if it has no path.

    Raises:
        ModelError: no http address, or one that holds a secret.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ModelError(f"{url!r} is no address: expected something like http://host:8000/v1")
    if parts.username or parts.password or parts.query:
        raise ModelError(f"the address of a language model holds no secrets: set ${KEY_VARIABLE}")
    return url.rstrip("/").removesuffix("/chat/completions") + (
        "" if parts.path.strip("/") else "/v1"
    )


def need_httpx() -> Any:
    """The httpx module, or a `ModelError` that says how to get it."""
    try:
        import httpx
    except ImportError as error:
        raise ModelError(
            "httpx is not installed: pip install 'rwkvsearch[describe]', or describe without --llm"
        ) from error
    return httpx
