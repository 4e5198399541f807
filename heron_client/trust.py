"""How this client reaches its server: what the settings, the files and the command line together say."""

from __future__ import annotations

from pathlib import Path

from heron_client.config import ClientSettings
from heron_client.transport.trust import Trust
from heron_core.errors import ConfigError
from heron_core.trust.addresses import is_loopback, is_public
from heron_core.trust.folder import CertFolder, Side

USUAL, TOKEN = Path("certs"), "token"


def choose_trust(settings: ClientSettings, insecure: bool) -> Trust:
    """`insecure`: the operator said --insecure. ConfigError where labels and activations would pass in plain text to
    another machine although nobody said so."""
    if insecure and (settings.certs or settings.token_file):
        raise ConfigError("--insecure goes without certs and token_file, which the settings name; leave one out")
    near = is_loopback(settings.server)
    folder = settings.certs or (USUAL if USUAL.is_dir() and not near and not insecure else None)
    certs = CertFolder(folder, Side.CLIENT) if folder else None
    token = settings.token_file
    if certs and not certs.proves and token is None and (certs.path / TOKEN).exists():
        token = certs.path / TOKEN
    if certs is None and not near and token is None:
        _check_open(settings, insecure)
        return Trust(use_proxy=settings.use_proxy)
    return Trust(tls=bool(certs) or not near, certs=certs, token=token, use_proxy=settings.use_proxy)


def _check_open(settings: ClientSettings, insecure: bool) -> None:
    if not insecure:
        raise ConfigError(
            f"server = {settings.server!r} is another machine, and there are no certificates in "
            f"{settings.certs or USUAL}: copy there the folder that `heron-server certs client {settings.name}` makes "
            "on the server. Or say --insecure to send labels and activations in plain text"
        )
    if is_public(settings.server) and not settings.insecure:
        raise ConfigError(
            f"server = {settings.server!r} may be anywhere: --insecure alone is not enough to send labels and "
            "activations there in plain text. Get certificates, or say insecure = true in the client's file too"
        )
