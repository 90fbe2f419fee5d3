"""Load a study file (YAML) as a Catalog.

docs/studies.md explains the format; report.yaml beside this file is the whole report in it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, product
from math import prod
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
    model_validator,
)

from caltech_exp.catalog.claims import ClaimEntry, read_claims
from caltech_exp.catalog.model import (
    CALTECH,
    MAX_RUNS,
    REPORTED_RUNS,
    Architecture,
    Catalog,
    DatasetFigure,
    Figure,
    Quoted,
    Reported,
    Row,
    Section,
    Table,
)
from caltech_exp.cli import UserError, did_you_mean, explain, reason, shown, unknown
from caltech_exp.config import DATA_SETTINGS, NETWORK_NAMES, RUN_SETTINGS, RunConfig
from caltech_exp.strict_yaml import load_words, read_yaml

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
"""The name of a section, table or network: part of commands, job names, file names and links."""
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=500)]
Label = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=100)]
MEAN_AND_STD = re.compile(r"(\S+)\s*(?:±|\+-)\s*(\S+)")
RESERVED = "all"
"""The name that no section may have: `section=all`."""
MAX_ROWS = 10_000
"""Of all tables of a file together."""
MAX_REPORTED = 100
"""The most characters of a reported value."""
MAX_SEEDS = 100_000
MAX_DEFAULT_FIGURES = 6
"""A table that names no figures gets one a row, up to this many rows."""
ACRONYMS = {"lr": "LR"}


def _reported(value: Any) -> Any:
    """`0.446 ± 0.016` -> Reported; "" -> None."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    match = MEAN_AND_STD.fullmatch(value.strip()) if len(value) <= MAX_REPORTED else None
    try:
        mean, std = (float(part) for part in match.groups()) if match else (-1.0, -1.0)
    except ValueError:
        mean, std = -1.0, -1.0
    if match is None or not (0 <= mean <= 1 and 0 <= std <= 1):
        raise ValueError("a reported value is mean ± std, both from 0 to 1, as in 0.446 ± 0.016")
    return Reported(mean, std, _rounding(match[1]), _rounding(match[2]))


def parse_seeds(text: str) -> tuple[int, ...]:
    """`3` -> (0, 1, 2); `0,1,5` -> (0, 1, 5); `7,` -> (7,)."""
    try:
        return tuple(_seeds(text))
    except ValueError as error:
        raise UserError(f"seeds={text}: {error}") from None


def _seeds(text: Any) -> Sequence[int]:
    takes = "seeds takes a number of seeds, from 1 (seeds=3), or a list (seeds=0,1,2; seeds=7, for one seed)"
    parts = [part.strip() for part in str(text).split(",")]
    is_list = len(parts) > 1
    if is_list and not parts[-1]:
        parts.pop()
    if not all(part.isascii() and part.isdigit() and len(part) < 11 for part in parts):
        raise ValueError(takes)
    numbers = tuple(int(part) for part in parts)
    if is_list:
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"a seed appears twice; {takes}")
        if max(numbers) >= 2**32:
            raise ValueError(f"a seed must be below 2**32; {takes}")
        return numbers
    if not 1 <= numbers[0] <= MAX_SEEDS:
        raise ValueError(f"{takes}, at most {MAX_SEEDS}")
    return range(numbers[0])  # takes no memory: a file may name many


Seeds = Annotated[Sequence[int] | None, PlainValidator(_seeds)]
"""Of all rows below, unless one farther in says otherwise."""


def _rounding(number: str) -> float:
    """Half a unit of the last written digit: `0.85` -> 0.005, `5e-2` -> 0.005."""
    mantissa, _, exponent = number.lower().partition("e")
    decimals = len(mantissa.partition(".")[2].replace("_", "")) - int(exponent or 0)
    return 0.5 * 10.0 ** -min(max(0, decimals), 400)


def _not_reserved(name: str) -> str:
    if name == RESERVED:
        raise ValueError(f"section={RESERVED} means every section; give the section another name")
    return name


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FigureEntry(_Entry):
    row: Label = Field(description="label of a row of the table")
    number: int | None = Field(None, ge=1, le=100_000, description="default: the next free number")
    caption: Line = ""
    quoted: dict[Literal["first_loss", "first_accuracy", "last_loss", "last_accuracy"], float] = {}


class DatasetFigureEntry(_Entry):
    number: int = Field(ge=1, le=100_000)
    name: Annotated[str, StringConstraints(pattern="^(averages|train|test)$")]
    caption: Line


