"""Why a server cannot be reached, in words: a second handshake, by the standard library, which says what gRPC does not.

A server of gRPC ends the connection of a client that it refuses without a word, and a client of gRPC reports all of it
as "unavailable". Nothing but TLS is spoken here.
"""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime

from heron_client.transport.trust import Trust
from heron_core.errors import ConfigError
from heron_core.trust.addresses import certified_host, host_of, is_socket, port_of
from heron_core.trust.facts import NO_CHECK_TIME, Facts, decoded, fault_in_time
from heron_core.trust.folder import CA, CERT

PATIENCE_S = 3.0
PLAIN_ANSWERS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
"""OpenSSL's words for bytes that are not TLS."""


def why_refused(address: str, trust: Trust, now: datetime | None = None) -> str:
    """What is wrong between this client and the server at `address`; empty where no handshake can tell.

    `now`: what the clock says.
    """
    if is_socket(address):
        return ""
    try:
        return _Probe(address, trust, now or datetime.now(UTC)).fault()
    except OSError:
        return ""  # not reached: gRPC's own words say so


def facts_of_server(address: str, trust: Trust) -> Facts | None:
    """What the certificate of the server at `address` says; None where a handshake shows none that is believed."""
    if is_socket(address):
        return None
    try:
        return _Probe(address, trust, datetime.now(UTC)).facts_of_server()
    except OSError:
        return None


class _Probe:
    def __init__(self, address: str, trust: Trust, now: datetime) -> None:
        self._address, self._host, self._trust, self._now = address, host_of(address), trust, now
        self._name = certified_host(address)

    def fault(self) -> str:
        try:
            settled = self._handshake(self._context())
        except ssl.SSLCertVerificationError as error:
            return self._fault_of_server(error)
        except ssl.SSLError as error:
            if not self._trust.tls:
                return ""  # both speak plain text: nothing here explains it
            if error.reason in PLAIN_ANSWERS:
                return (
                    f"{self._address} answers, but in plain text: it runs without certificates, or is another server; "
                    "have it started with its own (heron-server certs server), or mend the port in `server`"
                )
            return f"{self._address} ended the TLS handshake ({error.reason or error}); see what its operator says"
        if not self._trust.tls:
            return (
                f"{self._address} speaks TLS, and this client was told of no certificates; copy its folder of "
                "`heron-server certs client` here and name it: certs"
            )
        return "" if settled else self._fault_of_own()

    def _handshake(self, context: ssl.SSLContext) -> bool:
        """Does the server go on after it? One that refuses the client's certificate ends the connection."""
        with self._connected(context) as connection:
            try:
                return bool(connection.recv(1))
            except TimeoutError:
                return True
            except ConnectionError:
                return False

    def _connected(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        connection = socket.create_connection((self._host, port_of(self._address)), timeout=PATIENCE_S)
        try:
            return context.wrap_socket(connection, server_hostname=self._name)
        except BaseException:
            connection.close()
            raise

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        folder = self._trust.certs
        if not self._trust.tls:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif folder is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(folder.path / CA)
            if folder.proves:
                context.load_cert_chain(folder.path / CERT, folder.path / "key.pem", password=lambda: "")
        return context

    def _fault_of_server(self, error: ssl.SSLCertVerificationError) -> str:
        facts = self.facts_of_server()
        if facts is None:
            believed = self._trust.certs.path / CA if self._trust.certs else "this machine's list of authorities"
            return (
                f"the certificate of {self._address} is not of the CA in {believed} ({error.verify_message}): another "
                "server, or its CA was made anew; copy this client's folder from the server again"
            )
        fault = fault_in_time(f"the certificate of {self._address}", facts, self._now)
        return fault or (
            f"the certificate of {self._address} is not for {self._name!r} but for {', '.join(facts.hosts)}; reach the "
            f"server by one of these, or make its certificate anew: heron-server certs server --host {self._name} "
            "--force"
        )

    def facts_of_server(self) -> Facts | None:
        """Of its certificate, whatever name and dates it has; None where it is of no CA that this client believes."""
        context = self._context()
        context.check_hostname, context.verify_flags = False, context.verify_flags | NO_CHECK_TIME
        try:
            with self._connected(context) as connection:
                certificate = connection.getpeercert()
        except ssl.SSLCertVerificationError:
            return None
        return decoded(certificate) if certificate else None

    def _fault_of_own(self) -> str:
        folder = self._trust.certs
        if folder is None or not folder.proves:
            return (
                f"{self._address} wants a client's certificate, and this client has none; copy its folder of "
                "`heron-server certs client` here and name it: certs"
            )
        try:
            own = folder.read().facts
        except ConfigError as error:
            return str(error)
        whose = f"this client's certificate ({folder.path / CERT})"
        return fault_in_time(whose, own, self._now) or (
            f"{self._address} does not take {whose}: the server believes another CA, or its clock says that the "
            "certificate is not valid yet or any more; compare both clocks, or copy this client's folder again"
        )
