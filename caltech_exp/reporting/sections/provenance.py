"""Which runs, code, libraries and machines the numbers come from."""

import shlex
from collections.abc import Sequence
from pathlib import PurePath

import pandas as pd

from caltech_exp.config import JOIN, PIN
from caltech_exp.files import utc_now
from caltech_exp.provenance import code_version
from caltech_exp.reporting.comparison import TableRow
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.render.blocks import (
    Block,
    Column,
    Details,
    Listing,
    Note,
    Prose,
    Table,
    code,
    escape,
    join_words,
)
from caltech_exp.reporting.wording import (
    OTHER_WEIGHTS,
    STATES,
    display_path,
    network_name,
    shorten,
    weights_name,
)
from caltech_exp.study.run_status import DIFFERS, EQUAL


def provenance_blocks(study: StudyFrames) -> list[Block]:
    """Counts by state, then versions, devices and dates; what differs between runs is marked as mixed."""
    return [
        *_states(study),
        _facts(study),
        *_again(study),
        *_left_out(study),
        Prose(f"Written {utc_now()} by caltech_exp {escape(code_version())}."),
    ]


def weights_blocks(study: StudyFrames, rows: Sequence[TableRow]) -> list[Block]:
    """The caution over rows that start from other ImageNet weights than the report's, and where these are from."""
    files = dict.fromkeys(row.config.weights for row in rows)
    names = join_words([code(weights_name(file)) for file in files])
    caution = (
        f"These rows start from {OTHER_WEIGHTS} than the report's: {names}, not torchvision's. A difference may "
        "come from the weights."
    )
    origins = study.study.weights_origins if study.study else {}
    unknown = "no README was in its folder when it was submitted."
    texts = {file: study.catalog.provenance or origins.get(file.partition(PIN)[2], unknown) for file in files}
    lines = tuple(Prose(f"{code(weights_name(file))}: {escape(text)}") for file, text in texts.items())
    return [Note((caution,)), Details("Where these weights are from", lines)]


def _states(study: StudyFrames) -> list[Block]:
    """The runs that a row asks for, by state."""
    states = study.requested["state"]
    counts = states.value_counts()
    rows = [(words, int(counts[state])) for state, words in STATES.items() if state in counts]
    table = Table(
        name="",
        caption="Runs by state.",
        columns=(Column("state", "text"), Column("runs", "count")),
        rows=(*rows, ("all", len(states))),
        sortable=False,
    )
    if not states.isin(["queued", "running"]).any():
        return [table]
    command = code(shlex.join(["python", "jobs/status.py", f"runs={display_path(study.folder)}"]))
    return [table, Prose(f"Queued and running runs are counted by their files; {command} also asks the queue.")]


def _facts(study: StudyFrames) -> Listing:
    results = study.results
    lines = [*_study_facts(study), f"Results: {len(results):,}"]
    if len(results):
        lines += [
            f"First run started: {escape(results['started'].min())}",
            f"Last run started: {escape(results['started'].max())}",
            f"Total wall time: {results['wall_seconds'].sum() / 3600:,.1f} h",
            _values("Code", results["code"]),
            *_library_facts(results),
            *_weights_facts(results),
            *([f"Where the weights are from: {escape(origin)}"] if (origin := study.catalog.provenance) else []),
            _values("Device", results["device"] + " (" + results["device_type"] + ")"),
            _values("Host", results["host"], must_match=False),
        ]
    return Listing(tuple(lines))


def _study_facts(study: StudyFrames) -> list[str]:
    folder, record = code(display_path(study.folder)), study.study
    if record is None:
        return [f"Study: {folder}, which has no study.json"]
    return [
        f"Study: {folder}, created {escape(record.created)} by {escape(record.code)}",
        f"Settings: {escape(record.settings)}",
        f"Trained on the {escape(record.data)}",
        # A published study left its manifests behind.
        *([f"Submissions: {study.submissions:,}"] if study.submissions else []),
    ]


def _library_facts(results: pd.DataFrame) -> list[str]:
    """The libraries of which all runs have one version in a line, then a line for each of the others."""
    libraries = results["libraries"].str.split(", ").explode().str.split(" ", n=1, expand=True)
    libraries = libraries.reindex(columns=[0, 1]).dropna()
    versions = {str(name): own for name, own in libraries.groupby(0)[1]}
    same = [f"{name} {own.iloc[0]}" for name, own in versions.items() if own.nunique() == 1]
    mixed = [_values(name, own) for name, own in versions.items() if own.nunique() > 1]
    return [*([f"Libraries: {escape(', '.join(same))}"] if same else []), *mixed]


def _weights_facts(results: pd.DataFrame) -> list[str]:
    """A line for each network and file of initial weights, with the hashes that its runs loaded."""
    loaded = results.dropna(subset="weights_sha256")
    files = [
        f"Initial weights of {network_name(model)}, {PurePath(weights.partition(PIN)[0]).name}"
        for model, weights in zip(loaded["model"], loaded["weights"], strict=True)
    ]
    digests = "SHA-256 " + loaded["weights_sha256"].str.replace(JOIN, " and ", regex=False)
    named = digests.groupby(pd.Series(files, index=loaded.index, dtype="string"))
    return [_values(str(name), own) for name, own in named]


def _values(name: str, values: "pd.Series[str]", must_match: bool = True) -> str:
    """`Device: H100 (cuda)`, or every value with its number of runs, marked as mixed if they must match."""
    counts = values.value_counts()
    if len(counts) == 1:
        return f"{escape(name)}: {escape(counts.index[0])}"
    words = [f"{escape(value)} ({count:,} run{'s' if count > 1 else ''})" for value, count in counts.items()]
    return f"{escape(name)}: {'**mixed:** ' if must_match else ''}{', '.join(words)}"


def _again(study: StudyFrames) -> list[Listing]:
    """The runs that were trained once more, and whether they gave the same numbers."""
    runs = study.runs[study.runs["again"].notna()]
    head = escape(f"{count_equal(runs['again'])}. Their first results count.")
    return [Listing(shorten(_run_lines(runs, "again")), head)] if len(runs) else []


def count_equal(words: "pd.Series[str]") -> str:
    """`2 of 3 runs that were trained again are equal to the bit; 1 has no second result yet`"""
    seconds = ([part for part in text.split("; ") if part.startswith((EQUAL, DIFFERS))] for text in words)
    done = [parts for parts in seconds if parts]
    equal, missing = sum(all(part.startswith(EQUAL) for part in parts) for parts in done), len(words) - len(done)
    more = f"; {missing} {'has' if missing == 1 else 'have'} no second result yet" if missing else ""
    return f"{equal} of {len(done)} runs that were trained again are {EQUAL}{more}"


def _left_out(study: StudyFrames) -> list[Listing]:
    """Records that are damaged or that a newer version wrote, and runs of other settings or an older catalog."""
    runs = study.runs
    lists = {
        "Records of the study that cannot be read:": list(map(escape, study.problems)),
        "Damaged results, which count as missing:": _run_lines(runs[runs["state"] == "damaged"], "detail"),
        "Results of a newer version of caltech_exp, which are not counted:": _run_lines(
            runs[runs["state"] == "newer"], "detail"
        ),
        "Runs in the folder that no row of the report asks for with this study's settings:": _run_lines(
            runs[runs["rows"] == ""].replace({"state": STATES}), "state"
        ),
    }
    return [Listing(shorten(lines), head) for head, lines in lists.items() if lines]


def _run_lines(runs: pd.DataFrame, column: str) -> list[str]:
    return [f"{code(run)}: {escape(words)}" for run, words in zip(runs["run_id"], runs[column], strict=True)]
