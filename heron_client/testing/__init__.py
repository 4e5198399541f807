"""The contracts of what replaces a part of the client, as plain functions: of a transport, and of a backend.

They live here and not in `heron_core.testing`, because core imports neither side, and the interfaces are the client's.
Nothing here needs pytest or torch; Heron's own suites call the same functions.
"""

from heron_client.testing.backends import check_backend
from heron_client.testing.transports import check_transport

__all__ = ["check_backend", "check_transport"]
