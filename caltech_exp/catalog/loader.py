"""From a study file (YAML) to a Catalog: schema, checks, seeds.

docs/studies.md explains the format; report.yaml beside this file is the whole report in it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from caltech_exp.catalog.model import (
    REPORTED_RUNS,
    Catalog,
    DatasetFigure,
    Figure,
    Quoted,
    Reported,
    Row,
    Section,
    Table,
)
from caltech_exp.cli import UserError, did_you_mean, explain, shown
from caltech_exp.config import NETWORK_NAMES, RunConfig
from caltech_exp.strict_yaml import load_words, read_yaml

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
"""Of sections, tables and networks: part of commands, job names, file names and links."""
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=500)]
Label = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=100)]
MEAN_AND_STD = re.compile(r"(\S+)\s*(?:±|\+-)\s*(\S+)")


def _reported(value: Any) -> Any:
    """`0.446 ± 0.016` -> Reported; "" is none."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    match = MEAN_AND_STD.fullmatch(value.strip())
    try:
        mean, std = (float(part) for part in match.groups()) if match else (-1.0, -1.0)
    except ValueError:
        mean, std = -1.0, -1.0
    if match is None or not (0 <= mean <= 1 and 0 <= std <= 1):
        raise ValueError("a reported value is mean ± std, both from 0 to 1, as in 0.446 ± 0.016")
    return Reported(mean, std, _rounding(match[1]), _rounding(match[2]))


def _rounding(number: str) -> float:
    """Half a unit of the last digit that is written: `0.85` -> 0.005, `5e-2` -> 0.005."""
    mantissa, _, exponent = number.lower().partition("e")
    decimals = len(mantissa.partition(".")[2].replace("_", "")) - int(exponent or 0)
    return 0.5 * 10.0 ** -min(max(0, decimals), 400)


RESERVED = (
    *("all", "agreement", "classes", "conclusions", "cost", "provenance"),
    *("readings", "report", "runs", "theme", "top"),
)
"""`section=all`, and places in every report."""


def _free(name: str) -> str:
    if name in RESERVED:
        raise ValueError(f"{', '.join(RESERVED)} mean something already; give the section another name")
    return name


ReportedText = Annotated[Reported | None, BeforeValidator(_reported)]


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WrittenQuoted(_Written):
    """What a text says of the one run it drew; see model.Quoted."""

    first_loss: float | None = None
    first_accuracy: float | None = None
    last_loss: float | None = None
    last_accuracy: float | None = None


class WrittenFigure(_Written):
    row: Label = Field(description="the label of a row of the table")
    number: int | None = Field(None, ge=1, le=100_000, description="left out: the next that is free")
    caption: Line = ""
    quoted: WrittenQuoted | None = None


class WrittenDatasetFigure(_Written):
    number: int = Field(ge=1, le=100_000)
    name: Annotated[str, StringConstraints(pattern="^(averages|train|test)$")]
    caption: Line


class WrittenRow(_Written):
    """A row: run settings by name beside `reported` and `diverges`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    reported: ReportedText = None
    diverges: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class WrittenTable(_Written):
    """A table whose rows stand there one by one, or come from a sweep.

    rows   label -> settings of the row; with `sweep: NAME` the labels are its values, each with what is reported
    sweep  setting -> its values; of several settings every combination is a row
    """

    number: Line = ""
    title: Line = ""
    question: Line = ""
    heading: Line = ""
    settings: dict[str, Any] = {}
    settings_figure: int | None = None
    sweep: str | dict[str, list[Label]] = ""
    rows: dict[Label, Any] = {}
    figures: list[WrittenFigure] | None = None

    @model_validator(mode="after")
    def _has_rows(self) -> "WrittenTable":
        if isinstance(self.sweep, dict):
            if self.rows:
                raise ValueError("sweep with values makes the rows itself; leave rows out, or sweep one setting")
            empty = [name for name, values in self.sweep.items() if not values]
            if empty or not self.sweep:
                raise ValueError("sweep takes a setting and its values, as in sweep: {lr: [1e-2, 5e-2]}")
        elif not self.rows:
            raise ValueError("a table has rows or a sweep; give one, as in sweep: {lr: [1e-2, 5e-2]}")
        return self


class WrittenSection(_Written):
    number: Line = ""
    title: Line = ""
    question: Line = ""
    settings: dict[str, Any] = {}
    tables: dict[Name, WrittenTable] = {}
    dataset_figures: list[WrittenDatasetFigure] = []

    @model_validator(mode="after")
    def _holds_something(self) -> "WrittenSection":
        if not self.tables and not self.dataset_figures:
            raise ValueError("a section has tables; give it one")
        return self


class WrittenStudy(_Written):
    title: Line = ""
    seeds: str = "3"
    reported_runs: int = Field(
        REPORTED_RUNS, ge=2, le=1_000_000, description="how many runs the reported values are of"
    )
    settings: dict[str, Any] = {}
    networks: dict[Name, str] = {}
    sections: dict[Annotated[Name, AfterValidator(_free)], WrittenSection] = Field(min_length=1)


MOST_ROWS = 10_000
MOST_OWN_FIGURES = 6
"""Rows of a table up to which each has its curves drawn where the file does not say which."""
ACRONYMS = {"lr": "LR"}


@dataclass(frozen=True)
class _Inherited:
    """A configuration and the precision that stands in the file for it, "" for none.

    engine=reference has no precision of its own; one that stands farther out holds for engine=fast further in.
    """

    config: RunConfig
    precision: str = ""


@dataclass(frozen=True)
class _Files:
    """What stands for the file's own networks and for weights files in run settings, by the names in the file."""

    networks: Mapping[str, str]
    weights: Mapping[str, str]


