"""The folders of a profile, and what takes their place where it names none."""

import os
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.profiles.paths import (
    WEIGHTS_VARIABLES,
    expand_path,
    torch_home_here,
    use_torch_home_of_submission,
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WEIGHTS_VARIABLES:
        monkeypatch.setenv(name, "")  # so that what a test sets is undone


@pytest.mark.parametrize(
    ("environment", "home"),
    [
        ({"TORCH_HOME": "/weights"}, "/weights"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/torch"),
        ({"TORCH_HOME": "/weights", "XDG_CACHE_HOME": "/cache"}, "/weights"),
        ({"TORCH_HOME": "~/weights", "HOME": "/home/me"}, "/home/me/weights"),
        ({"TORCH_HOME": "/a/$b"}, "/a/$b"),
        ({"HOME": "/home/me"}, None),
    ],
)
def test_where_submit_looks_for_weights(
    environment: dict[str, str], home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in WEIGHTS_VARIABLES:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert torch_home_here() == home


def test_a_relative_folder_is_that_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", "weights")
    assert torch_home_here() == str(tmp_path / "weights")


def test_a_task_without_variables_looks_where_submit_did() -> None:
    use_torch_home_of_submission("/weights")
    assert os.environ["TORCH_HOME"] == "/weights"
    use_torch_home_of_submission(None)
    assert os.environ["TORCH_HOME"] == "/weights"


@pytest.mark.parametrize("name", WEIGHTS_VARIABLES)
def test_a_node_or_the_profiles_setup_may_say_where(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/of/the/node")
    before = os.environ["TORCH_HOME"]
    use_torch_home_of_submission("/weights")
    assert os.environ["TORCH_HOME"] == before


def test_a_path_that_no_file_can_have_is_refused_before_it_is_searched() -> None:
    with pytest.raises(UserError, match=r"^data=\$.*… is longer than 4,096 characters; name another path$"):
        expand_path("${" * 50_000, "data")
