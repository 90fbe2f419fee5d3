"""What the tests of leases share."""

import pytest

from caltech_exp.study import lease


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take over after a second instead of minutes."""
    monkeypatch.setattr(lease, "TAKE_OVER_SECONDS", 1.0)
    monkeypatch.setattr(lease, "EXPIRE_SECONDS", 0.5)
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.05)
