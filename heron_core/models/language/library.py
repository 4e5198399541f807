"""What comes from transformers, by name: it is imported on first use, so its types are not at hand."""

from __future__ import annotations

from typing import Any

Decoder = Any
"""A PreTrainedModel with an unembedding."""
Config = Decoder
"""A PreTrainedConfig."""
Output = Decoder
"""What a block gives: a hidden state, or a tuple that begins with one."""
Given = Decoder
"""An argument of a block beside the hidden state."""
