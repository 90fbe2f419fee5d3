"""The claims of a study file: which rows each compares, checked against the file's tables."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from caltech_exp.catalog.model import Claim, Comparison, Direction, Section, split_row_key, table_key
from caltech_exp.cli import UserError, shown, unknown

Sentence = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=300)]
TEST_ACCURACY = "test accuracy"
"""In place of a row: the row's own test accuracy. `epoch 20` is its own validation accuracy after that epoch."""
EPOCH = re.compile(r"epoch ([1-9][0-9]{0,8})")
MAX_COMPARISONS = 100
MAX_FINDINGS = 5


class ClaimEntry(BaseModel):
    """A claim as it is written: with `row` and `against`, with `rows`, or with `row` and `direction: diverges`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    claim: Sentence
    stated_in: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=40)] = ""
    row: Sentence | list[Sentence] = Field(
        [], description="keys of rows, section.table=row, or a table for its rows"
    )
    against: Sentence | list[Sentence] = Field([], description="the same, or `test accuracy`, or `epoch 20`")
    rows: Sentence | None = Field(None, description="key of a table: its rows among each other")
    direction: Direction
    size: float | None = Field(None, gt=0, le=1)
    margin: float = Field(0.0, ge=0, le=1)
    finding: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=40)] = ""
    subject: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=80)] = ""

    @model_validator(mode="after")
    def _compares_something(self) -> "ClaimEntry":
        if self.direction == "diverges":
            if not isinstance(self.row, str) or self.against or self.rows:
                raise ValueError("a claim that a row diverges takes row alone, as in row: transfer.lr=1e-1")
            if self.finding:
                raise ValueError("a finding compares rows; leave finding out")
        elif [bool(self.row), bool(self.against), bool(self.rows)] not in (
            [True, True, False],
            [False, False, True],
        ):
            raise ValueError("a claim compares a row with others: give row and against, or rows: section.table")
        if self.rows and self.direction != "similar":
            raise ValueError("rows among each other are similar; for a best row give row and against")
        if self.direction == "similar" and not (self.margin or self.size):
            raise ValueError("similar needs the largest difference that still counts, as in margin: 0.01")
        if self.size and not self.margin:
            raise ValueError("size needs a margin, how far from it still counts, as in margin: 0.01")
        return self


def read_claims(entries: Sequence[ClaimEntry], sections: Sequence[Section], where: str) -> tuple[Claim, ...]:
    """The claims of a study file. Raises UserError with the place if one names a row that is not there."""
    tables = {
        table_key(section.name, table.name): {row.label: row.config.epochs for row in table.rows}
        for section in sections
        for table in section.tables
    }
    claims = tuple(_claim(entry, tables, f"{where}: claim {shown(entry.claim, 60)!r}") for entry in entries)
    findings = [claim.finding for claim in claims if claim.finding]
    if len(set(findings)) < len(findings):
        raise UserError(f"{where}: claims: two findings have the same name; give each another")
    if len(findings) > MAX_FINDINGS:
        raise UserError(f"{where}: claims: {len(findings)} findings are too many; name up to {MAX_FINDINGS}")
    return claims


Tables = Mapping[str, Mapping[str, int]]
"""Key of a table -> label of a row -> its epochs."""


def _claim(entry: ClaimEntry, tables: Tables, place: str) -> Claim:
    diverging = entry.row if entry.direction == "diverges" and isinstance(entry.row, str) else ""
    comparisons = list(islice(_comparisons(entry, tables, place), MAX_COMPARISONS + 1))
    if diverging:
        _epochs(diverging, tables, place)
    elif not comparisons:
        raise UserError(f"{place}: a row is compared with itself; name another row")
    if len(comparisons) > MAX_COMPARISONS:
        raise UserError(f"{place}: it makes more than {MAX_COMPARISONS} comparisons; name fewer rows")
    return Claim(
        text=entry.claim,
        stated_in=entry.stated_in,
        direction=entry.direction,
        comparisons=tuple(dict.fromkeys(comparisons)),
        diverging=diverging,
        size=entry.size,
        margin=entry.margin,
        finding=entry.finding,
        subject=entry.subject,
    )


def _comparisons(entry: ClaimEntry, tables: Tables, place: str) -> Iterator[Comparison]:
    if entry.rows:
        yield from (Comparison(row, other) for row, other in combinations(_keys(entry.rows, tables, place), 2))
    for row in _keys(entry.row, tables, place) if entry.against else ():
        if entry.against == TEST_ACCURACY:
            yield Comparison(row, row, is_test=True)
        elif isinstance(entry.against, str) and (match := EPOCH.fullmatch(entry.against)):
            if int(match[1]) >= (epochs := _epochs(row, tables, place)):
                raise UserError(f"{place}: {row} trains for {epochs} epochs; compare it with an earlier epoch")
            yield Comparison(row, row, epoch=int(match[1]))
        else:
            yield from (Comparison(row, other) for other in _keys(entry.against, tables, place) if other != row)


def _keys(names: str | Sequence[str], tables: Tables, place: str) -> list[str]:
    """The keys of the named rows; a table stands for its rows, but for no more than a claim may compare."""
    keys = []
    for name in [names] if isinstance(names, str) else names:
        table, label = split_row_key(name)
        if label is not None:
            _epochs(name, tables, place)
            keys.append(name)
        else:
            labels = islice(_labels(table, tables, place), MAX_COMPARISONS + 2)
            keys += [f"{table}={label}" for label in labels]
    return keys


def _labels(table: str, tables: Tables, place: str) -> Mapping[str, int]:
    if table not in tables:
        raise UserError(f"{place}: {unknown('table', table, tables)}")
    return tables[table]


def _epochs(key: str, tables: Tables, place: str) -> int:
    """The epochs of a row. Raises UserError if there is no such row."""
    table, label = split_row_key(key)
    labels = _labels(table, tables, place)
    if label is None:
        raise UserError(f"{place}: {key} is a table; name one of its rows, as in {key}={next(iter(labels))}")
    if label not in labels:
        raise UserError(f"{place}: {unknown(f'row of {table}', label, labels)}")
    return labels[label]
