"""Weights files: pinned by content, cached where torch.hub looks, refused when damaged."""

import errno
import hashlib
import os
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.models import AlexNet_Weights, ResNet18_Weights

from caltech_exp.cli import UserError
from caltech_exp.config import PIN, RunConfig
from caltech_exp.data import download
from caltech_exp.data.download import IMAGENET, Digest
from caltech_exp.models import weights
from caltech_exp.models.networks import NETWORKS, build, build_with_weights
from caltech_exp.submission.preflight import check_weights_files
from caltech_exp.training.failures import kind_of
from tests.conftest import NO_NETWORK
from tests.tools.archives import sha256
from tests.tools.file_server import serving


def test_imagenet_files_and_cache_are_those_of_torchvision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for model, enum in (("alexnet", AlexNet_Weights), ("resnet18", ResNet18_Weights)):
        assert IMAGENET[model].url == enum.IMAGENET1K_V1.url
        assert IMAGENET[model].name == enum.IMAGENET1K_V1.url.rpartition("/")[2]
        assert IMAGENET[model].name.endswith(f"-{IMAGENET[model].digest.digits}.pth")
        assert IMAGENET[model].size / 2**20 == pytest.approx(enum.IMAGENET1K_V1.meta["_file_size"], abs=0.001)
        assert weights.imagenet_path(model).parent == Path(torch.hub.get_dir()) / "checkpoints"


def test_shapes_on_record_are_those_of_torchvision() -> None:
    recorded = tomllib.loads(weights.NETWORK_SHAPES.read_text())
    for name, network in NETWORKS.items():
        with torch.device("meta"):
            shapes = {key: list(value.shape) for key, value in network.build().state_dict().items()}
        assert list(recorded[name].items()) == list(shapes.items())
        assert [*shapes][-1] == f"{network.head}.bias"
    assert list(recorded) == list(NETWORKS)


def test_impossible_torch_home_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", "~nobody_of_this_name/torch")
    assert weights.imagenet_path("alexnet").parent == Path(torch.hub.get_dir()) / "checkpoints"
    assert "is not in the offline cache" in str(weights.imagenet_problem("alexnet"))
    monkeypatch.setenv("TORCH_HOME", "/" + "x" * 300)
    assert "cannot be read (File name too long)" in str(weights.imagenet_problem("alexnet"))


LONG = " ".join(["word"] * 400)


@pytest.mark.parametrize(
    ("name", "text", "origin"),
    [
        (
            "README.md",
            "# Weights\n\nFrom *CNTK*,\nin /home/me/w/net.pth, of https://a.org/b.\n\n| a |\n|---|\n\nMIT",
            "Weights. From *CNTK*, in net.pth, of https://a.org/b. MIT.",
        ),
        ("README", "[![badge](x)](y)\n\n```\ncode\n```\n\nOne line\x1b[31m", "One line\\x1b[31m."),
        ("README.txt", LONG, LONG[:1200] + "…"),
        ("README.txt", f"First.\n\n{LONG}", "First."),
        ("README.md", "", ""),
        ("LICENSE", "MIT", ""),
    ],
)
def test_where_weights_are_from_is_the_beginning_of_their_readme(
    tmp_path: Path, name: str, text: str, origin: str
) -> None:
    (tmp_path / name).write_text(text)
    file = f"{tmp_path}/resnet18.pth{PIN}{'a' * 64}"
    assert weights.read_origins([file]) == ({"a" * 64: origin} if origin else {})
    assert weights.read_origins([f"resnet18.pth{PIN}{'a' * 64}"]) == {}  # of a published study


