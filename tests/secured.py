"""A CA, a server's certificate and clients' in one folder, made by the machine's clock so that gRPC takes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from heron_client.transport.trust import Trust
from heron_core.trust.folder import CertFolder, Side
from heron_server.certs.choice import Guard
from heron_server.certs.files import Store

HERE = ("localhost", "127.0.0.1")


def today() -> datetime:
    return datetime.now(UTC)


class Secured:
    """Certificates below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root, force=True)
        self.store.init(10, today())
        self.serve()

    def serve(self, hosts: tuple[str, ...] = HERE, days: float = 5, age_days: float = 0) -> Guard:
        """A new certificate for the server, made `age_days` ago."""
        self.store.make_server(hosts, days, today() - timedelta(days=age_days))
        return self.guard

    @property
    def guard(self) -> Guard:
        return Guard(CertFolder(self.store.server, Side.SERVER), None)

    def client(self, name: str, days: float = 5, age_days: float = 0) -> Trust:
        """What this client trusts and proves; its certificate was made `age_days` ago."""
        folder = self.store.make_client(name, days, today() - timedelta(days=age_days)).path
        return Trust(tls=True, certs=CertFolder(folder, Side.CLIENT))

    def deny(self, *lines: str) -> None:
        (self.store.server / "denied.txt").write_text("\n".join(lines) + "\n")
