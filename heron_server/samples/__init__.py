"""Texts that a language model writes, for people to read beside the figures. Torch; on no event loop."""
