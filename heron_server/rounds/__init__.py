"""The state machine of rounds: events in, actions out.

No I/O, no clock, no torch.
"""
