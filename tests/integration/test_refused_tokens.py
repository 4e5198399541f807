"""Who has no token, a wrong one or one that counts no more is refused on every RPC: one-way TLS, over real gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.test_refused_callers import WITHOUT_SESSION, RunOfAlice, each_call, join
from secured import Secured

from heron_client.transport.trust import Trust
from heron_core.errors import NotAdmitted, UnknownSession
from heron_core.trust.folder import CertFolder, Side
from heron_server.certs.choice import Guard
from heron_server.certs.tokens import make_token, with_token


class Run(RunOfAlice):
    """By tokens in place of certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certs = Secured(folder / "certs")
        self.listed, self.denied = folder / "tokens.txt", folder / "denied.txt"
        self.listed.write_text("")
        self.tokens = {name: self.give(name) for name in ("alice", "bob")}
        super().__init__(folder, Guard(self.certs.guard.certs, self.listed), self.trust(self.tokens["alice"]))

    def give(self, name: str) -> str:
        token = make_token(name)
        self.list(with_token(self.listed.read_text(), token))
        return token

    def list(self, text: str) -> None:
        """As `heron-server certs token` does: the file is there as a whole at any moment."""
        beside = self.folder / "tokens.new"
        beside.write_text(text)
        beside.replace(self.listed)

    def trust(self, token: str | None) -> Trust:
        """One-way: the CA and no certificate; the token's file, if there is one."""
        believed, held = self.folder / "believed", self.folder / "token"
        believed.mkdir(exist_ok=True)
        (believed / "ca.pem").write_bytes((self.certs.root / "ca.pem").read_bytes())
        held.write_text(token or "")
        return Trust(tls=True, certs=CertFolder(believed, Side.CLIENT), token=held if token else None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = Run(tmp_path_factory.mktemp("tokens"))
    yield run
    run.world.close()


@each_call
def test_without_a_token_or_with_one_that_is_nobody_s_a_caller_is_told_what_is_wanted(run: Run, rpc: str) -> None:
    assert "wants a token with every call; set token_file" in run.refusal(rpc, run.trust(None), NotAdmitted)
    for wrong in (make_token("alice"), "alice:", "nobody", run.tokens["alice"] + "x"):
        assert "is not one of the server's; ask its operator" in run.refusal(rpc, run.trust(wrong), NotAdmitted)


@each_call
def test_another_s_token_speaks_for_that_other_alone(run: Run, rpc: str) -> None:
    said = run.refusal(rpc, run.trust(run.tokens["bob"]), NotAdmitted if rpc in WITHOUT_SESSION else UnknownSession)
    if rpc == "Join":
        assert "is 'bob''s, and the client calls itself 'alice'" in said


@each_call
def test_a_token_whose_line_is_gone_and_a_name_that_is_denied_are_refused(run: Run, rpc: str) -> None:
    token = run.give("carol")
    kept = [line for line in run.listed.read_text().splitlines() if not line.startswith("carol")]
    run.list("\n".join(kept) + "\n")
    assert "is not one of the server's" in run.refusal(rpc, run.trust(token), NotAdmitted)
    run.denied.write_text("bob\n")
    try:
        assert "is not let in any more" in run.refusal(rpc, run.trust(run.tokens["bob"]), NotAdmitted)
    finally:
        run.denied.write_text("")


def test_who_loses_its_token_loses_the_open_streams_and_a_new_one_lets_it_in_again(run: Run) -> None:
    old = run.give("dora")
    dora = run.world.transport(run.trust(old))
    session = join(dora, "dora").session_id
    dora.watch(session, 1.0, 30.0)
    assert dora.next_event(20.0) is not None
    new = run.give("dora")
    with pytest.raises(NotAdmitted, match="not let in any more"):
        while True:
            dora.next_event(20.0)
    assert run.world.coordinator.clients_present == 1
    assert join(run.world.transport(run.trust(new)), "dora").session_id
