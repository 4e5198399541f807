"""What a run will cost and whether it makes sense, counted before anybody joins.

Nothing here changes a run.
"""
