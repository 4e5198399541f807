"""What a client may be called: in a message, in a certificate, in a token and as a folder."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RULE = "a client name is 1 to 64 of [A-Za-z0-9._-], the first a letter or a digit"
