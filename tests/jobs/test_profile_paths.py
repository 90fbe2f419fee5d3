"""The folders of a profile, and what takes their place where it names none."""

from pathlib import Path

import pytest

from jobs.profile_paths import torch_home_of_tasks
from jobs.profiles import LocalProfile


@pytest.mark.parametrize(
    ("environment", "home"),
    [
        ({"TORCH_HOME": "/weights"}, "/weights"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/torch"),
        ({"TORCH_HOME": "/weights", "XDG_CACHE_HOME": "/cache"}, "/weights"),
        ({"TORCH_HOME": "~/weights", "HOME": "/home/me"}, "/home/me/weights"),
        ({"HOME": "/home/me"}, "/home/me/.cache/torch"),
        ({"TORCH_HOME": "/a/$b"}, None),
    ],
)
def test_tasks_look_for_weights_where_submit_did(
    environment: dict[str, str], home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert torch_home_of_tasks(LocalProfile(executor="local")) == home


def test_a_relative_folder_is_that_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", "weights")
    assert torch_home_of_tasks(LocalProfile(executor="local")) == str(tmp_path / "weights")


def test_the_profiles_own_is_expanded_on_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", "/mine")
    assert torch_home_of_tasks(LocalProfile(executor="local", torch_home="$WORK/torch")) == "$WORK/torch"
