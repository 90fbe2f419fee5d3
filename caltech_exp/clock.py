"""Timestamps in records: UTC, ISO 8601, to the second."""

from datetime import UTC, datetime


def utc_now() -> str:
    """`2026-01-31T12:00:00Z`"""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
