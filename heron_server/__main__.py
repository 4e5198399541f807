"""`python -m heron_server`: the same as the command heron-server."""

from heron_server.cli import main

main()
