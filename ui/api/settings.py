"""What `rwkvsearch serve` was told."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from rwkvsearch.indexer.address import Place
from rwkvsearch.retrieval.models import Precision
from rwkvsearch.ui.logs import LogFormat


@dataclass(frozen=True)
class Settings:
    """One server: its library, its address and its limits."""

    library: Place
    model: str | None = None
    device: str | None = None
    precision: Precision | None = None
    ann: str | None = None
    """Address of the cluster that proposes; None: the library's own index."""
    host: str = "127.0.0.1"
    port: int = 7860
    hosts: tuple[str, ...] = ()
    """Names that the server is also reached by, such as that of a proxy before it."""
    token: str | None = field(default=None, repr=False)
    """Needed by every request, if there is one."""
    rate: int | None = None
    """Requests a minute and client; None: no limit."""
    log_queries: bool = False
    log_format: LogFormat = "json"
    max_upload_bytes: int = 32 << 20
    max_upload_megapixels: float = 100.0

    @property
    def is_loopback(self) -> bool:
        """Whether only this computer can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a name or an address is of this computer alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