def test_a_readme_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "README.md")
    (tmp_path / "README").write_bytes(b"Weights of Zo\xe9")
    file = f"{tmp_path}/resnet18.pth{PIN}{'a' * 64}"
    assert weights.read_origins([file]) == {"a" * 64: "Weights of Zo\ufffd."}


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stand_in_weights: Path) -> Path:
    """An offline cache with a real state dict of ResNet-18 whose name carries its hash, as torchvision's do."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch home"))
    file = stand_in_weights / "resnet18.pth"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    source = replace(IMAGENET["resnet18"], name=f"resnet18-{digest[:8]}.pth", digest=Digest("sha256", digest[:8]))
    monkeypatch.setitem(IMAGENET, "resnet18", source)
    path = weights.imagenet_path("resnet18")
    path.parent.mkdir(parents=True)
    shutil.copy(file, path)
    return path


def test_imagenet_weights_come_from_the_cache(cached: Path) -> None:
    net = build(RunConfig(model="resnet18", weights="imagenet"))
    state = torch.load(cached, weights_only=True)
    assert torch.equal(net.state_dict()["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])
    assert net.state_dict()["fc.weight"].shape == (102, 512)


def test_damaged_cache_is_refused(cached: Path) -> None:
    content = bytearray(cached.read_bytes())
    content[1000] ^= 1
    cached.write_bytes(content)
    assert "does not have the hash" in str(weights.imagenet_problem("resnet18"))
    with pytest.raises(UserError, match="does not have the hash"):
        build(RunConfig(model="resnet18", weights="imagenet"))
    with pytest.raises(UserError, match="delete it and download it again"):
        weights.fetch_imagenet("resnet18")


def test_weights_are_downloaded_from_a_mirror_that_breaks(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = cached.read_bytes()
    cached.unlink()
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.0)
    with serving() as server:
        server.files[f"/mirror/{cached.name}"] = content
        server.breaks = [10_000_000]
        weights.fetch_imagenet("resnet18", f"{server.url}/mirror/")
        assert [request.range for request in server.requests] == [None, "bytes=10000000-"]
    net = build(RunConfig(model="resnet18", weights="imagenet"))
    state = torch.load(cached, weights_only=True)
    assert torch.equal(net.state_dict()["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])
    weights.fetch_imagenet("resnet18", "http://127.0.0.1:9")  # nobody is asked for what is there


def test_missing_network_is_reported_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        UserError, match=r"alexnet-owt-7be5be79.pth cannot be downloaded from https://.* on a machine"
    ):
        weights.fetch_imagenet("alexnet")
    assert list(tmp_path.iterdir()) == []


def test_pin_depends_on_the_content(tmp_path: Path) -> None:
    file = tmp_path / "my net.pth"
    torch.save({"weight": torch.zeros(1)}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights.pin("my net.pth", tmp_path) == f"{file}{PIN}{digest}"
    assert weights.pin(str(file)) == f"{file}{PIN}{digest}"
    assert weights.pin(f"{file}{PIN}{digest}") == f"{file}{PIN}{digest}"
    torch.save({"weight": torch.ones(1)}, file)
    with pytest.raises(UserError, match="restore the right file"):
        weights.pin(f"{file}{PIN}{digest}")


def test_joined_files_are_pinned_and_read_together(tmp_path: Path) -> None:
    for name, layer in (("a.pth", "conv"), ("b.pth", "fc")):
        torch.save({f"{layer}.weight": torch.zeros(1)}, tmp_path / name)
    hashes = [sha256(tmp_path / name) for name in ("a.pth", "b.pth")]
    pinned = f"{tmp_path}/a.pth+b.pth{PIN}{'+'.join(hashes)}"
    for text in ("a.pth+b.pth", f"{tmp_path}/a.pth+b.pth", f"{tmp_path}/a.pth+{tmp_path}/b.pth", pinned):
        assert weights.pin(text, tmp_path) == pinned
    config = RunConfig(weights=pinned)
    assert [file.sha256 for file in weights.read_weights(config)] == hashes
    assert config.id != RunConfig(weights=weights.pin(f"{tmp_path}/b.pth+a.pth")).id
    assert config.but(weights=pinned.replace(str(tmp_path), "/moved")).id == config.id
    torch.save({"fc.weight": torch.ones(1)}, tmp_path / "b.pth")
    for check in (lambda: weights.pin(pinned), lambda: weights.read_weights(config)):
        with pytest.raises(UserError, match=rf"/b\.pth: the file's SHA-256 is \w+, not {hashes[1]}; restore"):
            check()
    (tmp_path / "c").mkdir()
    shutil.copy(tmp_path / "b.pth", tmp_path / "c")
    with pytest.raises(UserError, match="the files are in different folders; put them into one"):
        weights.pin("a.pth+c/b.pth", tmp_path)
    with pytest.raises(UserError, match=r"there is no file .*/c\.pth; put it there, or name other files"):
        weights.pin("a.pth+c.pth", tmp_path)
    shutil.copy(tmp_path / "b.pth", tmp_path / "a.pth+b.pth")  # a file's own name comes first
    assert weights.pin("a.pth+b.pth", tmp_path) == f"{tmp_path}/a.pth+b.pth{PIN}{sha256(tmp_path / 'b.pth')}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagnet", "there is no such file; did you mean 'imagenet'?"),
        ("/no/such.pth", "give none, imagenet or the path of a state dict"),
        ("/", "is a folder without the result of a run; give a file in it"),
        ("a\0b", "embedded null byte; name another path"),
        ("~nobody_of_this_name/net.pth", "name another path"),
    ],
)
def test_missing_file_is_reported(name: str, message: str) -> None:
    with pytest.raises(UserError, match="weights=") as caught:
        weights.pin(name)
    assert message in str(caught.value)


def test_pinned_content_is_loaded_and_no_other(tmp_path: Path, stand_in_weights: Path) -> None:
    file = Path(shutil.copy(stand_in_weights / "resnet18.pth", tmp_path))
    config = RunConfig(model="resnet18", weights=weights.pin(str(file)))
    (read,) = weights.read_weights(config)
    assert read.sha256 == hashlib.sha256(read.content).hexdigest() == config.weights.partition(PIN)[2]
    torch.save({"weight": torch.zeros(1)}, file)
    with pytest.raises(UserError, match=r"resnet18\.pth: the file's SHA-256 is .*; restore the right file"):
        build(config)
    file.unlink()
    with pytest.raises(UserError, match=r"cannot be read \(No such file or directory\); restore the file"):
        build(config)


def test_disk_failure_is_not_a_user_error(stand_in_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(model="resnet18", weights=weights.pin(str(stand_in_weights / "resnet18.pth")))

    def broken(_path: Path) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(weights, "open_file", broken)
    with pytest.raises(OSError, match="Stale file handle") as caught:
        build(config)
    assert kind_of(caught.value) == "node"
    with pytest.raises(UserError, match=r"weights cannot be read now \(Stale file handle\); submit again later"):
        check_weights_files([config], [])


def test_complete_hash_of_imagenet_weights_is_recorded(cached: Path) -> None:
    _, initial = build_with_weights(RunConfig(model="resnet18", weights="imagenet"))
    assert initial is not None
    assert initial.sha256 == hashlib.sha256(cached.read_bytes()).hexdigest()
