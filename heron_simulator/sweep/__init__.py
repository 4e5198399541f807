"""`heron-simulate --sweep`: many simulated runs by one file, in parallel and resumable, and their page."""
