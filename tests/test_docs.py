"""Every command in the docs is run: as it is, with added words that make it small, or by .ci/run itself."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tools.example_weights import write_resnet20_weights
from tests.tools.shapes import write_shapes

CHECKOUT = Path(__file__).resolve().parent.parent
DOCS = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    *sorted((CHECKOUT / "docs").glob("*.md")),
    CHECKOUT / "reports" / "README.md",
    CHECKOUT / "reports" / "reproduction" / "README.md",
]

SMALL = {
    "jobs/submit.py": (
        "model=nets.py:tiny weights=none epochs=1 batch_size=4 max_images=10 workers=0 precision=fp32 seeds=1 "
        "profile=demo runs_per_task=100 wait=true data=STAND_IN"
    ),
    "jobs/prepare.py": "data=STAND_IN weights=none max_images=10 profile=demo",
    "jobs/benchmark.py": (
        "data=STAND_IN models=resnet18 parts=epoch batch_size=2 max_images=4 workers=0 epochs=1 precision=fp32"
    ),
    "tests/tools/simulate.py": "seeds=1",
    "tests/tools/study_growth.py": "seeds=1 folder=growth tries=1",
    "jobs/status.py": "", "jobs/cancel.py": "", "jobs/list.py": "", "jobs/clean.py": "",
    "reports/aggregate.py": "", "reports/compare.py": "",
    "reports/publish.py": "", "caltech_exp.standin": "",
}  # fmt: skip
"""Words that a command gets unless it has them: with these the rows of a whole section train in seconds."""

IN_CI = {
    "make demo": "make demo",
    "make setup": "make setup",
    "make check": "make lint",  # its tests are among those of the last step
    "make lint": "make lint",
    "make format": "make lint",  # the same rules; make format corrects what make lint would complain of
    "make census": "make lint census",
    "make benchmark": "make benchmark",
    "make benchmark-gpu": "pytest -m",  # needs a GPU; its parts are tests/tools/test_step_profile.py and others
    "make constraints": "tests.tools.constraints",
    "make test": 'others="not slurm"',
    "make test-browser": ".ci/chromium",
    "make test-latex": "make test-latex",  # or it says that it does not
    "make test-slurm": "pytest -m slurm",
    "make campaign": "pytest -m slurm",  # its short form is test_campaign.py
    "make scale": "pytest -m slurm",  # its short form is test_scale.py
    "make upgrade": "pytest -m slurm",  # test_upgrade.py
    "bash .ci/run": "set -euo pipefail",
    "python -m venv .venv && . .venv/bin/activate && pip install -e .": "make setup",
}
"""Command -> the step of .ci/run that runs it, or its short form."""

NETS = """
from torch import nn

class tiny(nn.Sequential):
    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 32, stride=32)
        self.flat = nn.Flatten()
        self.fc = nn.Linear(98, classes)