def read_catalog(
    text: str,
    name: str,
    where: str,
    networks: Mapping[str, str] | None = None,
    weights: Mapping[str, str] | None = None,
) -> Catalog:
    """The catalog that the text of a study file describes.

    name      what the study is called: the file's name without .yaml
    where     names the file in errors
    networks  what stands for the file's own networks in run settings (own_network); as written if left out
    weights   the same for weights files (weights.pin)

    Raises UserError that names the place and what belongs there.
    """
    written = _written(text, where)
    files = _Files({**written.networks, **(networks or {})}, weights or {})
    try:
        seeds = parse_seeds(written.seeds)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    sections = []
    numbers = _free_numbers(written)
    for key, section in written.sections.items():
        place = f"{where}: section {key}"
        base = _config(_Inherited(RunConfig()), {**written.settings, **section.settings}, files, place)
        tables = tuple(
            _table(table_key, table, base, files, f"{place}, table {table_key}", numbers, written.reported_runs)
            for table_key, table in section.tables.items()
        )
        sections.append(_section(key, section, tables))
    _require_figures_apart(sections, where)
    return Catalog(name, written.title or name, tuple(sections), seeds)


def custom_networks(text: str, where: str) -> dict[str, str]:
    """Name -> `file.py:function` of the networks that a study file brings. Raises UserError as `read_catalog`."""
    return dict(_written(text, where).networks)


def _written(text: str, where: str) -> WrittenStudy:
    values = read_yaml(text, where, load_words)
    if not isinstance(values, dict):
        raise UserError(f"{where} has no sections; write `sections:` with tables below (docs/studies.md)")
    try:
        return WrittenStudy.model_validate(values)
    except ValidationError as error:
        raise _misplaced(error, where) from None


def _misplaced(error: ValidationError, where: str) -> UserError:
    """The first complaint by its place: `my.yaml: sections.a: unknown entry 'tabels'; did you mean 'tables'?`"""
    found = error.errors(include_url=False)
    # A name that is written wrong is missing too: that it is unknown says more.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    path = [str(part) for part in first["loc"] if part != "[key]"]
    place = f"{where}: {shown('.'.join(path[:-1]))}: " if path[1:] else f"{where}: "
    if first["type"] == "extra_forbidden":
        known = _entries(path[:-1])
        return UserError(f"{place}unknown entry {shown(path[-1])!r}{did_you_mean(path[-1], known)}")
    if first["type"] == "missing":
        return UserError(f"{place}{path[-1]} is missing; give it")
    message = first["msg"].removeprefix("Value error, ")
    given = first["input"]
    value = f"={shown(given)}" if isinstance(given, str) else ""
    return UserError(f"{place}{shown(path[-1]) if path else ''}{value}: {message[:1].lower()}{message[1:]}")


def _entries(path: list[str]) -> list[str]:
    """The names that may stand at a place of the file."""
    kinds: dict[str, type[BaseModel]] = {
        "tables": WrittenTable,
        "sections": WrittenSection,
        "figures": WrittenFigure,
    }
    for part in reversed(path):
        if part in kinds:
            return list(kinds[part].model_fields)
    return list(WrittenStudy.model_fields)


def _section(key: str, section: WrittenSection, tables: tuple[Table, ...]) -> Section:
    figures = tuple(DatasetFigure(f.number, f.name, f.caption) for f in section.dataset_figures)
    return Section(key, section.number, section.title or _words(key), section.question, tables, figures)


def _table(
    key: str,
    table: WrittenTable,
    base: _Inherited,
    files: _Files,
    place: str,
    numbers: Iterator[int],
    reported_runs: int,
) -> Table:
    base = _config(base, table.settings, files, place)
    rows = tuple(_rows(table, base, files, place, reported_runs))
    if len(rows) > MOST_ROWS:
        raise UserError(f"{place}: it has {len(rows):,} rows, more than {MOST_ROWS:,}; sweep fewer values")
    first: dict[str, str] = {}
    for row in rows:
        if row.config.id in first:
            raise UserError(
                f"{place}: rows {first[row.config.id]!r} and {row.label!r} are one run; keep one of them"
            )
        first[row.config.id] = row.label
    swept = [table.sweep] if isinstance(table.sweep, str) else list(table.sweep)
    heading = table.heading or ", ".join(map(_words, filter(None, swept))) or "Row"
    title = table.title or _words(key)
    figures = _figures(table, rows, place, numbers)
    return Table(key, table.number, title, table.question, heading, rows, figures, table.settings_figure)


