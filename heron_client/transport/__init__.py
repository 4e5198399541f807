"""What carries a client's messages: the interface, and gRPC behind it.

Nothing here knows what a message is for.
"""
