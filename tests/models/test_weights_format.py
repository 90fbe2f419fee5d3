"""Files that people save as .pth: those without a state dict are recognised, and none is executed."""

import io
import json
import pickle
import tarfile
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig
from caltech_exp.models.networks import build
from caltech_exp.models.weights import pin

NET = nn.Linear(4, 3)
STATE = NET.state_dict()
OPTIMIZER = torch.optim.SGD(NET.parameters(), lr=0.1, momentum=0.9)
KEYS = "epoch, state_dict, optimizer"
SAVE = "save net.state_dict()"


def saved(what: object, *, as_zip: bool = True) -> bytes:
    content = io.BytesIO()
    torch.save(what, content, _use_new_zipfile_serialization=as_zip)
    return content.getvalue()


def torch_script() -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a format that torch is giving up
        torch.jit.save(torch.jit.script(NET), content)
    return content.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


def numpy_file(write: Callable[[io.BytesIO], None]) -> bytes:
    content = io.BytesIO()
    write(content)
    return content.getvalue()


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        opened.writestr("weights/resnet18.pth", saved(STATE))
        opened.writestr("README", "")
    return content.getvalue()


def tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as opened:
        opened.addfile(tarfile.TarInfo("net.pth"))
    return content.getvalue()


def checkpoint(**more: object) -> dict[str, object]:
    return {"epoch": 3, "state_dict": STATE, "optimizer": OPTIMIZER.state_dict(), **more}


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "whole network": (
        lambda: saved(NET),
        "hold a whole network (torch.nn.modules.linear.Linear), not its state dict; save net.state_dict() alone",
    ),
    "whole network, old format": (lambda: saved(NET, as_zip=False), "hold a whole network (torch.nn.modules."),
    "wrapped network": (lambda: saved(nn.DataParallel(NET)), "hold a whole network (torch.nn.parallel."),
    "checkpoint": (
        lambda: saved(checkpoint()),
        f"hold a training checkpoint with the keys {KEYS}; save checkpoint['state_dict'] alone",
    ),
    "checkpoint, old format": (lambda: saved(checkpoint(), as_zip=False), f"checkpoint with the keys {KEYS}; "),
    "checkpoint with a class": (
        lambda: saved({"args": Namespace(lr=0.1), "model": STATE}),
        "hold a training checkpoint with the keys args, model; save checkpoint['model'] alone",
    ),
    "checkpoint with a network": (
        lambda: saved({"epoch": 1, "model": NET}),
        "with the keys epoch, model; save checkpoint['model'].state_dict() alone",
    ),
    "nested": (lambda: saved({"state_dict": STATE}), "the keys state_dict; save checkpoint['state_dict'] alone"),
    "timm": (
        lambda: saved(checkpoint(arch="resnet18", state_dict_ema=STATE, version=2, amp_scaler={}, metric=1.0)),
        "optimizer, arch, state_dict_ema, version and 2 more; save checkpoint['state_dict'] alone",
    ),
    "Lightning": (
        lambda: saved({"pytorch-lightning_version": "2", **checkpoint(hyper_parameters=Namespace())}),
        "hold a Lightning checkpoint with the keys pytorch-lightning_version, epoch, state_dict, ",
    ),
    "another key": (lambda: saved({"step": 1, "G_ema": STATE}), "save checkpoint['G_ema'] alone"),
    "optimizer": (lambda: saved(OPTIMIZER.state_dict()), "hold the state of an optimizer; save net.state_dict()"),
    "settings": (lambda: saved({"lr": 0.1, 1: 2}), "hold a dict with the keys lr, 1, not a state dict"),
    "one number more": (lambda: saved({**STATE, "epoch": 3}), "hold more than named tensors: 'epoch'; save"),
    "arrays": (lambda: saved({"weight": np.zeros(3)}), "hold numpy arrays (weight), not tensors"),
    "nothing": (lambda: saved({}), "hold an empty dict; save net.state_dict() alone"),
    "list": (lambda: saved([1, 2]), "hold a list, not a state dict; save net.state_dict() alone"),
    "tensor": (lambda: saved(torch.zeros(3)), "hold one tensor, not a state dict"),
    "object": (lambda: saved(Namespace(a=1)), "hold an object (argparse.Namespace), not a state dict"),
    "TorchScript": (torch_script, f"are a TorchScript archive (torch.jit.save); {SAVE} with torch.save and"),
    "safetensors": (safetensors, "are a safetensors file; read it with safetensors.torch.load_file and save"),
    "web page": (lambda: b"\n<!DOCTYPE html>\n<html>", "hold a web page, as after a failed download; download"),
    "server's answer": (lambda: b'{"message": "None"}', """text that begins with '{"message": "None"}'; copy"""),
    "text": (lambda: "Gewichte: 10 Stück".encode(), "hold text that begins with 'Gewichte: 10 Stück'; copy"),
    "empty": (lambda: b"", "are an empty file; copy or download the file again"),
    "zeros": (lambda: bytes(5000), "were not written by torch.save (they begin with 00 00 00 00 00 00 00 00)"),
    "zip": (archive, "are a zip archive of weights/resnet18.pth, README; give the state dict in it"),
    "tar": (tar, "are a tar archive; unpack it and give the state dict in it"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(20), "are compressed with gzip; unpack them"),
    "npy": (lambda: numpy_file(lambda file: np.save(file, np.zeros(3))), "hold a numpy array (.npy)"),
    "npz": (lambda: numpy_file(lambda file: np.savez(file, fc=np.zeros(3))), "hold numpy arrays (.npz): fc.npy"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(20), "are an HDF5 file, as Keras writes them"),
    "LFS": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 46830571\n",
        "are a Git LFS pointer, not the file itself; run git lfs pull where they come from",
    ),
    "annex": (lambda: b"../.git/annex/objects/x/SHA256E-s1--a.pth", "are a git-annex pointer, not the file"),
    "pickle": (lambda: pickle.dumps(STATE), "are a pickle that torch.save did not write; load it where it was"),
    "half a file": (lambda: saved(STATE)[:-100], "are incomplete or damaged (the end of their zip archive is"),
    "half an old file": (lambda: saved(STATE, as_zip=False)[:60], "are incomplete or damaged; copy or download"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_foreign_file_is_recognised(kind: str, tmp_path: Path) -> None:
    write, message = FILES[kind]
    file = tmp_path / "net.pth"
    file.write_bytes(write())
    with pytest.raises(UserError) as at_submission:
        pin(str(file))
    with pytest.raises(UserError) as at_training:
        build(RunConfig(model="resnet18", weights=str(file)))
    assert str(at_training.value) == str(at_submission.value)
    assert str(at_submission.value).startswith(f"weights {file} ")
    assert message in str(at_submission.value)
    assert len(str(at_submission.value)) < len(str(file)) + 250


@pytest.mark.parametrize("as_zip", [True, False])
def test_state_dict_is_accepted(as_zip: bool, tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    for state in (STATE, dict(NET.named_parameters()), nn.BatchNorm1d(2).half().state_dict()):
        file.write_bytes(saved(state, as_zip=as_zip))
        assert pin(str(file)).startswith(str(file))


def test_pickle_is_not_executed(tmp_path: Path) -> None:
    class Opener:
        def __reduce__(self) -> tuple[object, ...]:
            return open, (str(tmp_path / "opened"), "w")

    file = tmp_path / "net.pth"
    for as_zip in (True, False):
        file.write_bytes(saved({"state_dict": STATE, "epoch": Opener()}, as_zip=as_zip))
        with pytest.raises(UserError, match="hold a training checkpoint with the keys state_dict, epoch"):
            pin(str(file))
    file.write_bytes(pickle.dumps(Opener()))
    with pytest.raises(UserError, match=r"are a pickle that torch\.save did not write"):
        pin(str(file))
    assert not (tmp_path / "opened").exists()
