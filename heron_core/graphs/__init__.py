"""What a client without torch runs: graphs that its server exported, and the page that describes them.

Neither side's runtime is imported here. docs/graphs.md says what is in them.
"""
