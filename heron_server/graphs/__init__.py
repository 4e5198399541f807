"""From a run's model to the graphs that clients without torch run, each compared with torch before it is offered.

No client, no round and no network are known here.
"""
