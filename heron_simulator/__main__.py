"""`python -m heron_simulator`: the same as the command heron-simulate."""

from heron_simulator.cli import main

main()
