"""How the cut's tensors travel, as a run file says it."""

from __future__ import annotations

from typing import Literal

from heron_core.spec.kinds import Flag, Settings, Share

CodecName = Literal["raw", "bf16", "int8", "int4", "int2", "topk"]


class CodecSpec(Settings):
    """How float32 tensors at the cut travel. raw: as they are. bf16: 16 bits a value, rounded. int8, int4, int2: 8.5,
    4.5 and 2.5 bits, rounded at random within the range of 32 consecutive values. topk: 3 bits, an eighth of the
    values, the largest but for a tenth that is drawn at random, and 0 for the others; on the digits it learns less than
    int2. Integers travel raw. A micro-batch is encoded by itself, so that `method.micro_batch` then changes results."""

    uploads: CodecName = "raw"
    """Of the activations that train the back."""
    cut_gradients: CodecName = "raw"
    """Of the gradients that come back."""
    evaluation: CodecName = "raw"
    """Of the activations that clients send to be evaluated."""
    labels: Literal["raw", "packed"] = "raw"
    """Of the labels beside them. packed: classes or ids, up to 65,535 of them, in 1 or 2 bytes each; no result
    changes."""
    client_state: Literal["weights", "seeds"] = "weights"
    """How the client state travels. weights: its tensors. seeds: after a first fetch the slopes of each client's steps,
    from which both sides replay what they did to the weights; a client that begins anew fetches the weights. For
    heron with Rademacher directions; no result changes."""
    reuse: Flag = False
    """A sample's activations and label travel once, the server keeps them in its run directory (server.reuse_budget),
    and after that the client sends its number alone. Front that never changes: the same bits as without. Front that
    learns: activations travel again once they have moved by more than tolerance. The new rows of an upload leave
    together."""
    tolerance: Share = 0.04
    """With reuse and a front that learns: how far a sample's activations may move from what the server keeps of them,
    norm of the difference over the norm of what was sent, before they are sent again. Until then the server trains on
    what it keeps. A client that begins anew sends all of them again, and what the run then learns differs."""
    exact: Flag = True
    """With reuse: refuse what would give other bits than without it. A client whose front never changes looks whether
    its samples' activations are the same beside other samples and in another place, and names the layer where they
    are not; codecs that round at random would round once, not in each pass. false: reuse them all the same."""
