"""Where samples come from: built-in experiments, files, and a user's own code.

NumPy only; who gets which sample is decided above.
"""
