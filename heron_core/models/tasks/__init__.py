"""What a model is for: what a label is, the loss of each sample, and the metrics of an evaluation.

No task knows a network, a client or a round.
"""
