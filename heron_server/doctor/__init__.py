"""`heron-server doctor`: why this run cannot be served here, and how to mend it. Nothing is changed."""
