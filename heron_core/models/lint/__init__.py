"""What is wrong with a user's own model, though it runs: found on made-up batches, and said with the cure.

One lint for a server's start, `validate`, `check` and the test kit. It refuses by a ModelError, and it warns.
"""
