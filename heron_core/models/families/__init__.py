"""The built-in networks, as named stages that can be cut.

Nothing here knows who trains them or how.
"""
