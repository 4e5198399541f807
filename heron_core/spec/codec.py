"""How the cut's tensors travel, as a run file says it."""

from __future__ import annotations

from typing import Literal

from heron_core.spec.kinds import Flag, Settings

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
    """With a front that never changes: a sample's activations and label travel once, the server keeps them in its run
    directory (server.reuse_budget), and after that the client sends the sample's number alone. The new rows of
    an upload leave together, whatever method.micro_batch is. The same bits as without."""
    exact: Flag = True
    """With reuse: refuse what would give other bits than without it. A client looks whether its samples' activations
    are the same beside other samples and in another place of the micro-batch, and names the layer where they are not;
    codecs that round at random would round once and not anew in each pass. false: reuse them all the same."""
