"""One run: the coordinator, the phases of a round, and what precedes and follows it.

Decides nothing that the rounds machine decides, computes nothing that the trainer computes.
"""
