"""Which runs are compiled on which node, how, and where the compiled code is kept."""

import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from caltech_exp.config import RunConfig
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet, read_data_set
from caltech_exp.training import fast
from caltech_exp.training.fast import OPTIONS, compiled, is_compiled, known_options
from caltech_exp.training.sampling import training_steps
from tests.tools.engines import prepare

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LONG = RunConfig(epochs=20_000, batch_size=4, max_images=7)
"""A step an epoch."""
Compiled = list[tuple[nn.Module, dict[str, object]]]


@pytest.fixture(scope="module")
def data(stand_in: Path) -> DataSet:
    return read_data_set(stand_in)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Compiled]:
    """A node with all that Triton needs; networks and options that torch.compile gets on it."""
    found: Compiled = []

    def record(net: nn.Module, **options: object) -> nn.Module:
        found.append((net, options))
        return nn.Identity()

    headers = tmp_path / "include"
    headers.mkdir()
    (headers / "Python.h").touch()
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(headers))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Tesla P100")
    monkeypatch.setattr(torch, "compile", record)
    yield found
    os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({}, 20_000),
        ({"epochs": 3}, 3),
        ({"epochs": 3, "last_batch": "keep"}, 6),
        ({"epochs": 3, "last_batch": "keep", "batch_size": 7}, 3),
        ({"epochs": 3, "batch_size": 2}, 9),
        ({"epochs": 3, "batch_size": 2, "max_images": 0, "max_per_class": 1}, 3 * 50),  # 100 classes have any
    ],
    ids=str,
)
def test_steps_follow_from_settings_and_data(
    change: dict[str, str | int], steps: int, data: DataSet, packs: PackStore
) -> None:
    config = LONG.but(precision="fp32", **change)
    assert training_steps(config, data) == steps
    assert len(list(prepare(config, data, packs).train.draw(0))) == steps // config.epochs


@pytest.mark.usefixtures("asked")
def test_long_runs_of_the_fast_engine_are_compiled_on_a_gpu(data: DataSet) -> None:
    assert is_compiled(LONG, data, GPU)
    assert not is_compiled(LONG.but(epochs=19_999), data, GPU)
    assert not is_compiled(LONG.but(engine="reference"), data, GPU)
    assert not is_compiled(LONG, data, CPU)


def test_the_reports_runs_are_not_compiled(asked: Compiled, caltech101: Path, tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    real = read_data_set(caltech101)
    for batch_size in (256, 64):
        assert compiled(net, RunConfig(batch_size=batch_size), real, GPU, tmp_path) is net
    assert asked == []


def test_on_a_cpu_nothing_is_compiled(asked: Compiled, data: DataSet, tmp_path: Path) -> None:
    net, packs = nn.Linear(2, 2), tmp_path / "packs"
    packs.mkdir()
    assert compiled(net, LONG, data, CPU, packs) is net
    assert list(packs.iterdir()) == []
    assert asked == []


def test_a_network_is_compiled_so_that_its_bits_are_the_same_every_time(
    asked: Compiled, data: DataSet, tmp_path: Path
) -> None:
    net = nn.Linear(2, 2)
    assert compiled(net, LONG, data, GPU, tmp_path) is not net
    assert asked == [(net, {"dynamic": False, "options": OPTIONS})]
    assert torch._dynamo.config.recompile_limit == fast.MANY
    assert torch._dynamo.config.accumulated_recompile_limit == fast.MANY


def test_torch_knows_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    assert known_options() == OPTIONS
    torch.compile(nn.Linear(2, 2), dynamic=False, options=known_options())
    monkeypatch.setitem(OPTIONS, "of_another_version", True)
    assert "of_another_version" not in known_options()


@pytest.mark.usefixtures("asked")
def test_compiled_code_is_kept_in_the_users_own_folder(data: DataSet, tmp_path: Path) -> None:
    compiled(nn.Linear(2, 2), LONG, data, GPU, tmp_path)
    folder = tmp_path / f"compiled-{os.getuid()}"
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("asked")
def test_another_place_for_compiled_code_stays(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    compiled(nn.Linear(2, 2), LONG, data, GPU, tmp_path)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/elsewhere"
    assert not (tmp_path / f"compiled-{os.getuid()}").exists()


@pytest.mark.parametrize("what", ["a file", "of another user", "open to a group"])
def test_where_there_can_be_no_folder_of_ones_own_torch_chooses(
    what: str, asked: Compiled, data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / f"compiled-{os.getuid()}"
    if what == "a file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o775 if what == "open to a group" else 0o755)
    if what == "of another user":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    compiled(nn.Linear(2, 2), LONG, data, GPU, tmp_path)
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    assert len(asked) == 1


def used_as_it_is(data: DataSet, place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The log's line about a network that was not compiled."""
    net = nn.Linear(2, 2)
    assert compiled(net, LONG, data, GPU, place) is net
    assert not is_compiled(LONG, data, GPU)
    return capsys.readouterr().out


@pytest.mark.usefixtures("asked")
def test_without_a_c_compiler_the_network_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
    data: DataSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Triton does not look for cc.
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/cc" if name == "cc" else None)
    monkeypatch.delenv("CC")
    assert used_as_it_is(data, tmp_path, capsys) == (
        "no C compiler on this machine: training without torch.compile\n"
    )


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_a_c_compiler_is_found(name: str, monkeypatch: pytest.MonkeyPatch, data: DataSet) -> None:
    monkeypatch.setattr(shutil, "which", lambda wanted: f"/usr/bin/{name}" if wanted == name else None)
    monkeypatch.delenv("CC")
    assert is_compiled(LONG, data, GPU)


@pytest.mark.usefixtures("asked")
def test_without_the_headers_of_python_the_network_is_used_as_it_is(
    data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = tmp_path / "include" / "Python.h"
    header.unlink()
    assert f"no {header} on this machine" in used_as_it_is(data, tmp_path, capsys)


@pytest.mark.usefixtures("asked")
def test_on_a_gpu_too_old_for_triton_the_network_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
    data: DataSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (6, 0))
    assert "Triton does not know GPUs as old as this Tesla P100" in used_as_it_is(data, tmp_path, capsys)


@pytest.mark.usefixtures("asked")
def test_with_a_torch_that_may_compile_to_other_bits_the_network_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
    data: DataSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delattr(torch._inductor.config, "deterministic")
    monkeypatch.setattr(torch, "__version__", "2.7.0")
    assert used_as_it_is(data, tmp_path, capsys) == (
        "torch 2.7.0 may compile to other bits when a run goes on: training without torch.compile\n"
    )


def test_compiled_or_not_a_gpu_computes_the_same(
    cuda: torch.device, data: DataSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).to(cuda)
    images = torch.randn(4, 3, 8, 8, device=cuda)
    assert torch.allclose(compiled(net, LONG, data, cuda, tmp_path)(images), net(images), atol=1e-5)
