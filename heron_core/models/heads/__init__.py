"""Auxiliary heads: from the activations at the cut straight to outputs.

No family is imported here: a head sees shapes alone.
"""
