"""Every table of the report as CSV for spreadsheets and LaTeX for papers, and all runs as one CSV."""

import contextlib
import csv
import io
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import tabulate

from caltech_exp.config import RunConfig
from caltech_exp.files import write_atomically
from reports.collect import Collected, Run
from reports.grid import Column, Grid, Value, shown
from reports.markup import printable
from reports.outcome import Outcome

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Cells that begin so are formulas to a spreadsheet (OWASP, CSV Injection)."""
RESULT_COLUMNS = (
    "first_loss",
    "val_accuracy",
    "best_val_accuracy",
    "test_loss",
    "test_accuracy",
    "wall_seconds",
    "attempts",
    "images_per_second",
    "peak_memory_bytes",
    "energy_joules",
    "job",
    "host",
    "started",
)


def write_tables(folder: Path, grids: Iterable[Grid]) -> None:
    """`folder`/<name>.csv and .tex for every table; tables of an earlier report that are not among them go.

    A file that would not change is not touched. Raises OSError.
    """
    folder.mkdir(exist_ok=True)
    kept = set()
    for grid in grids:
        for kind, content in (("csv", to_csv(grid)), ("tex", to_latex(grid))):
            path = folder / f"{grid.name}.{kind}"
            write_if_changed(path, content)
            kept.add(path)
    for path in folder.iterdir():
        if path.suffix in (".csv", ".tex") and path not in kept:
            path.unlink()


def to_csv(grid: Grid) -> str:
    """Numbers with all their digits; a word in a column of numbers is left out, the state column says the same."""
    rows = [
        [value if column.kind == "text" or not isinstance(value, str) else None for column, value in pairs]
        for pairs in (zip(grid.columns, row, strict=True) for row in grid.rows)
    ]
    return csv_text([column.heading for column in grid.columns], rows)


def csv_text(headings: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """RFC 4180 with line feeds; empty for what is not known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([neutral(heading) for heading in headings])
    writer.writerows([neutral(value) if isinstance(value, str) else value for value in row] for row in rows)
    return text.getvalue()


@lru_cache(maxsize=10_000)
def neutral(text: str) -> str:
    """One printable line that no spreadsheet takes for a formula: an apostrophe stands before one."""
    line = text if text.isprintable() else printable(text)
    return f"'{line}" if line.startswith(FORMULA) else line


def to_latex(grid: Grid) -> str:
    """A `table` environment for the package booktabs, rounded as on the page."""
    align = ["left" if column.kind == "text" else "right" for column in grid.columns]
    cells = [[printable(shown(column, value)) for column, value in _pairs(grid, row)] for row in grid.rows]
    headings = [column.heading for column in grid.columns]
    body = tabulate.tabulate(cells, headings, tablefmt="latex_booktabs", colalign=align, disable_numparse=True)
    lines = (
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(grid.caption)}}}",
        rf"\label{{tab:{grid.name.replace('_', '-')}}}",
        body,
        r"\end{table}",
    )
    return "\n".join(lines) + "\n"


def latex(text: str) -> str:
    """Text that LaTeX shows letter by letter."""
    return "".join(tabulate.LATEX_ESCAPE_RULES.get(letter, letter) for letter in printable(text))


def _pairs(grid: Grid, row: Sequence[Value]) -> Iterable[tuple[Column, Value]]:
    return zip(grid.columns, row, strict=True)


def write_runs(path: Path, collected: Collected) -> None:
    """One line per run that is known of, those that no row asks for too: settings, state, numbers, origin.

    Raises OSError.
    """
    settings = list(RunConfig.model_fields)
    headings = ["run_id", "seed", "state", "rows", *settings, "epochs", *RESULT_COLUMNS]
    headings += ["device", "device_type", "code", "torch", "simulated", "stand_in", "detail"]
    serves: dict[str, list[str]] = {}
    configs: dict[str, list[Value]] = {}
    for (section, table), rows in collected.rows.items():
        for row in rows:
            serves.setdefault(row.config.id, []).append(f"{section}.{table}={row.row.label}")
            configs[row.config.id] = [getattr(row.config, name) for name in settings]
    lines = []
    for run in (*collected.all_runs(), *collected.strays):
        name = run.id.rpartition("-s")[0]
        known = configs.get(name) or _settings(run, settings)
        lines.append(
            [
                run.id,
                run.seed,
                run.state,
                "; ".join(serves.get(name, ())),
                *known,
                *_numbers(run.result),
                run.detail,
            ]
        )
    write_if_changed(path, csv_text(headings, lines))


def every_outcome(collected: Collected) -> list[Outcome]:
    """Of all runs, in the order of `write_runs`."""
    return [run.result for run in (*collected.all_runs(), *collected.strays) if run.result]


def _settings(run: Run, names: Sequence[str]) -> list[Value]:
    return [getattr(run.result.config, name) if run.result else None for name in names]


def _numbers(one: Outcome | None) -> list[Value]:
    """The columns from `epochs` to `stand_in`."""
    if one is None:
        return [None] * (len(RESULT_COLUMNS) + 7)
    return [
        len(one.epochs),
        *(getattr(one, name) for name in RESULT_COLUMNS),
        one.device.name,
        one.device.type,
        str(one.code),
        one.libraries.get("torch"),
        str(one.data.simulated).lower(),
        str(one.data.stand_in).lower(),
    ]


def write_if_changed(path: Path, content: str) -> None:
    """Replace the file by `content`, unless it holds just that. Raises OSError."""
    new = content.encode()
    with contextlib.suppress(OSError):
        if path.stat().st_size == len(new) and path.read_bytes() == new:
            return
    write_atomically(path, new)
