"""What a client says of itself as it joins: read and bounded, compared with the others, and kept for those to come.

Nothing is admitted here: that is the rounds machine's.
"""
