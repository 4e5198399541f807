"""What a rule of aggregation needs of the federation.

Each function gives one sentence for each constraint that is broken.
"""

from __future__ import annotations

from collections.abc import Iterator

from heron_core.spec.run_spec import FederationSpec
from heron_server.aggregation.rules import RULES


def hostile(federation: FederationSpec) -> Iterator[str]:
    """A rule's promise holds for so many clients in every round, also in one that goes on with the fewest."""
    rule, hostile = federation.aggregation, federation.hostile
    needed, chosen = RULES[rule].fewest(hostile), f'federation.aggregation = "{rule}" with hostile = {hostile}'
    if federation.participants < needed:
        yield (
            f"{chosen} needs {needed} clients in a round, here there are {federation.participants}; "
            "lower hostile, add clients or take another rule"
        )
    if federation.min_clients < needed:
        yield (
            f"{chosen} needs {needed} clients in every round, and a round may go on with federation.min_clients = "
            f"{federation.min_clients}; set min_clients = {needed}, or lower hostile"
        )
    if rule == "trimmed_mean" and not hostile:
        yield f'{chosen} trims nothing; say how many clients may be hostile, or take aggregation = "uniform"'
