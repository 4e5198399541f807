"""What a client computes: local rounds, the zeroth-order kernel, update rules, and the backends that run the model.

No message is sent from here.
"""
