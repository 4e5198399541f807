"""gRPC settings of both sides: message caps, keepalive, how a client connects, and whose session a call is."""

from __future__ import annotations

from heron_core.wire.codec import MAX_MESSAGE_BYTES

SESSION_KEY = "heron-session"
"""The metadata entry of every call but Join, with the session's id: the server reads nothing of anybody else's call."""


def of_session(session_id: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call in this session; of none where it is empty."""
    return ((SESSION_KEY, session_id),) if session_id else ()


CAPS = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
]

CLIENT_OPTIONS = [
    *CAPS,
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),  # a client's settings may say otherwise
    ("grpc.use_local_subchannel_pool", 1),  # each channel its own connection: beats never queue behind activations
    ("grpc.min_reconnect_backoff_ms", 20_000),  # despite its name: how long one attempt to connect may take
    ("grpc.initial_reconnect_backoff_ms", 250),  # from the beginning of an attempt that failed to the next
    ("grpc.max_reconnect_backoff_ms", 5_000),
]

BULK_OPTIONS = [("grpc.client_idle_timeout_ms", 60_000)]
"""Of the connection for states and activations: closed after so long without a call, and made anew by the next one. An
idle client then costs the server one connection."""

SERVER_OPTIONS = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),  # what it takes depends on the run: heron_server/api/server.py
    ("grpc.server_handshake_timeout_ms", 10_000),  # a connection that says nothing, or does not finish TLS
    ("grpc.max_connection_idle_ms", 600_000),  # without a call
    ("grpc.max_concurrent_streams", 32),  # on one connection
    # A window of 1 MiB for each stream. gRPC's own grow with the path, and a peer may then send megabytes that nobody
    # has asked for yet, in each of its calls.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),
    ("grpc.http2.max_frame_size", 1 << 20),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a second listener
]
