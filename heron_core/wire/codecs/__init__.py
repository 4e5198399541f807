"""What each activation codec makes of blocks of float32. NumPy only."""
