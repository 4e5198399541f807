"""The torch side: who owns the back and trains it, on one worker thread.

No message, no client session and no file is known here.
"""
