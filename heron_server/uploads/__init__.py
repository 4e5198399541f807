"""Uploads from their first frame until they are whole and it is their turn, and who is late with them.

Nothing is trained here, and no round is decided.
"""
