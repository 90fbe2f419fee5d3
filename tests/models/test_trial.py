"""Custom networks are tried with two images in a process of their own, before their runs are queued."""

import os
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig
from caltech_exp.models import trial
from caltech_exp.models.custom import find_network
from caltech_exp.models.trial import try_network
from tests.conftest import Command
from tests.tools.testbed import until

HEAD = "import os\nimport time\nfrom torch import nn\n"
GOOD = "nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(2352, classes))"


def tried(folder: Path, body: str, python_is_same: bool = True, **settings: object) -> str:
    """What the trial says of a network whose function has this body, from line 5 on."""
    (folder / "nets.py").write_text(f"{HEAD}def net(classes):\n{body}\n")
    network = find_network("nets.py:net", folder, folder / "runs")
    config = RunConfig(model=network.model).but(**settings)
    return try_network(network, [config], python_is_same=python_is_same)


def test_sound_network_passes_and_leaves_nothing(tmp_path: Path) -> None:
    body = f'    print("{{}}")\n    os.makedirs("made", exist_ok=True) if 0 else None\n    return {GOOD}'
    for classes in (102, 5):
        assert tried(tmp_path, body, classes=classes) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["nets.py"]


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials run here: a process of their own takes seconds to import torch, and these ask only for the answer."""
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    monkeypatch.setattr(trial, "_ask", trial._try_all)


FORWARD = """    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 8, 8)
            self.fc = nn.Linear(1568, classes)
        def forward(self, x):
            return self.fc(self.conv(x).view(2, -1))
    return Net()"""
EVALUATION = """    class Net(nn.Flatten):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.Linear(150528, n) for n in (classes, 7))
        def forward(self, x):
            return (self.a if self.training else self.b)(super().forward(x))
    return Net()"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"    return {GOOD.replace('classes', '7')}", r"line 4: network net returns shape \[2, 7\] .*\[2, 102\]"),
        (EVALUATION, r"line 4: network net returns shape \[2, 7\] .* in training as in evaluation$"),
        (f"    return {GOOD.replace('2352', '9')}", r"line 4: network net fails with two images: RuntimeError"),
        ("    x = 1\n    return nn.Lineer(1, 2)", r"line 6: network net fails .* AttributeError: .*Lineer"),
        ("    return nn.Flatten()", r"line 4: network net has no parameter with requires_grad"),
        ("    return 3", r"line 4: network net returns a int, not a torch\.nn\.Module"),
        ("    import no_such_module", r"line 5: .* ModuleNotFoundError: No module named 'no_such_module'"),
        ('    raise SystemExit("bye")', r"line 5: network net fails with two images: SystemExit: bye"),
        (FORWARD, r"line 11: network net fails with two images: RuntimeError: view size is not compatible"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("in_this_process")
def test_broken_network_is_refused_with_file_and_line(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        tried(tmp_path, body)
    assert str(caught.value).startswith(f"{tmp_path / 'nets.py'} line ")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("in_this_process")
def test_reference_engine_gives_images_in_pytorchs_own_layout(tmp_path: Path) -> None:
    assert tried(tmp_path, FORWARD, engine="reference") == ""


@pytest.mark.usefixtures("in_this_process")
def test_frozen_part_is_tried_as_it_trains(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"line 4: freeze=fc: nets\.py:net has no child called classifier, fc, head"
    ):
        tried(tmp_path, f"    return {GOOD}", freeze="fc")


def test_network_without_a_frozen_batch_normalisation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 4: frozen_batchnorm=eval: no frozen layer of net is a batch norm"):
        tried(tmp_path, f"    return {GOOD}", frozen_batchnorm="eval")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("    time.sleep(600)", "took more than 8 s"),
        ("    os._exit(3)", "ended early (status 3)"),
        ("    os.abort()", "ended early (SIGABRT)"),
        ('    raise RuntimeError("Found no NVIDIA driver")', "needs a GPU (Found no NVIDIA driver)"),
        ("    return nn.Sequential(nn.Flatten(), nn.Linear(150528, 4000), nn.Linear(4000, classes))",
         "needs more than 1 GiB of memory"),
    ],
)  # fmt: skip
def test_trial_without_an_answer_does_not_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    monkeypatch.setattr(trial, "SECONDS", 8 if "sleep" in body else 60)
    monkeypatch.setattr(trial, "MEMORY", 2**30)
    assert tried(tmp_path, body) == f"network net is submitted untried: its trial with two images {reason}"


def test_processes_of_a_stopped_trial_end_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 10)
    body = f'    pid = os.fork()\n    pid and open("{tmp_path}/pid", "w").write(str(pid))\n    time.sleep(600)'
    assert "took more than 10 s" in tried(tmp_path, body)
    child = int((tmp_path / "pid").read_text())

    def is_gone() -> bool:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        return "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]

    until(is_gone, 10)


def test_missing_module_is_no_mistake_where_tasks_run_another_python(tmp_path: Path) -> None:
    assert "untried: its trial with two images misses a module" in tried(
        tmp_path, "    import no_such_module", python_is_same=False
    )


def test_broken_network_is_refused_before_anything_is_written(
    submit: Command, stand_in: Path, tmp_path: Path, untouched: Path
) -> None:
    (tmp_path / "nets.py").write_text(f"{HEAD}def net(classes):\n    return {GOOD.replace('classes', '7')}\n")
    words = ("table=scratch.lr=1e-3", "model=nets.py:net", "batch_size=4", "profile=demo", f"data={stand_in}")
    for more in ((), ("dry_run=true",)):
        done = submit(*words, *more)
        assert done.returncode == 2
        assert f"{tmp_path / 'nets.py'} line 4: network net returns shape [2, 7]" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert not untouched.exists()
