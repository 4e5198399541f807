"""What a person sees: lines, a live display, tables and curves.

Nothing here is asked by the run; it is only told.
"""
