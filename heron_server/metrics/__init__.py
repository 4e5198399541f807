"""What programs read of a run: the ledger of bytes, counts and figures, pace, and the observers who hear of it all.

Nothing is displayed or stored here.
"""
