"""The example studies in docs/examples, on random weights and on the published ones where they are at hand."""

from itertools import chain
from pathlib import Path

import pytest
import torch

from caltech_exp.config import PIN, RunConfig
from caltech_exp.data.dataset import Caltech, eval_transform
from caltech_exp.data.splits import Sample, read_data_set
from caltech_exp.models.networks import build_with_weights
from caltech_exp.models.weights import pin
from caltech_exp.study.results import Result, read_result
from tests.conftest import CHECKOUT, SMALL, Command
from tests.tools.archives import sha256
from tests.tools.example_weights import FILES, write_resnet20_weights

EXAMPLES = CHECKOUT / "docs" / "examples"
PUBLISHED = "+".join((
    "0f5e7b1abee1b3b813e3f0512c19ea3931fabc2e34bed2997178259dc94cdd95",
    "a45f351d7482a2749c690e2907bb5487457e2719d86d0c079e7957800bc85287",
))  # fmt: skip
"""Hashes of the files that were made of CNTK's network."""


@pytest.fixture
def random_weights(tmp_path: Path) -> Path:
    """A folder with the weights of an untrained resnet20 without head, in two files."""
    write_resnet20_weights(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def published_weights(caltech101: Path) -> Path:
    """The folder with the published weights, beside the data set."""
    if all((caltech101.parent / "weights" / name).is_file() for name in FILES):
        return caltech101.parent / "weights"
    pytest.skip("the published weights are not beside Caltech-101")


def test_network_in_two_files_is_trained(random_weights: Path, submit: Command, stand_in: Path) -> None:
    words = [f"study={EXAMPLES / 'resnet20.yaml'}", "table=resnet20.transfer=1e-2", "profile=demo", "seeds=1"]
    words += [*SMALL, "runs=runs", f"data={stand_in}", "wait=true"]
    refused = submit(*words)
    assert refused.returncode == 2
    assert f"there is no file {EXAMPLES / FILES[0]}; put it there, or name other files" in refused.stderr
    done = submit(*words, f"weights={'+'.join(FILES)}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"weights {'+'.join(FILES)}: the head fc is new (random), since the file has none" in done.stdout
    (folder,) = (path.parent for path in random_weights.glob("runs/*/result.json"))
    result = read_result(folder)
    assert isinstance(result, Result)
    assert result.weights_sha256 == "+".join(sha256(random_weights / name) for name in FILES)
    assert result.config.weights.partition(PIN)[2] == result.weights_sha256
    assert result.weights_sha256 in (random_weights / "runs" / "study.json").read_text()


def test_wrong_and_missing_files_are_refused(random_weights: Path, submit: Command, stand_in: Path) -> None:
    words = [f"study={EXAMPLES / 'resnet20.yaml'}", "section=all", "profile=demo", "runs=runs", f"data={stand_in}"]
    (random_weights / "page.pth").write_text("<html>404</html>")
    for weights, message in {
        "resnet18.pth": "they lack layer4.2.conv1.weight",
        "resnet18-layer4.2.pth": "they lack conv1.weight",
        "resnet18.pth+page.pth": "page.pth hold a web page, as after a failed download",
        "resnet18.pth+resnet18-layer5.pth": "resnet18-layer5.pth; put it there",
        "resnet18.pth+": "there is no file ",
    }.items():
        refused = submit(*words, f"weights={weights}")
        assert refused.returncode == 2
        assert message in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert not (random_weights / "runs").exists()


def test_published_network_knows_caltech(published_weights: Path, caltech101: Path) -> None:
    weights = pin(f"{published_weights}/{'+'.join(FILES)}")
    assert weights.partition(PIN)[2] == PUBLISHED
    torch.manual_seed(0)
    config = RunConfig(model=f"{EXAMPLES / 'resnet20.py'}:resnet20", weights=weights)
    net, initial = build_with_weights(config)
    assert initial is not None
    assert initial.sha256 == PUBLISHED
    backbone = torch.nn.Sequential(*list(net.children())[:-1], torch.nn.Flatten()).eval()
    data = read_data_set(caltech101)
    labels = range(0, 101, 10)

    def features(split: str, samples: tuple[Sample, ...], images_per_class: int) -> torch.Tensor:
        """[11 classes, images, 512]"""
        chosen = [[sample for sample in samples if sample.label == label][:images_per_class] for label in labels]
        images = Caltech(data, split, tuple(chain.from_iterable(chosen)), eval_transform(config))
        with torch.inference_mode():
            outputs: torch.Tensor = backbone(torch.stack([image for image, _ in images]))
        return outputs.reshape(len(labels), images_per_class, -1)

    means = features("train", data.train, 5).mean(dim=1)
    tested = features("test", data.test, 3)
    nearest = torch.cdist(tested.flatten(0, 1), means).argmin(dim=1).reshape(len(labels), -1)
    assert (nearest == torch.arange(len(labels))[:, None]).float().mean() > 0.8
