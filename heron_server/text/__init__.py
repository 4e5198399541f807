"""Numbers, tables and TOML as text.

The ground floor: knows nothing of runs.
"""
