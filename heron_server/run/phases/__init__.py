"""The phases of a round: training uploads, aggregating, evaluating, committing, restoring.

Each is asked to act and reports what came of it; none knows the coordinator or the rounds machine.
"""
