"""What a study file may hold, as it is written: every value is the text that stands in the YAML.

docs/studies.md explains the format; report.yaml beside this file is the whole report in it.
"""

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from caltech_exp.catalog.model import REPORTED_RUNS, Reported

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
