"""`python -m heron_client`: the same as the command heron-client."""

from heron_client.cli import main

main()
