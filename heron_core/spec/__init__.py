"""The run spec and the family of methods: everything that affects learning, as settings.

Nothing is loaded, built or computed here.
"""
