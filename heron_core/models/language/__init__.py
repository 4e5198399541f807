"""Decoder language models from a local folder, cut after one of their blocks, of which only adapters train.

Whatever transformers' AutoModelForCausalLM loads; no class per family. transformers and peft are imported on first use.

Legend: B sequences, T positions, H width of the hidden state, V tokens of the vocabulary.
"""
