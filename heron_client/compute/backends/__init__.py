"""What runs the model on a client, behind the interfaces of `heron_client/compute/backend.py`.

The only place on a client that imports a machine-learning runtime. No step, no direction and no update rule in here.
"""
