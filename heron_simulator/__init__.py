"""N clients and a server in one process, and sweeps of such runs.

Uses both sides; neither uses it.
"""
