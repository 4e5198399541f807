"""Generated stubs of the proto package heron.v1."""
