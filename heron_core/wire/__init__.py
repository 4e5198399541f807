"""Tensors as bytes: manifests, chunks, bulk messages, and the gRPC settings both sides share.

No torch, and no meaning: what a tensor is for is nobody's business here.
"""
