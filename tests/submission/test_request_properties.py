"""Command lines: whatever the words, they are understood or refused in one line, and nothing is written."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from caltech_exp.cli import Options, read_options
from caltech_exp.commands.aggregate import AggregateOptions
from caltech_exp.commands.benchmark import BenchmarkOptions
from caltech_exp.commands.compare import CompareOptions
from caltech_exp.commands.prepare import PrepareOptions
from caltech_exp.config import RunConfig
from caltech_exp.study.study import StudySettings
from caltech_exp.submission.request import SubmitOptions, parse_request
from tests.tools.bad_inputs import TEXTS, Reader, damaged_text, generated

SOUND = (
    "section=all", "section=scratch,resnet", "table=scratch.lr", "seeds=3", "seeds=0,1,5", "seeds=7,", "runs=a b",
    "profile=local", "data=/data", "packs=~/packs", "runs_per_task=4", "wait=true", "dry_run=false",
    "model=alexnet", "weights=none", "weights=net.pth", "freeze=conv", "augment=crop", "lr=5e-2", "momentum=0.9",
    "weight_decay=5e-5", "batch_size=256", "epochs=30", "step_size=20", "gamma=0.1", "max_images=10",
    "workers=0", "engine=reference", "precision=fp32", "imagenet_weights=weights",
)  # fmt: skip


@st.composite
def command_lines(draw: DrawFn, keys: list[str]) -> list[str]:
    """Sound words, damaged ones, known keys with bad values, and text of any kind."""
    words = st.one_of(
        damaged_text(st.sampled_from(SOUND)),
        st.builds("{}={}".format, st.sampled_from(keys), st.sampled_from(TEXTS) | st.text(max_size=30)),
        st.builds("{}={}".format, st.sampled_from(keys), st.integers() | st.floats() | st.booleans()),
        st.sampled_from(TEXTS) | st.text(max_size=30),
    )
    sound = draw(st.lists(st.sampled_from(SOUND), max_size=4, unique_by=lambda word: word.partition("=")[0]))
    return draw(st.permutations(["section=all", *sound, *draw(st.lists(words, min_size=1, max_size=2))]))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the commands are given in, with a file that weights= may name."""
    (tmp_path / "net.pth").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_submit_understands_or_refuses(folder: Path) -> None:
    """1,000 command lines; the overrides of those that are taken come back from a study file as they were."""
    reader = Reader(folder)

    @generated(1000)
    @given(command_lines([*SubmitOptions.model_fields, *RunConfig.model_fields]))
    @example(["section=all", "lr=\n"])
    @example(["section=all", "seeds=1\n2"])
    @example(["section=all\x1b[2J"])
    @example(["section=all", "epochs=" + "9" * 5000])
    @example(["section=all", "weights=" + "a/" * 2500])
    def submit(words: list[str]) -> None:
        request = reader.read(lambda: parse_request(words))
        if request is not None:
            text = request.settings.model_dump_json()
            assert StudySettings.model_validate_json(text) == request.settings

    submit()
    assert reader.refused >= 700


@pytest.mark.parametrize("options", [PrepareOptions, BenchmarkOptions, AggregateOptions, CompareOptions])
def test_the_other_commands_understand_or_refuse(options: type[Options], folder: Path) -> None:
    """300 command lines each."""
    reader = Reader(folder)

    @generated(300)
    @given(command_lines(list(options.model_fields)))
    def command(words: list[str]) -> None:
        reader.read(lambda: read_options(options, words[:1]))

    command()
    assert reader.refused >= 100
