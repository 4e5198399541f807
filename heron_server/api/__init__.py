"""The gRPC front: handlers and interceptors.

No training word in here: decode, event, perform, encode.
"""
