"""The contract of a split model: its parts, and its task. Needs torch; the rest of `heron_core.testing` does not."""
