"""How much a peer may have of the server before it is known, and how many calls and connections at all.

Nothing of a message is looked at in here.
"""
