"""One process of ours: how it begins, hears signals and ends, and how what it starts ends with it.

Only the commands set anything up here. A library call, such as `simulate` in a user's own program, changes no signal.
"""
