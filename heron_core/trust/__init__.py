"""What both sides must agree on to trust each other: addresses, folders of certificates, and dates.

The standard library only: whoever runs needs no other. Making certificates is the server's certs room.
"""
