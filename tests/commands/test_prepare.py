"""jobs/prepare.py as a user runs it, and the runs that find what it made."""

import re
import shutil
from pathlib import Path

import pytest

from caltech_exp.commands.prepare import PrepareOptions
from caltech_exp.data.splits import IMAGES
from tests.commands.test_submit import one_line_error
from tests.conftest import Command
from tests.tools.shapes import write_shapes


def identities(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file of a folder with what changes when it is written or replaced."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def logs(runs: Path) -> str:
    """What the tasks of a study printed."""
    return "".join(path.read_text() for path in sorted(runs.glob("submissions/*/*_log.out")))


def test_all_packs_are_made_and_the_second_time_left_as_they_are(
    prepare: Command, stand_in: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my packs"
    words = (f"data={stand_in}", "profile=local", f"packs={folder}", "max_images=8", "weights=none")
    done = prepare(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("packed 8 images of ") == 4
    assert re.findall(r"^pack: (8 images of .*?)  +made ", done.stdout, re.MULTILINE) == [
        "8 images of train (center)",
        "8 images of train (resized)",
        "8 images of val (center)",
        "8 images of test (center)",
    ]
    assert len(list(folder.glob("*.u8"))) == len(list(folder.glob("*.json"))) == 4

    before = identities(folder)
    again = prepare(*words)
    assert again.returncode == 0, again.stderr
    assert "packed " not in again.stdout
    assert len(re.findall(r"^pack: 8 .* present ", again.stdout, re.MULTILINE)) == 4
    assert identities(folder) == before


@pytest.mark.parametrize("place", ["the user's cache", "the profile's"])
def test_runs_find_the_packs_that_were_made_for_them(
    place: str, prepare: Command, submit: Command, small: tuple[str, ...], stand_in: Path, tmp_path: Path
) -> None:
    profile = tmp_path / "mine.yaml"
    packs = f"packs: {tmp_path}/$MY_PLACE/packs\n" if place == "the profile's" else ""
    profile.write_text(f"executor: local\ndevice: cpu\ncpus_per_task: 1\n{packs}")
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "MY_PLACE": "scratch"}
    done = prepare(f"data={stand_in}", f"profile={profile}", "max_images=4", "weights=none", **environment)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / ("scratch/packs" if packs else "cache/caltech_exp/packs")
    assert len(list(folder.glob("*.u8"))) == 4

    runs = tmp_path / "runs"
    done = submit(*small, "seeds=1", f"profile={profile}", f"runs={runs}", "wait=true", **environment)
    assert done.returncode == 0, done.stderr
    assert "finished, validation accuracy" in logs(runs)
    assert "packed " not in logs(runs)


def test_packs_that_nobody_made_are_made_once_before_the_runs(
    submit: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*small, "seeds=4", "runs_per_task=2", "profile=demo", f"runs={runs}", "wait=true")
    done = submit(*words, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert len(list(runs.glob("submissions/*/*_log.out"))) == 1 + 2
    assert logs(runs).count("finished, validation accuracy") == 4
    assert logs(runs).count("packed 4 images of ") == 3


def test_runs_copy_packs_to_the_place_on_the_node(submit: Command, small: tuple[str, ...], tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text(
        "executor: local\ndevice: cpu\ncpus_per_task: 1\n"
        f"packs: {tmp_path}/shared\npacks_on_node: $NODE_PLACE/packs\n"
    )
    node = tmp_path / "node"
    words = (*small, "seeds=1", f"profile={profile}", f"runs={tmp_path / 'runs'}", "wait=true")
    done = submit(*words, NODE_PLACE=str(node))
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "shared").glob("*.*") if path.suffix in (".u8", ".json")}
    assert len(names) == 2 * 3
    assert {path.name for path in (node / "packs").glob("*.*") if path.suffix in (".u8", ".json")} == names


def test_the_reference_engine_makes_no_packs(submit: Command, small: tuple[str, ...], tmp_path: Path) -> None:
    words = (*small, "engine=reference", "seeds=1", "profile=demo", f"runs={tmp_path / 'runs'}", "wait=true")
    done = submit(*words, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "cache").exists()


def test_own_data_with_a_random_split_is_packed_as_runs_use_it(
    prepare: Command, submit: Command, tmp_path: Path
) -> None:
    write_shapes(tmp_path / "shapes", 6)
    words = ("data=shapes", "split=0.3", "split_seed=2", "profile=demo", "packs=packs")
    dry = ("table=scratch.lr=1e-3", "seeds=2", "batch_size=2", "weights=none", "runs=runs", "dry_run=true")
    assert "3 packs of images" in submit(*words, *dry).stdout
    done = prepare(*words, "weights=none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("packed ") == 4
    done = submit(*words, *dry)
    assert "would queue" in done.stdout, done.stderr
    assert "packs of images" not in done.stdout
    one_line_error(
        prepare(words[0], words[2], "weights=none"), "split_seed=2 is the seed of split=; add split=0.3"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("max_image=4", "unknown key 'max_image'; did you mean 'max_images'?"),
        ("max_images=-1", "max_images=-1: "),
        ("profile=local", "no data set: set data=DIR or CALTECH101_ROOT"),
        ("archive=ftp://host/a.zip", "archive=ftp://host/a.zip: ftp:// is not supported"),
        ("archive_hash=12", "archive_hash=12: give sha256: and 64 hexadecimal digits"),
        ("weights=alexnt", "weights=alexnt: there is no such value; did you mean 'alexnet'?"),
        ("splits=~nosuchuser/x", "; name another path"),
        ("profile=locl", "unknown profile 'locl'; did you mean 'local'?"),
        ("profile=local data=STAND_IN packs=~nosuchuser/x", "; name another path"),
        (
            "profile=local data=STAND_IN packs=FILE/packs",
            "Not a directory; make room there, choose another folder",
        ),
    ],
)
def test_bad_input(words: str, message: str, prepare: Command, stand_in: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    given = words.replace("STAND_IN", str(stand_in)).replace("FILE", str(tmp_path / "file")).split()
    if "data=" not in words and words != "profile=local":
        given.append(f"data={stand_in}")
    if "weights=" not in words:
        given.append("weights=none")
    one_line_error(prepare(*given), message)


def test_a_damaged_image_is_named(prepare: Command, stand_in: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(stand_in, tmp_path / "data"))
    image = data / IMAGES / (data / "test.txt").read_text().split()[0]
    image.write_bytes(image.read_bytes()[:500])
    done = prepare(f"data={data}", "profile=local", f"packs={tmp_path / 'packs'}", "max_images=2", "weights=none")
    one_line_error(done, f"damaged image {image} (test.txt line 1)")
    assert not list((tmp_path / "packs").glob("*test*.u8"))


def test_help_names_every_option(prepare: Command) -> None:
    done = prepare("--help")
    assert done.returncode == 0
    for word in PrepareOptions.model_fields:
        assert f" {word}= " in done.stdout


def test_a_precision_the_reference_does_not_have_is_refused(
    submit: Command, small: tuple[str, ...], untouched: Path
) -> None:
    words = [word for word in small if not word.startswith("precision=")]
    done = submit(*words, "engine=reference", "precision=bf16", "profile=demo", f"runs={untouched}")
    one_line_error(done, "engine=reference computes in fp32; leave precision out, or use engine=fast")
