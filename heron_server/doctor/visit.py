"""One run on one machine, each part of it looked at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from heron_core.spec.run_spec import RunSpec
from heron_server.certs.choice import Guard, choose_guard
from heron_server.config import ServerSettings
from heron_server.planning.checks import CheckedRun, check_run


@dataclass
class Visit:
    """What the checks share."""

    spec: RunSpec
    settings: ServerSettings
    insecure: bool = False
    now: datetime | None = None
    """What the clock says. None: what it says when it is asked."""

    @property
    def time(self) -> datetime:
        """By this machine's clock."""
        return self.now or datetime.now(UTC)

    @cached_property
    def guard(self) -> Guard:
        """What a caller has to bring. Raises ConfigError."""
        return choose_guard(self.settings, self.insecure)

    @cached_property
    def checked(self) -> CheckedRun:
        """The run as it was found to be. Raises ConfigError, ModelError or DataError."""
        return check_run(self.spec, self.settings)
