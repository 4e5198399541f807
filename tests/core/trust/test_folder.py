"""What a folder of certificates says, and what is wrong with one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from secured import Secured, today

from heron_core.errors import ConfigError
from heron_core.trust.facts import fault_in_time
from heron_core.trust.folder import CertFolder, Side


@pytest.fixture
def certs(tmp_path: Path) -> Secured:
    return Secured(tmp_path)


def folder_of(certs: Secured, name: str = "a", **facts: float) -> CertFolder:
    folder = certs.client(name, **facts).certs
    assert folder is not None
    return folder


def test_a_folder_says_whose_it_is_and_for_how_long_whatever_the_clock_says(certs: Secured) -> None:
    for age_days in (-400, 0, 400):
        facts = folder_of(certs, "gateway-7", days=5, age_days=age_days).read().facts
        made = today() - timedelta(days=age_days)
        assert facts.name == "gateway-7" and facts.hosts == ()
        assert abs(facts.not_after - made - timedelta(days=5)) < timedelta(minutes=2)
        assert abs(facts.not_before - made + timedelta(days=1)) < timedelta(minutes=2)
        assert int(facts.serial, 16) > 0


def test_a_server_s_certificate_lists_its_hosts(certs: Secured) -> None:
    folder = certs.serve(("heron.example", "10.0.0.5", "::1")).certs
    assert folder is not None
    assert folder.read().facts.hosts[:3] == ("heron.example", "10.0.0.5", "0:0:0:0:0:0:0:1")


def test_a_client_s_certificate_is_worth_nothing_to_a_server(certs: Secured) -> None:
    stolen = CertFolder(folder_of(certs).path, Side.SERVER)
    with pytest.raises(ConfigError, match=r"cert\.pem is no server's certificate of the CA .*purpose"):
        stolen.read()


def test_what_does_not_fit_is_named(certs: Secured, tmp_path: Path) -> None:
    folder, other = folder_of(certs, "a"), folder_of(certs, "b")
    (folder.path / "key.pem").write_bytes((other.path / "key.pem").read_bytes())
    with pytest.raises(ConfigError, match=r"are not three PEM files that fit each other .*KEY_VALUES_MISMATCH"):
        folder.read()
    (folder.path / "key.pem").write_text("no PEM")
    with pytest.raises(ConfigError, match="are not three PEM files that fit each other"):
        folder.read()
    (folder.path / "key.pem").unlink()
    with pytest.raises(ConfigError, match=r"no key\.pem in .*a, which is to prove the client; .*heron-server certs"):
        folder.read()
    (other.path / "ca.pem").write_bytes((Secured(tmp_path / "2").root / "ca.pem").read_bytes())
    with pytest.raises(ConfigError, match=r"cert\.pem is no client's certificate of the CA in ca\.pem"):
        other.read()


def test_a_key_that_wants_a_password_does_not_wait_at_the_terminal(certs: Secured) -> None:
    from cryptography.hazmat.primitives import serialization as pem

    path = folder_of(certs).path / "key.pem"
    key = pem.load_pem_private_key(path.read_bytes(), None)
    locked = key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.BestAvailableEncryption(b"secret"))
    path.write_bytes(locked)
    with pytest.raises(ConfigError, match="are not three PEM files"):
        CertFolder(path.parent, Side.CLIENT).read()


def test_a_wrong_clock_is_named_as_such(certs: Secured) -> None:
    facts = folder_of(certs, days=5).read().facts
    assert fault_in_time("it", facts, today()) == ""
    without_battery = fault_in_time("it", facts, datetime(1970, 1, 1, tzinfo=UTC))
    assert "it is valid only from 20" in without_battery and "clock says 1970-01-01 00:00 UTC" in without_battery
    assert "that clock is wrong (a box without a battery?); set it" in without_battery
    late = fault_in_time("it", facts, today() + timedelta(days=6))
    assert late.startswith("it expired on 20") and "if the clock is right, make a new certificate" in late
