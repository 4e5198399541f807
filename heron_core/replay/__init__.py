"""What a zeroth-order client did in a round, done again from its seeds and slopes, bit for bit.

Both sides do it: the server for each client, each client for everybody. NumPy only; no message is sent from here.
"""
