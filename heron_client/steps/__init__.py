"""How a client steps, one file for each way of moving its parameters."""