class RowEntry(BaseModel):
    """A row: run settings by name beside `seeds`, `reported` and `diverges`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    seeds: Seeds = None
    reported: Annotated[Reported | None, BeforeValidator(_reported)] = None
    diverges: bool = False


class TableEntry(_Entry):
    """A table, either with its rows one by one or with a sweep.

    rows   label -> settings of the row; with `sweep: NAME` label -> reported value, and the labels are swept
    sweep  setting -> its values; every combination of several settings is a row
    """

    number: Line = ""
    title: Line = ""
    question: Line = ""
    heading: Line = ""
    seeds: Seeds = None
    settings: dict[str, Any] = {}
    settings_figure: int | None = None
    sweep: str | dict[str, list[Label]] = ""
    rows: dict[Label, Any] = {}
    figures: list[FigureEntry] | None = None

    @model_validator(mode="after")
    def _has_rows(self) -> "TableEntry":
        if isinstance(self.sweep, dict):
            if self.rows:
                raise ValueError("a sweep with values makes the rows itself; leave rows out, or sweep one setting")
            if not (self.sweep and all(self.sweep.values())):
                raise ValueError("sweep takes a setting and its values, as in sweep: {lr: [1e-2, 5e-2]}")
        elif not self.rows:
            raise ValueError("a table has rows or a sweep; give one, as in sweep: {lr: [1e-2, 5e-2]}")
        return self


class SectionEntry(_Entry):
    number: Line = ""
    title: Line = ""
    question: Line = ""
    seeds: Seeds = None
    settings: dict[str, Any] = {}
    tables: dict[Name, TableEntry] = {}
    dataset_figures: list[DatasetFigureEntry] = []

    @model_validator(mode="after")
    def _holds_something(self) -> "SectionEntry":
        if not self.tables and not self.dataset_figures:
            raise ValueError("a section has tables; give it one")
        return self


class ArchitectureEntry(_Entry):
    title: Label
    parameters: int = Field(ge=1, description="weights and biases, with the last layer of a run")
    remark: Line = ""


class StudyEntry(_Entry):
    """A whole study file."""

    title: Line = ""
    seeds: Annotated[Sequence[int], PlainValidator(_seeds)] = (0, 1, 2)
    reported_runs: int = Field(
        REPORTED_RUNS, ge=2, le=1_000_000, description="number of runs behind the reported values"
    )
    reported_data: Line = CALTECH
    provenance: Annotated[str, StringConstraints(max_length=1000)] = ""
    settings: dict[str, Any] = {}
    networks: dict[Name, str] = {}
    architectures: dict[Name, ArchitectureEntry] = {}
    claims: list[ClaimEntry] = []
    sections: dict[Annotated[Name, AfterValidator(_not_reserved)], SectionEntry] = Field(min_length=1)


def read_catalog(
    text: str,
    name: str,
    where: str,
    networks: Mapping[str, str] | None = None,
    weights: Mapping[str, str] | None = None,
) -> Catalog:
    """The catalog that the text of a study file describes.

    name      of the study: the file's name without .yaml
    where     names the file in errors
    networks  replaces the file's own networks in run settings by pinned ones (models.custom)
    weights   does the same for weights files (models.weights)
    """
    study = _parse(text, where)
    return _Reader(study, where, {**study.networks, **(networks or {})}, weights or {}).catalog(name)


def custom_networks(text: str, where: str) -> dict[str, str]:
    """Name -> `file.py:function` of the networks that a study file defines."""
    return dict(_parse(text, where).networks)


def _parse(text: str, where: str) -> StudyEntry:
    values = read_yaml(text, where, load_words)
    if not isinstance(values, dict):
        raise UserError(f"{where} has no sections; write `sections:` with tables below (docs/studies.md)")
    try:
        return StudyEntry.model_validate(values)
    except ValidationError as error:
        raise _misplaced(error, where) from None


def _misplaced(error: ValidationError, where: str) -> UserError:
    """The first complaint with its place: `my.yaml: sections.a: unknown entry 'tabels'; did you mean 'tables'?`"""
    errors = error.errors(include_url=False)
    # A misspelled entry is also a missing one: the unknown name says more.
    first = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    path = [str(part) for part in first["loc"] if part != "[key]"]
    place = f"{where}: {shown('.'.join(path[:-1]))}: " if path[1:] else f"{where}: "
    if first["type"] == "extra_forbidden":
        return UserError(f"{place}unknown entry {shown(path[-1])!r}{did_you_mean(path[-1], _entries(path[:-1]))}")
    if first["type"] == "missing":
        return UserError(f"{place}{path[-1]} is missing; add it")
    message = reason(first)
    value = f"={shown(first['input'])}" if isinstance(first["input"], str) else ""
    return UserError(f"{place}{shown(path[-1]) if path else ''}{value}: {message[:1].lower()}{message[1:]}")


def _entries(path: list[str]) -> list[str]:
    """The names that may stand at a place of the file."""
    lists: dict[str, type[BaseModel]] = {"claims": ClaimEntry, "architectures": ArchitectureEntry}
    if path[:1] and path[0] in lists:
        return list(lists[path[0]].model_fields)
    kinds: dict[str, type[BaseModel]] = {"tables": TableEntry, "sections": SectionEntry, "figures": FigureEntry}
    return list(next((kinds[part] for part in reversed(path) if part in kinds), StudyEntry).model_fields)


@dataclass(frozen=True)
class _Base:
    """The configuration and the seeds that rows inherit, and the precision that the file gives, "" for none.

    engine=reference has no precision, but one given farther out still holds for engine=fast farther in.
    """

    config: RunConfig
    seeds: Sequence[int]
    precision: str = ""


class _Reader:
    """Makes a catalog of the entries of a study file."""

    def __init__(
        self, study: StudyEntry, where: str, networks: Mapping[str, str], weights: Mapping[str, str]
    ) -> None:
        self.study = study
        self.where = where
        self.networks = networks
        self.weights = weights
        self.figure_numbers = _free_numbers(study)
        self.rows = self.runs = 0  # so far

    def catalog(self, name: str) -> Catalog:
        sections = tuple(self._section(key, entry) for key, entry in self.study.sections.items())
        _require_distinct_figures(sections, self.where)
        return Catalog(
            name=name,
            title=self.study.title or name,
            sections=sections,
            seeds=tuple(self.study.seeds),
            claims=read_claims(self.study.claims, sections, self.where),
            architectures=tuple(self._architectures()),
            reported_data=self.study.reported_data,
            provenance=self.study.provenance,
        )

    def _architectures(self) -> Iterator[Architecture]:
        known = {name: name for name in NETWORK_NAMES} | dict(self.networks)
        for name, entry in self.study.architectures.items():
            if name not in known:
                raise UserError(f"{self.where}: architectures: {unknown('network', name, known)}")
            yield Architecture(known[name], entry.title, entry.parameters, entry.remark)

    def _section(self, key: str, entry: SectionEntry) -> Section:
        place = f"{self.where}: section {key}"
        study = _Base(RunConfig(), entry.seeds or self.study.seeds)
        base = self._inherit(study, {**self.study.settings, **entry.settings}, place)
        tables = tuple(
            self._table(name, table, base, f"{place}, table {name}") for name, table in entry.tables.items()
        )
        figures = tuple(DatasetFigure(f.number, f.name, f.caption) for f in entry.dataset_figures)
        return Section(key, entry.number, entry.title or _words(key), entry.question, tables, figures)

    def _table(self, key: str, entry: TableEntry, base: _Base, place: str) -> Table:
        base = self._inherit(replace(base, seeds=entry.seeds or base.seeds), entry.settings, place)
        sweep = entry.sweep if isinstance(entry.sweep, dict) else {"": list(entry.rows)}
        self.rows += prod(map(len, sweep.values()))  # before they are made
        if self.rows > MAX_ROWS:
            asked = f"{min(self.rows, 10**15):,}"  # it may have thousands of digits
            raise UserError(f"{place}: {asked} rows up to here are more than {MAX_ROWS:,}; sweep fewer values")
        rows = tuple(self._rows(entry, base, place))
        labels: dict[str, str] = {}
        for row in rows:
            if label := labels.get(row.config.id):
                raise UserError(f"{place}: rows {label!r} and {row.label!r} are the same run; keep one of them")
            labels[row.config.id] = row.label
        swept = list(entry.sweep) if isinstance(entry.sweep, dict) else [entry.sweep]
        return Table(
            name=key,
            number=entry.number,
            title=entry.title or _words(key),
            question=entry.question,
            heading=entry.heading or ", ".join(map(_words, filter(None, swept))) or "Row",
            rows=rows,
            figures=tuple(self._figures(entry, [row.label for row in rows], place)),
            settings_figure=entry.settings_figure,
        )

    def _rows(self, entry: TableEntry, base: _Base, place: str) -> Iterator[Row]:
        if isinstance(entry.sweep, dict):
            for values in product(*entry.sweep.values()):
                label = ", ".join(values)
                settings = dict(zip(entry.sweep, values, strict=True))
                config = self._inherit(base, settings, f"{place}, row {label}").config
                yield Row(label, config, self._counted(base.seeds, place))
            return
        for label, value in entry.rows.items():
            row_place = f"{place}, row {label}"
            is_reported_value = entry.sweep and not isinstance(value, dict)
            try:
                row = RowEntry.model_validate({"reported": value} if is_reported_value else value or {})
            except ValidationError as error:
                raise _misplaced(error, row_place) from None
            settings = dict(row.model_extra or {})
            if entry.sweep:
                settings[entry.sweep] = label
            reported = replace(row.reported, runs=self.study.reported_runs) if row.reported else None
            config = self._inherit(base, settings, row_place, RowEntry.model_fields).config
            yield Row(label, config, self._counted(row.seeds or base.seeds, place), reported, row.diverges)

    def _counted(self, seeds: Sequence[int], place: str) -> tuple[int, ...]:
        """The seeds of one more row."""
        self.runs += len(seeds)
        if self.runs > MAX_RUNS:
            raise UserError(f"{place}: more than {MAX_RUNS:,} runs up to here; use fewer seeds")
        return tuple(seeds)

    def _inherit(
        self, base: _Base, settings: Mapping[str, Any], place: str, others: Mapping[str, Any] | None = None
    ) -> _Base:
        """The base with some settings changed; `others` may stand beside them in the file."""
        changes = dict(settings)
        for name in DATA_SETTINGS:
            if name in changes:
                raise UserError(f"{place}: {name} comes from the data set; leave it out, and submit with data=DIR")
        precision = changes.get("precision", base.precision)
        if precision and changes.get("engine") == "fast":
            changes["precision"] = precision
        if isinstance(changes.get("model"), str):
            changes["model"] = self._network(changes["model"], place)
        if isinstance(changes.get("weights"), str):
            changes["weights"] = self.weights.get(changes["weights"], changes["weights"])
        try:
            return replace(base, config=base.config.but(**changes), precision=precision) if changes else base
        except ValidationError as error:
            raise explain(error, {**RUN_SETTINGS, **(others or {})}, place) from None

    def _network(self, name: str, place: str) -> str:
        network = self.networks.get(name, name)
        if self.networks and network not in (*NETWORK_NAMES, *self.networks.values()):
            known = [*NETWORK_NAMES, *self.networks]
            raise UserError(f"{place}: unknown network {shown(network)!r}{did_you_mean(network, known)}")
        return network

    def _figures(self, entry: TableEntry, labels: Sequence[str], place: str) -> Iterator[Figure]:
        figures = entry.figures
        if figures is None:
            figures = [FigureEntry(row=label) for label in labels] if len(labels) <= MAX_DEFAULT_FIGURES else []
        for figure in figures:
            if figure.row not in labels:
                raise UserError(f"{place}, figures: unknown row {figure.row!r}{did_you_mean(figure.row, labels)}")
            quoted = Quoted(**figure.quoted) if figure.quoted else None
            number = figure.number or next(self.figure_numbers)
            yield Figure(number, figure.caption or figure.row, figure.row, quoted)


def _require_distinct_figures(sections: Sequence[Section], where: str) -> None:
    """Raises UserError if two figures have the same number, which names their files."""
    numbers = [figure.number for section in sections for figure in section.dataset_figures]
    numbers += [figure.number for section in sections for table in section.tables for figure in table.figures]
    for number, times in Counter(numbers).items():
        if times > 1:
            raise UserError(f"{where}: there are two figures {number}; give one of them another number, or none")


def _free_numbers(study: StudyEntry) -> Iterator[int]:
    """Numbers for figures without one, from above the largest in the file."""
    numbers = [0]
    for section in study.sections.values():
        numbers += [figure.number for figure in section.dataset_figures]
        for table in section.tables.values():
            numbers += [table.settings_figure or 0, *(figure.number or 0 for figure in table.figures or ())]
    return count(max(numbers) + 1)


def _words(key: str) -> str:
    """`batch_size` -> `Batch size`"""
    return ACRONYMS.get(key, key.replace("_", " ").capitalize())
