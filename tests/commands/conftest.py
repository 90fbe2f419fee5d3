"""Fixtures of the commands' tests."""

from tests.reporting.conftest import folder, simulated_report

__all__ = ["folder", "simulated_report"]
