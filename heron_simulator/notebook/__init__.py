"""`simulate` for programs and notebooks: objects in the place of names, and a result to look at.

Objects stay in this process: the run spec holds a name by which the simulated clients find them.
"""
