"""What programs read of a run: the ledger of bytes, records, pace, and the observers' interface.

Nothing is displayed or stored here.
"""