def _rows(table: WrittenTable, base: _Inherited, files: _Files, place: str, reported_runs: int) -> Iterator[Row]:
    if isinstance(table.sweep, dict):
        for values in product(*table.sweep.values()):
            label = ", ".join(values)
            settings = dict(zip(table.sweep, values, strict=True))
            yield Row(label, _config(base, settings, files, f"{place}, row {label}").config)
        return
    for label, entry in table.rows.items():
        here = f"{place}, row {label}"
        if table.sweep and not isinstance(entry, dict):
            entry = {"reported": entry}
        try:
            row = WrittenRow.model_validate(entry or {})
        except ValidationError as error:
            raise _misplaced(error, here) from None
        settings = {**row.settings, **({table.sweep: label} if table.sweep else {})}
        reported = replace(row.reported, runs=reported_runs) if row.reported else None
        yield Row(label, _config(base, settings, files, here).config, reported, row.diverges)


def _config(base: _Inherited, settings: Mapping[str, Any], files: _Files, place: str) -> _Inherited:
    changes = dict(settings)
    precision = changes.get("precision", base.precision)
    if precision and changes.get("engine") == "fast":
        changes["precision"] = precision
    if isinstance(changes.get("model"), str):
        changes["model"] = files.networks.get(changes["model"], changes["model"])
        if files.networks and changes["model"] not in (*NETWORK_NAMES, *files.networks.values()):
            raise UserError(
                f"{place}: unknown network {shown(changes['model'])!r}"
                f"{did_you_mean(changes['model'], [*NETWORK_NAMES, *files.networks])}"
            )
    if isinstance(changes.get("weights"), str):
        changes["weights"] = files.weights.get(changes["weights"], changes["weights"])
    try:
        return _Inherited(base.config.but(**changes), precision) if changes else base
    except ValidationError as error:
        raise explain(error, RunConfig.model_fields, place) from None


def _figures(table: WrittenTable, rows: tuple[Row, ...], place: str, numbers: Iterator[int]) -> tuple[Figure, ...]:
    labels = [row.label for row in rows]
    asked = table.figures
    if asked is None:
        asked = [WrittenFigure(row=label) for label in labels] if len(rows) <= MOST_OWN_FIGURES else []
    figures = []
    for figure in asked:
        if figure.row not in labels:
            raise UserError(f"{place}, figures: unknown row {figure.row!r}{did_you_mean(figure.row, labels)}")
        number = figure.number or next(numbers)
        quoted = Quoted(**figure.quoted.model_dump()) if figure.quoted else None
        figures.append(Figure(number, figure.caption or figure.row, figure.row, quoted))
    return tuple(figures)


def _require_figures_apart(sections: Sequence[Section], where: str) -> None:
    """Raises UserError if two figures have one number: it names their files."""
    numbers = [figure.number for section in sections for figure in section.dataset_figures]
    numbers += [figure.number for section in sections for table in section.tables for figure in table.figures]
    twice = next((number for number, count in Counter(numbers).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"{where}: there are two figures {twice}; give one of them another number, or none")


def _free_numbers(written: WrittenStudy) -> Iterator[int]:
    """Numbers for figures that have none: those after the largest that stands in the file."""
    given = [0]
    for section in written.sections.values():
        given += [figure.number for figure in section.dataset_figures]
        for table in section.tables.values():
            given += [table.settings_figure or 0, *(figure.number or 0 for figure in table.figures or ())]
    number = max(given)
    while True:
        number += 1
        yield number


def _words(key: str) -> str:
    """`batch_size` -> `Batch size`"""
    return ACRONYMS.get(key, key.replace("_", " ").capitalize())


MAX_SEEDS = 100_000


def parse_seeds(text: str) -> tuple[int, ...]:
    """`3` -> (0, 1, 2); `0,1,5` -> (0, 1, 5); `7,` -> (7,). Raises UserError for anything else."""
    takes = "seeds takes how many, from 1 (seeds=3), or a list of seeds (seeds=0,1,2, or seeds=7, for one)"
    parts = [part.strip() for part in text.split(",")]
    listed = len(parts) > 1
    if listed and not parts[-1]:
        parts.pop()
    if not all(part.isascii() and part.isdigit() and len(part) < 11 for part in parts):
        raise UserError(f"seeds={text}: {takes}")
    numbers = tuple(int(part) for part in parts)
    if listed:
        if len(set(numbers)) != len(numbers):
            raise UserError(f"seeds={text}: a seed stands there twice; {takes}")
        if max(numbers) >= 2**32:
            raise UserError(f"seeds={text}: a seed is below 2**32; {takes}")
        return numbers
    if not 1 <= numbers[0] <= MAX_SEEDS:
        raise UserError(f"seeds={text}: {takes}, at most {MAX_SEEDS}")
    return tuple(range(numbers[0]))
