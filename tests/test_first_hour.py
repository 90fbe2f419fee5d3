"""A new user's hour on a real Slurm: the commands of README and docs as they are printed, in a reader's order.

Commands and files are taken from the pages' code blocks. A reader adds only what no page can know: where the data
is, words that make the runs small (once a study, whose folder remembers them), and a mistake in the profile.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.tools.testbed import queue, until

pytestmark = pytest.mark.slurm

CHECKOUT = Path(__file__).resolve().parent.parent
PREPARING, CLUSTERS, STUDIES = "docs/preparing.md", "docs/clusters.md", "docs/studies.md"

SMALL = "epochs=1 max_images=10 workers=0 precision=fp32"
TINY = f"{SMALL} batch_size=10 model=nets.py:tiny weights=none"
FEW = f"{SMALL} batch_size=10 seeds=1 runs_per_task=4"
IN_ONE_TASK = "runs_per_task=100 keep_weights=last"
"""Of sections of tiny runs: a task starts Python and torch for seconds. A notebook loads a network later."""
OWN = {
    "/path/to/caltech101": "$HOME/caltech101",
    "stand-in": "$HOME/caltech101",
    "examples/gpus-per-node.yaml": "testbed.yaml",
}
"""What the pages call the data folder and the cluster -> what they are here."""
WRONG_PYTHON = "/opt/python3.11/bin/python3"
NOT_COPIED = (
    "python -m venv .venv && . .venv/bin/activate && pip install -e .",  # a test runs in an environment
    "$ python jobs/submit.py section=trasnfer",  # a mistake, made in test_docs
)


@dataclass
class Reader:
    """A shell in a folder with the checkout's files.

    exports     commands that the shell remembers
    copied      commands of the pages, as they are printed
    transcript  what a terminal shows: each command and its output
    """

    folder: Path
    home: Path
    exports: list[str] = field(default_factory=list)
    copied: set[str] = field(default_factory=set)
    transcript: list[str] = field(default_factory=list)

    def copy(self, page: str, beginning: str, more: str = "", *, says: str = "") -> str:
        """Run the command in the page's code blocks that is or begins so; a line that it prints matches `says`."""
        printed = printed_commands(page)
        texts = [beginning] if beginning in printed else [text for text in printed if text.startswith(beginning)]
        assert len(texts) == 1, f"{page} prints {len(texts)} commands that begin with {beginning!r}: {texts}"
        self.copied.update(texts)
        command = re.sub("|".join(OWN), lambda match: OWN[match[0]], texts[0])
        return self.run(f"{command} {more}".strip(), says=says)

    def run(self, command: str, *, says: str = "") -> str:
        """What a command that must succeed prints."""
        hidden = ("CALTECH101_ROOT", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", "\n".join([*self.exports, command])],
            cwd=self.folder, env={**kept, "HOME": str(self.home), "PATH": path}, text=True, timeout=170,
            check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if command.startswith("export "):
            self.exports.append(command)
        self.transcript.append(f"$ {command}\n{done.stdout}")
        assert done.returncode == 0, self.transcript[-1]
        assert re.search(says, done.stdout, re.MULTILINE), f"no line with {says!r}:\n{self.transcript[-1]}"
        return done.stdout

    def save(self, page: str, language: str, number: int, name: str) -> None:
        """Copy an example of the page into a file."""
        (self.folder / name).write_text(examples(page, language)[number])

    def wait(self) -> None:
        """Until squeue is empty."""
        until(lambda: not queue(), 120)


@pytest.mark.usefixtures("empty_queue")
def test_a_new_users_hour_is_done_by_copying(reader: Reader) -> None:
    prepare_and_try(reader)
    fail_and_retry(reader)
    cancel_and_resume(reader)
    write_the_report(reader)
    run_a_study_of_ones_own(reader)
    run_a_network_of_ones_own(reader)
    read_the_frames(reader)
    missed = [text for text in printed_commands("README.md", "## On a cluster") if text not in reader.copied]
    assert sorted(missed) == sorted(NOT_COPIED), "README prints a command that this hour does not run"


def prepare_and_try(reader: Reader) -> None:
    reader.copy(PREPARING, "python -m caltech_exp.standin", says="^stand-in weights: ")
    reader.copy(PREPARING, "python jobs/prepare.py data=", "weights=none max_images=10", says="^pack: .* made ")
    reader.copy(CLUSTERS, "mkdir -p ")
    reader.copy(CLUSTERS, "cp slurm/profiles/")
    reader.copy(PREPARING, "python jobs/submit.py table=", SMALL, says="^queued transfer.try: 1 task, 1 run, ")
    reader.copy("README.md", "export CALTECH101_ROOT=")
    reader.copy("README.md", "python jobs/prepare.py", "weights=none max_images=10", says="^pack: .* present ")


def fail_and_retry(reader: Reader) -> None:
    reader.save(STUDIES, "python", 0, "nets.py")
    profile = reader.home / ".config" / "caltech_exp" / "profiles" / "slurm.yaml"
    right = profile.read_text()
    profile.write_text(f"{right}python: {WRONG_PYTHON}\n")
    reader.copy(
        "README.md", "python jobs/submit.py section=transfer", TINY, says="^queued transfer.runs: 30 tasks, "
    )
    reader.copy("README.md", "squeue --me", says=r" transfer\.runs ")
    reader.wait()
    reader.copy("README.md", "python jobs/status.py failed=true", says=f"^failed .* and 29 more: .*{WRONG_PYTHON}")
    profile.write_text(right)
    retry = "python jobs/submit.py section=all retry=failed"
    reader.copy("README.md", retry, IN_ONE_TASK, says="^queued transfer.runs: ")
    reader.wait()
    assert "failed" not in reader.copy("README.md", "python jobs/status.py", says=r"^all runs, .* 30 ")
    reader.copy("README.md", retry, says="^nothing to submit: no run failed or was lost$")


def cancel_and_resume(reader: Reader) -> None:
    whole = "python jobs/submit.py section=all aggregate=true"
    reader.copy(
        "README.md", "python jobs/submit.py section=all dry_run=true", says="^would queue augmentation.runs: "
    )
    reader.copy("README.md", whole, IN_ONE_TASK, says="^queued aggregate.runs: after the runs")
    reader.copy(CLUSTERS, "python jobs/cancel.py dry_run=true", says="^would cancel 3 jobs, ")
    reader.copy("README.md", "python jobs/cancel.py", says=r"^cancelled 3 jobs, ")
    reader.wait()
    reader.copy(CLUSTERS, whole, IN_ONE_TASK, says="^queued aggregate.runs: after the runs")
    reader.wait()


def write_the_report(reader: Reader) -> None:
    status = reader.copy("README.md", "python jobs/status.py", says="^report: .*, written ")
    assert not re.search("pending|failed|lost|cancelled", status)
    reader.copy("README.md", "python jobs/status.py results=true", says=r"^\S.* \* .* [01]\.\d{3}")
    reader.copy("README.md", "python jobs/list.py", says="^runs .* 60 ")
    reader.copy("README.md", "python reports/aggregate.py open=true", says=r"^(\d+) of \1 runs finished\.")
    reader.copy(STUDIES, "python reports/publish.py", says=r"^\d+ results published in ")


def run_a_study_of_ones_own(reader: Reader) -> None:
    reader.save(STUDIES, "yaml", 0, "sampling.yaml")
    reader.copy(STUDIES, "python jobs/submit.py study=sampling.yaml", FEW, says="^queued sampling.sampling-runs: ")
    reader.wait()
    reader.copy(STUDIES, "python jobs/status.py runs=sampling-runs", says=r"^sampling\.how +4$")
    reader.copy(STUDIES, "python reports/aggregate.py runs=sampling-runs", says=r"^4 of 4 runs finished\.")


def run_a_network_of_ones_own(reader: Reader) -> None:
    reader.save(STUDIES, "yaml", -1, "networks.yaml")
    command = "python jobs/submit.py study=networks.yaml"
    reader.copy(STUDIES, command, f"{FEW} wait=true", says="^4 of 4 runs have ended$")


def read_the_frames(reader: Reader) -> None:
    cells = examples("docs/notebooks.md", "python")
    assert len(cells) == 8
    kept = next((reader.folder / "runs").glob("*/weights.pth")).parent.name
    image = "from PIL import Image\n\nimage = Image.new('RGB', (300, 200))\n"
    show = "print(best, curve, cost, paired, failed, latex, outputs.shape, sep='\\n\\n')"
    cells[-1] = re.sub(r"[0-9a-f]{10}-s0", kept, cells[-1])
    (reader.folder / "cells.py").write_text("\n".join([image, *cells, show]))
    reader.run("python cells.py", says=r"^scratch\.lr=5e-2 & ")


def printed_commands(page: str, start: str = "") -> list[str]:
    """The commands in the page's indented code blocks after `start`, without their comments, each once."""
    text = (CHECKOUT / page).read_text()
    assert start in text, f"{page} has no {start!r}"
    text = re.sub(r"```.*?```", "", text.partition(start)[2] if start else text, flags=re.DOTALL)
    lines = [re.sub(r"\s+#.*", "", line).strip() for line in text.splitlines() if line.startswith("    ")]
    return list(dict.fromkeys(line for line in lines if re.match(r"(\$ )?(python|squeue|export|mkdir|cp) ", line)))


def examples(page: str, language: str) -> list[str]:
    """The page's fenced code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", (CHECKOUT / page).read_text(), re.DOTALL)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path / "caltech_exp", tmp_path / "home")
    reader.folder.mkdir()
    reader.home.mkdir()
    for name in ("caltech_exp", "jobs", "reports", "slurm"):
        (reader.folder / name).symlink_to(CHECKOUT / name)
    yield reader
    print("\n".join(reader.transcript))  # shown if the test fails, or with -s
