"""Where one client stands towards its server, and the driver that acts on it.

No torch: a local round is driven here, never computed.
"""
