"""Client states, and the rules that make one of many.

NumPy only; who takes part is decided elsewhere.
"""
