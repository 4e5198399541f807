"""Samples of which the server keeps what it needs, so that they need not travel again."""
