"""A whole runs folder with damaged files: reporting goes on without them, or refuses the study in one line."""

import json
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from caltech_exp.config import RunConfig
from caltech_exp.reporting.collect import collect
from caltech_exp.study.manifest import MANIFEST, SUBMISSIONS
from caltech_exp.study.results import FAILURE, RESULT
from caltech_exp.study.study import STUDY
from tests.reporting.conftest import SampleStudy, make_result, row_config
from tests.tools.bad_inputs import Reader, as_json, damaged_bytes, damaged_value, generated

CONFIG: RunConfig = row_config("scratch.lr", "5e-2")
RUN = f"{CONFIG.id}-s0"
OTHER = f"{CONFIG.id}-s1"
FILES = (STUDY, f"{RUN}/{RESULT}", f"{OTHER}/{FAILURE}", f"{SUBMISSIONS}/first/{MANIFEST}")


def test_a_damaged_study_is_collected_or_refused(folder: SampleStudy) -> None:
    """300 studies with one or two damaged files; a sound result among them always counts."""
    folder.start()
    folder.submit(RUN, OTHER)
    folder.add(make_result(CONFIG, 0), make_result(CONFIG, 2))
    folder.fail(OTHER, "a reason")
    reader = Reader(folder.path)
    sound = {name: (folder.path / name).read_bytes() for name in FILES}
    manifest = json.loads(sound[FILES[3]])

    def submitted(*runs: str) -> tuple[str, bytes]:
        return FILES[3], as_json(manifest | {"tasks": [manifest["tasks"][0] | {"runs": runs}]})

    damages = {
        name: damaged_value(json.loads(content)).map(as_json) | damaged_bytes(st.just(content))
        for name, content in sound.items()
    }
    pairs = st.sampled_from(FILES).flatmap(lambda name: st.tuples(st.just(name), damages[name]))

    @generated(300)
    @given(st.lists(pairs, min_size=1, max_size=2))
    @example([(FILES[3], as_json(manifest | {"seeds": [-1, 10**30]}))])
    @example([submitted("..", "0123456789-s٣")])
    @example([submitted("/etc")])
    @example([submitted("a\0b")])
    @example([submitted("0123456789-s" + "9" * 5000)])
    def study(changes: list[tuple[str, bytes]]) -> None:
        for name, content in (sound | dict(changes)).items():
            (folder.path / name).write_bytes(content)
        found = reader.read(lambda: collect(Path(folder.path)))
        assert found is None or f"{CONFIG.id}-s2" in {run.id for run in (*found.all_runs(), *found.strays)}

    study()
    assert reader.refused >= 30
