"""The report's last section: which runs, code, libraries and machines the numbers come from."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

from caltech_exp.config import PIN
from caltech_exp.files import utc_now
from caltech_exp.provenance import code_version
from caltech_exp.reporting.blocks import Block, Listing, Prose, Table
from caltech_exp.reporting.collect import Collected
from caltech_exp.reporting.counts import ORDER, count_runs
from caltech_exp.reporting.figure_blocks import submit_command
from caltech_exp.reporting.markup import code, escape
from caltech_exp.reporting.places import place
from caltech_exp.reporting.vocabulary import network_name


def origins_blocks(collected: Collected) -> list[Block]:
    """Counts by state, versions, devices, dates and hours; what differs between runs is marked as mixed."""
    return [
        *_counts(collected),
        _facts(collected),
        *_unreadable(collected),
        *_strays(collected),
        Prose(f"Written {utc_now()} by caltech_exp {escape(code_version())}."),
    ]


def _counts(collected: Collected) -> list[Block]:
    counts = count_runs(collected)
    cells = [(state, str(counts[state])) for state in ORDER if counts[state]]
    table = Table(("state", "runs"), (*cells, ("all", str(counts.total()))), numbers=(1,), sortable=False)
    if not counts["queued"] and not counts["running"]:
        return [table]
    command = f"{submit_command(collected, 'section=all')} dry_run=true"
    return [
        table,
        Prose(
            f"Queued and running as far as the files tell, without asking the queue, which {code(command)} does."
        ),
    ]


def _facts(collected: Collected) -> Listing:
    results = collected.results()
    lines = [_study(collected)]
    if collected.manifests:  # a study that was published left them behind
        lines.append(f"Submissions: {len(collected.manifests)}")
    lines.append(f"Results counted: {len(results)}")
    if results:
        started = sorted(result.started for result in results)
        hours = sum(result.wall_seconds for result in results) / 3600
        lines += [
            f"First run started {escape(started[0])}, last one {escape(started[-1])}",
            f"Wall time of all runs together: {hours:.1f} h",
            _spread("Code", (result.all_code for result in results)),
            *(_spread(name, versions) for name, versions in _libraries(collected).items()),
            *(_spread(name, digests) for name, digests in _initial_weights(collected).items()),
            _spread("Device", (f"{result.device.name} ({result.device.type})" for result in results)),
            _spread("Host", (result.host for result in results), mixed_matters=False),
        ]
    return Listing(tuple(lines))


def _study(collected: Collected) -> str:
    study = collected.study
    if study is None:
        return f"Study: {code(place(collected.folder))} holds no study.json"
    return (
        f"Study: {code(place(collected.folder))}, started {escape(study.created)} by {escape(study.code)}, "
        f"with {escape(study.settings)}, on the {escape(study.data)}"
    )


def _libraries(collected: Collected) -> dict[str, list[str]]:
    versions: dict[str, list[str]] = {}
    for result in collected.results():
        for name, version in result.libraries.items():
            versions.setdefault(name, []).append(version)
    return dict(sorted(versions.items()))


def _initial_weights(collected: Collected) -> dict[str, list[str]]:
    """The hash of the weights file that each run loaded, by network and file."""
    digests: dict[str, list[str]] = {}
    for result in collected.results():
        if result.weights_sha256:
            config = result.config
            name = PurePath(config.weights.partition(PIN)[0]).name
            what = f"Initial weights of {network_name(config.model)}, {name}"
            digests.setdefault(what, []).append(f"SHA-256 {result.weights_sha256}")
    return dict(sorted(digests.items()))


def _spread(what: str, values: Iterable[str], *, mixed_matters: bool = True) -> str:
    """`Device: H100 (cuda)`, or every value with its number of runs, marked as mixed where that matters."""
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return f"{escape(what)}: {escape(counts[0][0])}"
    mixed = "**mixed:** " if mixed_matters else ""
    words = [f"{escape(value)} ({count} run{'s' if count > 1 else ''})" for value, count in counts]
    return f"{escape(what)}: {mixed}{', '.join(words)}"


def _unreadable(collected: Collected) -> list[Listing]:
    """Files that should hold a record and do not, and those of a newer version of caltech_exp."""
    return [
        *_files(collected, "damaged", "Damaged files, which count as missing:"),
        *_files(collected, "newer", "Files of a newer version of caltech_exp, which are left out:"),
    ]


def _files(collected: Collected, state: str, head: str) -> list[Listing]:
    lines = [
        f"{code(one.path)}: {escape(one.reason)}"
        for one in collected.damaged
        if ("newer" if one.is_newer else "damaged") == state
    ]
    lines += [
        f"{code(place(collected.folder / run.id))}: {escape(run.detail)}"
        for run in (*collected.all_runs(), *collected.strays)
        if run.state == state
    ]
    return [Listing(tuple(lines), head)] if lines else []


def _strays(collected: Collected) -> list[Listing]:
    """Runs that no row shows: left by other settings than this study's, or by an older catalog."""
    lines = tuple(f"{code(run.id)} {run.state}" for run in collected.strays)
    head = "Runs in the folder that no row of the report asks for with this study's settings:"
    return [Listing(lines, head)] if lines else []
