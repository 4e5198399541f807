"""Text as a language model's samples: a tokeniser, what counts of a text, and texts that experiments use.

A sample is token ids, and for each of them the id that follows, or IGNORED. NumPy only; the tokenizers package, and
Jinja for chats, come in when the first text is read. Where the text lies is decided above.
"""
