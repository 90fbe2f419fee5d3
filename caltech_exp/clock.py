"""Timestamps in records (UTC, ISO 8601, to the second), and a clock that only measures."""

import time
from datetime import UTC, datetime

_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)
"""Linux; macOS has none."""


def utc_now() -> str:
    """`2026-01-31T12:00:00Z`"""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def boot_seconds() -> float:
    """Seconds since some moment, by a clock that nobody sets and that also counts while the machine is suspended.

    `time.monotonic` stands still in suspend. It is the answer only where the system has no other clock.
    """
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)
