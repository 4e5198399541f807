"""Numbers, tables, TOML and what state machines were told, as text.

The ground floor: knows nothing of runs.
"""
