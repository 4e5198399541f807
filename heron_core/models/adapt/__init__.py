"""Which of the front's parameters move: all, some, or adapters beside them.

Takes any model; builds none by name.
"""
