"""A connection to Milvus, and what may go wrong with it, said in one line.

pymilvus is imported at the first use.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.cluster.address import TOKEN, ClusterAddress

_CONNECTING = 10.0
_REFUSED = ("unauthenticated", "auth check failure", "permission deny", "permission denied")
_SILENT = ("connecting to server", "unavailable", "deadline", "failed to connect")
_LITE_OPTIONS = {"grpc.keepalive_time_ms": 3_600_000}  # it takes the usual pings for an attack
_lite_users: dict[str, int] = {}
_lite_lock = Lock()


def connect(address: ClusterAddress) -> Any:
    """A `pymilvus.MilvusClient`; `LibraryError` if nothing answers, or it is not installed."""
    for name in ("pymilvus", "milvus_lite"):  # they log what is raised, with its traceback
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        from pymilvus import MilvusClient
    except ImportError as error:
        raise LibraryError("pymilvus is not installed: pip install 'rwkvsearch[milvus]'") from error
    token = os.environ.get(TOKEN, "")
    with milvus_errors(address):
        if not address.lite:
            return MilvusClient(uri=address.uri, token=token, timeout=_CONNECTING)
        logging.getLogger("grpc").setLevel(logging.CRITICAL + 1)  # what the lite server lacks
        with _lite_lock:
            client = MilvusClient(uri=address.uri, timeout=_CONNECTING, grpc_options=_LITE_OPTIONS)
            _lite_users[address.uri] = _lite_users.get(address.uri, 0) + 1
        return client


def leave_lite(path: str) -> None:
    """Stop the server of milvus-lite in this process once nobody here uses it."""
    with _lite_lock:
        _lite_users[path] = _lite_users.get(path, 1) - 1
        if not _lite_users[path]:
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(path)


@contextmanager
def milvus_errors(address: ClusterAddress) -> Iterator[None]:
    """Turn what pymilvus and gRPC raise into a `LibraryError` of one line."""
    import grpc
    from pymilvus.exceptions import ConnectionConfigException, MilvusException

    try:
        yield
    except ConnectionConfigException as error:
        raise LibraryError(f"{address.name}: {_why_not_opened(address, error)}") from error
    except MilvusException as error:
        raise LibraryError(_told(address, error.message, error.__cause__)) from error
    except grpc.RpcError as error:
        raise LibraryError(_told(address, "", error)) from error


def _told(address: ClusterAddress, message: str, cause: BaseException | None) -> str:
    """What to say of an error with this message, or with what gRPC says of its cause."""
    status = f"{_said(cause, 'code')} {_said(cause, 'details')}".strip()
    line = " ".join((message or status).split())[:300]
    seen = f"{line} {status}".lower()
    if any(word in seen for word in _REFUSED):
        known = "the one in" if os.environ.get(TOKEN) else "none is in"
        return f"{address.name}: Milvus does not accept the token, {known} ${TOKEN}"
    if any(word in seen for word in _SILENT):
        return f"no Milvus answers at {address.name}: is it running there?"
    return f"{address.name}: Milvus says: {line}"


def _said(error: BaseException | None, what: str) -> str:
    said = getattr(error, what, None)
    return str(said()) if callable(said) else ""


def _why_not_opened(address: ClusterAddress, error: Any) -> str:
    if address.lite is None:
        return " ".join(str(error.message).split())
    if "required" in error.message:
        return "milvus-lite is not installed: pip install milvus-lite"
    if not address.lite.parent.is_dir():
        return f"there is no folder {address.lite.parent}"
    return (
        "another process has it open, and milvus-lite lets one in; or it is no database of "
        "milvus-lite"
    )
