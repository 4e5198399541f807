"""What both doctors share: how checks are run and said, and those that look at this machine alone.

Nothing here talks to a peer, and nothing is written or created.
"""