"""
PLACES = {
    "/path/to/caltech101": "STAND_IN",
    "out=reports/reproduction/runs": "out=published",
    "out=reports/reproduction": "out=reproduced",
    "/path/to/weights": "WEIGHTS",
    "batch_size=32,64": "batch_size=2,4",
}
"""Words in the docs -> words in the test: the reader's own paths, those of the checkout that tests leave alone,
and batches for a few images."""


@dataclass(frozen=True)
class Command:
    """A command and the page that has it."""

    file: Path
    text: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(CHECKOUT)}: {self.text}"


def commands() -> Iterator[Command]:
    """Every command in a code block, and every command of a script or make within a sentence, once."""
    known = set()
    for file in DOCS:
        text = re.sub(r"```(yaml|python|json)\n.*?```", "", file.read_text(), flags=re.DOTALL)
        text = re.sub(r"<!-- begin: .*?<!-- end: ", "", text, flags=re.DOTALL)  # what was measured, and how
        blocks = [line.strip() for line in text.splitlines() if line.startswith("    ")]
        inline = re.findall(r"`(python (?:jobs|reports|tests)/[^`]*|make [^`]*)`", " ".join(text.split()))
        for line in [*blocks, *inline]:
            command = re.sub(r"\s+#.*", "", line).removeprefix("$ ")
            if re.match(r"(python|make|bash|squeue|pip|sbatch|scancel) ?", command) and command not in known:
                known.add(command)
                yield Command(file, command)


COMMANDS = list(commands())


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, stand_in: Path, stand_in_weights: Path, simulated: Path
) -> Path:
    """A reader's folder, with the files that the docs mention."""
    place = tmp_path_factory.mktemp("reader")
    for name in ("caltech_exp", "docs", "jobs", "reports", "tests"):
        (place / name).symlink_to(CHECKOUT / name)
    (place / "nets.py").write_text(NETS)
    examples = re.findall(r"```yaml\n(.*?)```", (CHECKOUT / "docs" / "studies.md").read_text(), re.DOTALL)
    (place / "sampling.yaml").write_text(examples[0])
    (place / "choices.yaml").write_text(examples[1])
    (place / "networks.yaml").write_text(examples[-1])
    (place / "shapes.yaml").write_text(next(text for text in examples if "five shapes" in text))
    write_shapes(place / "shapes")
    write_resnet20_weights(place / "WEIGHTS")
    (place / "STAND_IN").symlink_to(stand_in)
    (place / "weights").symlink_to(stand_in_weights)
    (place / "OTHER").symlink_to(simulated)
    return place


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    hidden = ("CALTECH101_ROOT", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER")  # open=true opens nothing
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


def script_of(text: str) -> str:
    """The script or module that a command runs."""
    return text.split()[1:3][text.split()[1] == "-m"]


def made_small(text: str) -> list[str]:
    """The command and the words that make it small."""
    for place, ours in PLACES.items():
        text = text.replace(place, ours)
    words = shlex.split(text)
    script = script_of(text)
    given = {word.partition("=")[0] for word in words[2:]}
    more = [word for word in SMALL[script].split() if word.partition("=")[0] not in given]
    if script == "jobs/submit.py" and "dry_run" in given and "runs" not in given:
        more.append("runs=planned")  # the study in runs= has other settings than the command of the docs
    if "study" in given or "dry_run" in given:
        more = [word for word in more if word.partition("=")[0] not in ("model", "weights", "wait")]
    return [sys.executable, *words[1:], *more]


def slurm_answers() -> bool:
    if not shutil.which("scontrol"):
        return False
    return subprocess.run(["scontrol", "show", "config"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_documented_command_succeeds(command: Command, folder: Path) -> None:
    target = " ".join(command.text.split()[:2]) if command.text.startswith("make ") else command.text
    if target in IN_CI:
        assert IN_CI[target] in (CHECKOUT / ".ci" / "run").read_text()
        return
    if command.text.startswith("squeue"):
        assert shutil.which("squeue") or not os.environ.get("CI")  # Slurm's own
        return
    if "profile=slurm" in command.text and not slurm_answers():
        if os.environ.get("CI"):
            pytest.fail("CI needs a Slurm: bash slurm/testbed/start.sh")
        pytest.skip("a dry run for Slurm asks a real one: bash slurm/testbed/start.sh")
    assert script_of(command.text) in SMALL, f"{command} is in the docs and nothing here says how to run it"
    done = run(made_small(command.text), folder)
    wrong = "trasnfer" in command.text
    assert done.returncode == (2 if wrong else 0), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_docs_have_a_command_of_every_script() -> None:
    scripts = {word for command in COMMANDS for word in command.text.split() if word in SMALL}
    assert scripts == set(SMALL)


def test_links_in_the_docs_have_a_target() -> None:
    for file in DOCS:
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            if "://" not in target:
                assert (file.parent / target).exists(), f"{file.name}: {target}"


def test_promises_about_faults_name_existing_tests() -> None:
    files = {path.stem for path in (CHECKOUT / "tests").rglob("test_*.py")} | {"campaign"}
    lines = (CHECKOUT / "docs" / "faults.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("| ") and line.count(" | ") == 3]
    assert len(table) > 60
    for line in table[1:]:
        named = re.findall(r"`(test_\w+)`|(campaign)", line.rpartition(" | ")[2])
        assert named, line
        assert {first or second for first, second in named} <= files, line


def test_main_path_of_the_architecture_page_exists() -> None:
    text = (CHECKOUT / "docs" / "architecture.md").read_text().partition("## The main path")[2]
    steps = re.findall(r"^\d+\. `([^`]+)`(?:, `(\w+)`)?:", text, re.MULTILINE)
    assert len(steps) == 10
    for file, name in steps:
        source = (CHECKOUT / file).read_text()
        assert bool(name) == file.endswith(".py"), f"{file} is a module, and the step names none of its functions"
        assert not name or re.search(rf"^(def|class) {name}\b", source, re.MULTILINE), f"{file}: {name}"


def test_files_that_the_docs_name_exist() -> None:
    folders = "caltech_exp|tests|slurm|jobs|reports|docs"
    for file in DOCS:
        for name in re.findall(rf"`((?:{folders})/[\w./-]*[\w/])`", file.read_text()):
            assert "NAME" in name or (CHECKOUT / name).exists(), f"{file.name}: {name}"


def test_makefile_describes_each_of_its_targets() -> None:
    text = (CHECKOUT / "Makefile").read_text()
    (targets,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert set(re.findall(r"^# make ([a-z-]+) ", text, re.MULTILINE)) == set(targets.split())


def test_architecture_page_has_a_line_for_every_folder() -> None:
    text = (CHECKOUT / "docs" / "architecture.md").read_text()
    folders = {path.parent.name for path in (CHECKOUT / "caltech_exp").glob("*/__init__.py")}
    assert set(re.findall(r"^      (\w+)/ ", text, re.MULTILINE)) == folders


def test_every_cell_of_the_comparison_has_its_source() -> None:
    text = (CHECKOUT / "docs" / "comparison.md").read_text()
    assert set(re.findall(r"\[\^([\w-]+)\](?!:)", text)) == set(
        re.findall(r"^\[\^([\w-]+)\]:", text, re.MULTILINE)
    )
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    for row in rows:
        assert len(row) == 8, row[0]
        for cell in row[2:] if row[0].strip() != "you need" else []:
            assert "[^" in cell or cell.strip(" |").startswith("not documented"), f"{row[0]}: {cell}"
