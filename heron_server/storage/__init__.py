"""What is on the disk: checkpoints and the run directory.

Nothing here knows what the tensors mean.
"""
