"""The numbers of training: losses of both engines, and a checkpoint of an earlier commit, carried on.

`python -m tests.snapshots.test_numbers` writes the files again, after a change that is meant to alter numbers.
"""

import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from caltech_exp.standin import write_stand_in
from caltech_exp.training.checkpoint import read_checkpoint, write_checkpoint
from caltech_exp.training.device import describe_device
from tests.conftest import command_line

HERE = Path(__file__).parent
LOSSES = HERE / "losses.json"
CHECKPOINT = HERE / "checkpoint.pt"
SMALL = f"{HERE / 'small_network.py'}:small"
COMMON = (
    "weights=none", "seeds=1", "workers=0", "precision=fp32", "profile=local", "profile.device=cpu",
    "profile.cpus_per_task=1",
)  # fmt: skip
SHORT = ("epochs=2", "batch_size=4", "max_images=12", "lr=1e-3")
STUDIES = {
    f"{model} {engine}": (
        f"table={table}",
        f"engine={engine}",
        "epochs=2",
        "batch_size=4",
        "max_images=12",
        "lr=1e-3",
    )
    for engine in ("fast", "reference")
    for model, table in (("alexnet", "scratch.lr=1e-3"), ("resnet18", "resnet.batch_256"))
}
"""One run each."""
CARRIED_ON = (
    "table=scratch.lr=1e-3", f"model={SMALL}", "epochs=6", "batch_size=4", "max_images=24", "lr=1e-2",
)  # fmt: skip
"""The run whose checkpoint is kept."""
KEPT = ("first_loss", "train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy")


def numbers(value: Any) -> Any:
    """The losses and accuracies of a result."""
    found = {key: value[key] for key in KEPT if key in value}
    return found | ({"epochs": [numbers(epoch) for epoch in value["epochs"]]} if "epochs" in value else {})


def train(words: tuple[str, ...], folder: Path, runs: Path) -> dict[str, Any]:
    """Train the one run that the words ask for; its result."""
    given = (*words, *COMMON, f"data={folder / 'data'}", f"packs={folder / 'packs'}", f"runs={runs}", "wait=true")
    done = command_line("jobs/submit.py", folder)(*given)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = runs.glob("*/result.json")
    return {"run_id": result.parent.name, **json.loads(result.read_text())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the data set and its packs lie."""
    place = tmp_path_factory.mktemp("numbers")
    write_stand_in(place / "data")
    return place


@pytest.mark.parametrize("name", STUDIES)
def test_losses(name: str, folder: Path, tmp_path: Path) -> None:
    expected = json.loads(LOSSES.read_text())[name]
    found = numbers(train(STUDIES[name], folder, tmp_path / "runs"))
    # Another CPU may round otherwise.
    assert flat(found) == pytest.approx(flat(expected), rel=1e-4)


def test_checkpoint_of_an_earlier_commit_is_carried_on(folder: Path, tmp_path: Path) -> None:
    whole = train(CARRIED_ON, folder, tmp_path / "whole")
    run = whole["run_id"]
    saved = read_checkpoint(CHECKPOINT)
    assert isinstance(saved, dict)
    assert saved["kin"]["run"] == run
    # It counts on the machine and the torch that wrote it; this test is of the code.
    saved["kin"] |= {"device": describe_device(torch.device("cpu")).model_dump(), "torch": str(torch.__version__)}
    runs = tmp_path / "carried-on"
    (runs / run).mkdir(parents=True)
    write_checkpoint(runs / run / "checkpoint.pt", saved)
    carried_on = train(CARRIED_ON, folder, runs)
    (log,) = runs.glob("submissions/*/*_log.out")
    assert "from its checkpoint, after epoch 3" in log.read_text()
    assert flat(numbers(carried_on)) == pytest.approx(flat(numbers(whole)), rel=1e-4)


def flat(value: Any) -> list[float]:
    """The numbers in their order."""
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in flat(value[key])]
    return [number for item in value for number in flat(item)] if isinstance(value, list) else [value]


def write_numbers() -> None:
    """Write the files that the tests compare with."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_stand_in(folder / "data")
        found = {name: numbers(train(words, folder, folder / name)) for name, words in STUDIES.items()}
        LOSSES.write_text(json.dumps(found, indent=1) + "\n")
        watcher = threading.Thread(target=keep_checkpoint, args=(folder / "watched", 3))
        watcher.start()
        train((*CARRIED_ON, "profile.checkpoint_minutes=1e-6"), folder, folder / "watched")
        watcher.join()


def keep_checkpoint(runs: Path, epochs: int) -> None:
    """Keep the first checkpoint that a run leaves in the middle of the epoch after so many."""
    while True:
        for path in runs.glob("*/checkpoint.pt"):
            saved = read_checkpoint(path)
            if isinstance(saved, dict) and len(saved["epochs"]) == epochs and len(saved["losses"]) > 1:
                write_checkpoint(CHECKPOINT, saved)
                return


if __name__ == "__main__":
    write_numbers()
