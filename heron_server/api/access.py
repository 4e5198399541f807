"""What a caller has to bring, and who that proves it to be: a certificate, a token, or nothing."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, cast

import grpc

from heron_core.errors import ConfigError, NotAdmitted
from heron_core.trust.folder import CertFolder, Contents
from heron_core.trust.token import TOKEN_KEY
from heron_server.certs.choice import Guard
from heron_server.certs.denied import DenyList
from heron_server.certs.tokens import Tokens

log = logging.getLogger("heron.server")

EXPLICIT_VERSION, LONG_LENGTH = 0xA0, 0x80
"""Of DER: the tag before a certificate's version, and the bit of a length that has bytes of its own."""
WITHDRAWN = NotAdmitted("this client is not let in any more; ask the server's operator")


class Caller(Protocol):
    """What gRPC's context says of the other end."""

    def auth_context(self) -> Any:
        """Properties of its certificate, by gRPC's names."""
        ...

    def invocation_metadata(self) -> Any:
        """(key, value) pairs that came with the call."""
        ...


@dataclass(frozen=True)
class Proof:
    """Whom a call is proved to come from."""

    name: str = ""
    """Empty: anybody, nothing was asked for."""
    serial: str = ""
    """Of the certificate, in hexadecimal."""
    token: str = field(default="", repr=False)


class Access:
    """Reads the proof of each call. Files may change at any time; what is read here is what they say now."""

    def __init__(self, guard: Guard) -> None:
        """ConfigError where the server's own files cannot be used."""
        self._guard = guard
        self._renewing = Renewing(guard.certs) if guard.certs else None
        self._tokens = Tokens(guard.tokens) if guard.tokens else None
        self._denied = DenyList(guard.denied) if guard.denied else None
        if guard.tokens and not guard.tokens.is_file():
            raise ConfigError(f"no {guard.tokens} (server.tokens); make one: heron-server certs token NAME")

    @property
    def credentials(self) -> grpc.ServerCredentials | None:
        """For the port. None: plain text."""
        if self._renewing is None:
            return None
        return self._renewing.credentials(ask_for_certificate=self._tokens is None)

    def prove(self, caller: Caller) -> Proof:
        """Who calls. Raises NotAdmitted where nothing proves it, or where the caller is on the deny list."""
        proof = self._by_token(caller) if self._tokens else self._by_certificate(caller)
        self.check(proof)
        return proof

    def check(self, proof: Proof) -> None:
        """Raises NotAdmitted once this caller is on the deny list, or its token is not listed any more."""
        if self._denied and proof.name and self._denied.denies(proof.name, proof.serial):
            raise WITHDRAWN
        if self._tokens and self._tokens.name_of(proof.token) != proof.name:
            raise WITHDRAWN

    def lists(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The lines of the deny list and of the tokens, each the same object for as long as it does not change."""
        return self._denied.lines() if self._denied else (), self._tokens.lines() if self._tokens else ()

    def _by_token(self, caller: Caller) -> Proof:
        assert self._tokens is not None
        given = next((value for key, value in caller.invocation_metadata() or () if key == TOKEN_KEY), None)
        if given is None:
            raise NotAdmitted("this server wants a token with every call; set token_file to the one it gave you")
        name = self._tokens.name_of(str(given))
        if name is None:
            raise NotAdmitted("this token is not one of the server's; ask its operator for a new one")
        return Proof(name, token=str(given))

    def _by_certificate(self, caller: Caller) -> Proof:
        if self._renewing is None:
            return Proof()
        context = caller.auth_context()
        names, pems = context.get("x509_common_name", ()), context.get("x509_pem_cert", ())
        if len(names) != 1 or len(pems) != 1:
            raise NotAdmitted("a client's certificate has one common name, which is the client's name; make it anew")
        return Proof(names[0].decode("utf-8", "replace"), serial_of(bytes(pems[0])))


@lru_cache(maxsize=4096)
def serial_of(pem: bytes) -> str:
    """The certificate's serial number in hexadecimal.

    Certificate ::= SEQUENCE { SEQUENCE { [0] version, INTEGER serialNumber, ...  (RFC 5280); TLS has verified it whole.
    """
    der = ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))
    start, _ = _content(der, 0)
    start, _ = _content(der, start)
    if der[start] == EXPLICIT_VERSION:
        _, start = _content(der, start)
    return der[slice(*_content(der, start))].hex()


def _content(der: bytes, at: int) -> tuple[int, int]:
    """From where to where the content of the DER value at `at` goes."""
    length, start = der[at + 1], at + 2
    if length >= LONG_LENGTH:
        count = length - LONG_LENGTH
        length, start = int.from_bytes(der[start : start + count], "big"), start + count
    return start, start + length


@dataclass
class Renewing:
    """The server's certificate, read again at a handshake once its files have changed."""

    folder: CertFolder
    _stamp: object = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def credentials(self, ask_for_certificate: bool) -> grpc.ServerCredentials:
        """Those of the folder as it is; raises ConfigError. `ask_for_certificate`: of its CA, from every caller."""
        self._stamp = self.folder.stamp()
        first = _configuration(self.folder.read())
        changed = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._changed)  # may give None
        return grpc.dynamic_ssl_server_credentials(first, changed, require_client_authentication=ask_for_certificate)

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """gRPC asks at each handshake, in threads of its own. None: as before."""
        with self._lock:
            stamp = self.folder.stamp()
            if stamp == self._stamp:
                return None
            try:
                contents = self.folder.read()
            except ConfigError as error:
                log.warning("the certificate is not renewed yet: %s", error)
                return None
            if self.folder.stamp() == stamp:  # or files changed meanwhile, and the next handshake looks again
                self._stamp = stamp
                return _configuration(contents)
            return None


def _configuration(contents: Contents) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(contents.key, contents.cert)], root_certificates=contents.ca)
