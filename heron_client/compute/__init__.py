"""What a client computes: local rounds, the zeroth-order kernel, update rules, and what runs the model.

No message is sent from here.
"""
