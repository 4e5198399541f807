"""Who may come in: a CA of one's own, certificates, tokens and the deny list, as files.

Nothing of gRPC in here, and nothing of a run. A running server reads; only the `certs` commands write.
"""
