"""Fixtures of the commands' tests."""

from tests.reporting.conftest import folder

__all__ = ["folder"]
