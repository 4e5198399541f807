"""`heron-client doctor`: why this client cannot take part, and how to mend it.

The one question that counts is asked as a run asks it, by a Join over gRPC. What the other checks of the network find
fails only where that Join does, so that no way which works is called broken.
"""
