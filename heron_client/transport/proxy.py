"""The proxy that the environment names for gRPC, which a client goes by only where its settings say so."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The first of these variables that is set counts for gRPC, which reads none in capitals."""
EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
"""Likewise: the hosts that are reached without."""


def named_proxy() -> str:
    """`http_proxy = 'http://proxy:3128'`, without a password, and what it is not used for; empty: there is none."""
    through, exceptions = _first_set(PROXIES), _first_set(EXCEPTIONS)
    if not through or not os.environ[through]:
        return ""
    said = f"{through} = {without_user(os.environ[through])!r}"
    return f"{said} (but for {exceptions} = {os.environ[exceptions]!r})" if exceptions else said


def how_it_went(use_proxy: bool) -> str:
    """For the end of a message about a server that is not reached; empty where no proxy is named."""
    named = named_proxy()
    if not named:
        return ""
    return f"; the way goes by {named}" if use_proxy else f"; {named} is not used, use_proxy = true goes by it"


def without_user(proxy: str) -> str:
    """Name and password of a proxy are for nobody's log."""
    try:
        user, at, _ = urlsplit(proxy).netloc.rpartition("@")
    except ValueError:
        return "a proxy"
    return proxy.replace(user + at, "", 1) if at else proxy


def _first_set(variables: tuple[str, ...]) -> str:
    """An empty one counts; empty where none is set."""
    return next((variable for variable in variables if variable in os.environ), "")
