"""Micro-batches on their way up, within credit and window, and cut gradients on their way down.

No torch, and no decision about rounds.
"""
