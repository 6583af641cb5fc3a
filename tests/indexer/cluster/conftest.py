"""A library of made-up embeddings, and milvus-lite to mirror it into: a file, or a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from rwkvsearch.indexer.ann.synthetic import Synthetic, fill
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import FileRow, ImageRow

DIM, ROWS = 24, 3_000
NEEDED = "pymilvus and milvus-lite are not installed"


@pytest.fixture(autouse=True)
def lite() -> None:
    pytest.importorskip("pymilvus", reason=NEEDED)
    pytest.importorskip("milvus_lite", reason=NEEDED)


@pytest.fixture(scope="session")
def source() -> Synthetic:
    return Synthetic(DIM, clusters=50)


@pytest.fixture
def filled(tmp_path: Path, source: Synthetic) -> Iterator[Library]:
    """Images of many sizes, times and places, and texts to measure with."""
    with Library.create(tmp_path / "filled") as library:
        fill(library, source, ROWS, 20)
        rng = np.random.default_rng(0)
        sizes = rng.integers(100, 4000, (ROWS, 2))
        facts = [
            {
                "id": number,
                "width": int(width),
                "height": int(height),
                "format": str(rng.choice(["JPEG", "PNG", "WEBP"])),
                "taken_at": f"20{number % 30:02}-0{number % 9 + 1}-01T00:00:00"
                if number % 4
                else None,
                "latitude": float(rng.uniform(-90, 90)) if number % 3 else None,
                "longitude": float(rng.uniform(-180, 180)) if number % 3 else None,
            }
            for number, (width, height) in enumerate(sizes, 1)
        ]
        with library.write() as session:
            session.execute(update(ImageRow), facts)
        yield library


@pytest.fixture
def ann(tmp_path: Path) -> str:
    return f"milvus://{tmp_path}/cluster.db"


@pytest.fixture
def set_gone() -> Callable[[Library, Any, bool], None]:
    """Let the files of images go, or come back."""

    def set_gone(library: Library, images: Any, gone: bool = True) -> None:
        with library.write() as session:
            for image_id in images:
                here = FileRow.image_id == int(image_id)
                when = time.time() if gone else None
                session.execute(update(FileRow).where(here).values(gone_at=when))

    return set_gone


class Server:
    """milvus-lite behind a port; with a token it lets nobody else in."""

    def __init__(self, folder: Path, token: str | None = None) -> None:
        import grpc
        from milvus_lite import MilvusLite
        from milvus_lite.adapter.grpc.servicer import MilvusServicer
        from pymilvus.grpc_gen import milvus_pb2_grpc

        class Guard(grpc.ServerInterceptor):  # type: ignore[misc]
            def intercept_service(self, continuation: Any, details: Any) -> Any:
                import base64

                given = dict(details.invocation_metadata).get("authorization", "")
                if token is None or base64.b64decode(given).decode() == token:
                    return continuation(details)

                def refuse(request: Any, context: Any) -> None:
                    context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure")

                return grpc.unary_unary_rpc_method_handler(refuse)

        self._database = MilvusLite(str(folder))
        self._server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[Guard()])
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(
            MilvusServicer(self._database), self._server
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.ann = f"milvus://127.0.0.1:{self.port}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=0).wait()
        self._database.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def serve(token: str | None = None) -> Server:
        servers.append(Server(tmp_path / f"server-{len(servers)}", token))
        return servers[-1]

    yield serve
    for server in servers:
        server.stop()
