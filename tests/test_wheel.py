"""The package as `pip install .`, `uv tool install` and pipx install it: away from any checkout."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from caltech_exp.provenance import CodeVersion, code_version
from tests.conftest import CHECKOUT, NO_NETWORK, SMALL

USERS_OWN = 'raise RuntimeError("this package is the user\'s")\n'
PROFILES = CHECKOUT / "slurm" / "profiles"
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def call(*words: object, folder: Path, **environment: str) -> str:
    """What a command prints that ends well. Its environment says nothing of this checkout or its data."""
    hidden = ("CALTECH101_ROOT", "PYTHONPATH", "VIRTUAL_ENV")
    inherited = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={**inherited, **NO_NETWORK, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build `build_wheel` or `build_sdist` of a source tree with this environment's setuptools."""
    folder.mkdir()
    call(sys.executable, "-c", BUILD, kind, folder, folder=source)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("build_wheel", CHECKOUT, tmp_path_factory.mktemp("wheel") / "dist")


@pytest.fixture(scope="module")
def code(wheel: Path) -> CodeVersion:
    """The code that the wheel was built from."""
    with zipfile.ZipFile(wheel) as archive:
        return CodeVersion.model_validate_json(archive.read("caltech_exp/_build.json"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel alone, which sees the libraries of the running one but no editable install."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    call(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder.parent)
    (packages,) = folder.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "libraries.pth").write_text("".join(f"{path}\n" for path in libraries))
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    call(*pip, "install", "--no-deps", "--no-index", "--ignore-installed", "--quiet", wheel, folder=folder.parent)
    return folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with packages of their own named as the folders of a checkout are."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for package in ("reports", "jobs"):
        (folder / package).mkdir()
        for name in ("__init__.py", "aggregate.py", "submit.py"):
            (folder / package / name).write_text(USERS_OWN)
    return folder


def test_wheel_holds_one_package_with_its_data(wheel: Path, code: CodeVersion) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        tops = {name.partition("/")[0] for name in names}
        assert {top for top in tops if not top.endswith(".dist-info")} == {"caltech_exp"}
        for path in PROFILES.rglob("*.yaml"):
            shipped = f"caltech_exp/profiles/shipped/{path.relative_to(PROFILES).as_posix()}"
            assert archive.read(shipped) == path.read_bytes()
        package = CHECKOUT / "caltech_exp"
        data = [path for path in package.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".so")]
        assert {path.relative_to(CHECKOUT).as_posix() for path in data} <= names
    assert code == code_version()


def test_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build("build_sdist", CHECKOUT, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("caltech_exp-*")
    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(build("build_wheel", source, tmp_path / "dist")) as again:
        assert set(again.namelist()) == set(ours.namelist())
        assert again.read("caltech_exp/_build.json") == ours.read("caltech_exp/_build.json")


def test_installed_command_knows_its_commit(environment: Path, elsewhere: Path, code: CodeVersion) -> None:
    assert call(environment / "bin/caltech-exp", "--version", folder=elsewhere) == f"caltech_exp {code}\n"


def test_installed_command_runs_a_study_to_its_report(
    environment: Path, elsewhere: Path, code: CodeVersion, stand_in: Path, small_packs: Path
) -> None:
    assert small_packs.is_dir()
    command = environment / "bin/caltech-exp"
    words = ["table=resnet.batch_256", "weights=none", *SMALL, "seeds=1", f"data={stand_in}"]
    local = ["profile=local", "profile.device=cpu"]
    call(command, "submit", *words, *local, "aggregate=true", "wait=true", folder=elsewhere)
    assert "finished" in call(command, "status", folder=elsewhere)
    (result,) = (json.loads(path.read_text()) for path in elsewhere.glob("runs/*/result.json"))
    assert result["code"]["commit"] == code.commit
    assert f"caltech_exp {code.version}" in (elsewhere / "report/report.md").read_text()
    assert not [log for log in elsewhere.glob("runs/submissions/*/*_log.*") if "Warning" in log.read_text()]
    (snapshot,) = elsewhere.glob("runs/sources/*/*")
    assert {path.name for path in snapshot.iterdir()} == {"caltech_exp", "snapshot.json", "files.sha256"}
    assert (elsewhere / "report/report.html").is_file()
    call(command, "aggregate", "out=again", folder=elsewhere)
    assert (elsewhere / "again/report.md").is_file()
