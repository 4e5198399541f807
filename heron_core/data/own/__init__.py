"""What is looked at in a user's own data before it trains, and what to do where it is wrong. NumPy only."""
