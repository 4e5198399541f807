"""Settings of a pretrained language model that a run fine-tunes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heron_core.spec.kinds import Count, Positive, PositiveFloat, Settings

LayerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=100)]


class LanguageSpec(Settings):
    length: Positive = 128
    """Most tokens of a sequence. Shorter ones travel as long as they are."""
    auxiliary_blocks: Count = 0
    """k: copies of the server's next blocks in the auxiliary head; they get adapters, too."""
    auxiliary_rank: Count = 32
    """Rank of the head's map h + B A h before the final norm. 0: none."""
    alpha: PositiveFloat = 16.0
    """Adapters are scaled by alpha / model.lora_rank."""
    client_adapter: Literal["lora", "lora_xs", "embedding"] = "lora"
    """Of the client's parts: lora trains A and B, lora_xs the r x r matrix R of B R A alone, with A and B from the
    largest singular values of the layer's weight: few numbers, as zeroth order wants them. embedding trains a map
    e + B A e of every token's embedding, and of the head its map: few numbers too, as many at any cut. The back has
    lora."""
    targets: tuple[LayerName, ...] = ()
    """Last names of the layers in each block that get adapters, such as q_proj, v_proj. Empty: peft's choice for the
    kind of model, or else all linear layers."""
    front_weights: Literal["float32", "int8", "int4"] = "float32"
    """Of the front's frozen weights, as every side computes with them. int8 rounds the linear layers of its blocks and
    the token embeddings to 8 bits, int4 those layers to 4: smaller for a client that runs graphs, which makes float32
    of them layer by layer. Adapters, activations and losses are float32 whatever it is."""
    server_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the server's frozen weights. Adapters, and all that a client computes, are float32."""
