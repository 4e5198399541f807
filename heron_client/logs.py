"""The client's log lines: text, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from heron_core.errors import ConfigError
from heron_core.process.console import printable

LEVELS = ("debug", "info", "warning", "error")


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The record as one JSON object: at (UTC), level, message."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"at": at, "level": record.levelname.lower(), "message": record.getMessage()})


class Lines(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """The record as one line; a traceback follows it as it is."""
        return printable(super().formatMessage(record))


def set_up_logging(level: str, log_format: str) -> None:
    """For the command only; a library does not touch the root logger."""
    if level not in LEVELS or log_format not in ("text", "json"):
        raise ConfigError(
            f"--log-level is one of {', '.join(LEVELS)} and --log-format text or json, got {level!r} and {log_format!r}"
        )
    handler = logging.StreamHandler(sys.stderr)
    text = Lines("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonLines() if log_format == "json" else text)
    logger = logging.getLogger("heron")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
