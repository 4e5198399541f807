"""gRPC settings of both sides: message caps, keepalive, and how a client connects."""

from __future__ import annotations

from heron_core.wire.codec import MAX_MESSAGE_BYTES

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
    ("grpc.use_local_subchannel_pool", 1),  # each channel its own connection: beats never queue behind activations
    ("grpc.min_reconnect_backoff_ms", 20_000),  # despite its name: how long one attempt to connect may take
    ("grpc.initial_reconnect_backoff_ms", 250),  # from the beginning of an attempt that failed to the next
    ("grpc.max_reconnect_backoff_ms", 5_000),
]

SERVER_OPTIONS = [
    *CAPS,
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a second listener
]
