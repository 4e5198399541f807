"""The fingerprint of a model's state.  NumPy only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from heron_core.arrays import Array


def state_sha256(state: Mapping[str, Array]) -> str:
    """SHA-256, hexadecimal, over the arrays in name order: name, dtype, shape, raw little-endian bytes.

    The insertion order, memory layout and byte order in memory make no difference; any bit of a value does.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        array = np.asarray(state[name])
        little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        label = name.encode()
        digest.update(b"%d:%s %s %s\n" % (len(label), label, little.dtype.str.encode(), str(array.shape).encode()))
        digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
