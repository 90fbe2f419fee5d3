"""A sweep from the command line, `lr=1e-3,1e-2 batch_size=32,64`: every combination is a row of a study file.

The file is RUNS/sweep.yaml. The user may edit it and submit it again as any study file.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from caltech_exp.catalog import Catalog, Section, Table, read_catalog, row_key, split_row_key, table_key
from caltech_exp.cli import UserError, parse, shown
from caltech_exp.config import CUSTOM_NETWORK, RunConfig, choices
from caltech_exp.files import user_path
from caltech_exp.models.weights import joined, pin, weights_paths
from caltech_exp.strict_yaml import dump_words, read_text
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.study import StudyFile

SWEEP = "sweep"
"""The name of the study, and of its file."""
LONGEST_LABEL = 100


@dataclass(frozen=True)
class Sweep:
    """A study of the product of some settings' values.

    words  what the command sweeps: `lr=1e-3,1e-2 batch_size=32,64`
    path   of the study file
    text   what is to be in it
    rows   keys of the rows that the command asks for; the file may have more
    """

    words: str
    path: Path
    text: str
    rows: Collection[str]

    def select(self, catalog: Catalog) -> list[tuple[Section, Table]]:
        """The tables of the study file, with the rows that the command asks for."""
        selected = []
        for section, table in catalog.tables:
            rows = [row for row in table.rows if row_key(section.name, table.name, row.label) in self.rows]
            if rows:
                selected.append((section, replace(table, rows=tuple(rows))))
        return selected

    def describe(self) -> str:
        """`sweep of lr=1e-3,1e-2 in scratch.template: 2 rows, study file runs/sweep.yaml`"""
        tables = ", ".join(dict.fromkeys(split_row_key(key)[0] for key in self.rows))
        return f"sweep of {self.words} in {tables}: {len(self.rows):,} rows, study file {self.path}"


def split_sweep(values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The settings with one value, and those with several: `{"lr": "1e-3,1e-2"}` -> `{"lr": ["1e-3", "1e-2"]}`.

    A file whose name has a comma is one value.
    """
    swept = {key: _values(key, text) for key, text in values.items() if "," in text and not _is_file(key, text)}
    return {key: text for key, text in values.items() if key not in swept}, swept


def _is_file(key: str, text: str) -> bool:
    network = CUSTOM_NETWORK.fullmatch(text) if key == "model" else None
    return key in ("model", "weights") and user_path(network["path"] if network else text, key).is_file()


def _values(key: str, text: str) -> list[str]:
    values = [value.strip() for value in text.split(",")]
    given = f"{key}={shown(text)}"
    if not all(values):
        remedy = f"write {key}={shown(text.strip(', '))}" if text.strip(", ") else f"leave {key}= out"
        raise UserError(f"{given}: there is an empty value between the commas; {remedy}")
    if re.fullmatch("0,[0-9]+", text) and RunConfig.model_fields[key].annotation is float:
        raise UserError(f"{given} has a decimal comma; write {key}={text.replace(',', '.')}")
    if any(re.fullmatch("0[0-9]+", value) for value in values):
        raise UserError(f"{given}: a number begins with 0; write {key}={text.replace(',', '')} without a comma")
    read: dict[object, str] = {}
    for value in values:
        if key == "weights" and value not in ("none", "imagenet"):
            pin(value)  # which says what is wrong with a file
        number = getattr(parse(RunConfig, {key: value}), key)
        if number in read:
            raise UserError(f"{given}: {read[number]} and {value} are the same value; keep one")
        read[number] = value
    return values


def make_sweep(
    swept: Mapping[str, Sequence[str]],
    overridden: Mapping[str, str],
    tables: Sequence[tuple[Section, Table]],
    folder: StudyFolder,
) -> Sweep:
    """The sweep of some tables of the report in a folder, which is new or holds a sweep.

    overridden  the settings that the command gives one value

    Raises UserError if the folder's file lacks rows of it. Only a file that nobody edited is extended.
    """
    words = shown(" ".join(f"{key}={','.join(values)}" for key, values in swept.items()))
    path = folder.path / f"{SWEEP}.yaml"
    text = _study_text(swept, overridden, tables, folder.path.name)
    rows = _rows(read_catalog(text, SWEEP, words))
    study = folder.study()
    kept = study.file.text if study and study.file else None
    kept = read_text(path, str(path), "make it readable") if path.exists() else kept
    old = rows if kept is None else _rows(read_catalog(kept, SWEEP, path.name))
    if kept is not None and rows.keys() <= old.keys():
        return Sweep(words, path, kept, [key for row, key in old.items() if row in rows])
    if kept is None or (old.keys() <= rows.keys() and _without_values(kept) == _without_values(text)):
        return Sweep(words, path, text, [*rows.values()])
    raise UserError(
        f"{path} has {len(rows.keys() & old.keys()):,} of the {len(rows):,} rows that this command asks for; "
        f"add the others there and submit study={path} section=all, or choose another runs= folder"
    )


def unsubmitted_edits(file: StudyFile | None, runs: Path) -> list[str]:
    """A line if the folder's sweep.yaml was edited and this command takes the study as it was submitted before."""
    path = runs / f"{SWEEP}.yaml"
    if file is None or file.name != SWEEP or not path.exists():
        return []
    if read_text(path, str(path), "make it readable") == file.text:
        return []
    return [f"{path} was edited since it was submitted; to submit what it says now, give study={path}"]


def _rows(catalog: Catalog) -> dict[tuple[str, str], str]:
    """Table and configuration id of every row -> its key."""
    return {
        (table_key(section.name, table.name), row.config.id): row_key(section.name, table.name, row.label)
        for section, table in catalog.tables
        for row in table.rows
    }


def _without_values(text: str) -> str:
    return re.sub(r"\[.*\]", "[]", text)


def _study_text(
    swept: Mapping[str, Sequence[str]],
    overridden: Mapping[str, str],
    tables: Sequence[tuple[Section, Table]],
    runs: str,
) -> str:
    """The study file of the sweep in the folder that is called `runs`."""
    networks, values = _with_paths(swept)
    names = " and ".join(swept)
    sections: dict[str, Any] = {}
    for section, table in tables:
        shared, varied = _row_settings(table, {*swept, *overridden})
        if "frozen_batchnorm" in swept:  # its values make the same run where nothing is frozen
            given = {key: overridden[key] for key in ("model", "freeze") if key in overridden}
            shared |= {key: value for key, value in given.items() if value in choices(key)}
        entry = {"title": f"{table.title}, by {names}", "settings": shared, "sweep": {**varied, **values}}
        tables_below = sections.setdefault(section.name, {"title": section.title, "tables": {}})["tables"]
        tables_below[table.name] = {name: value for name, value in entry.items() if value}
    return (
        "# Written by submit.py for a sweep. It may be edited, and submitted again:\n"
        f"#   python jobs/submit.py study={runs}/{SWEEP}.yaml section=all runs={runs}\n"
    ) + dump_words(
        {"title": f"Sweep of {names}", **({"networks": networks} if networks else {}), "sections": sections}
    )


def _with_paths(swept: Mapping[str, Sequence[str]]) -> tuple[dict[str, str], dict[str, Sequence[str]]]:
    """The user's own networks by name, and the swept values with the full paths of weights files."""
    values: dict[str, Sequence[str]] = dict(swept)
    networks: dict[str, str] = {}
    for model in swept.get("model", ()):
        if match := CUSTOM_NETWORK.fullmatch(model):
            path = user_path(match["path"], "model")
            networks[match["function"].lower()] = f"{path}:{match['function']}"
    if "model" in swept:
        values["model"] = [model.rpartition(":")[2].lower() for model in swept["model"]]
    if "weights" in swept:
        names = ("none", "imagenet")
        values["weights"] = [n if n in names else str(joined(weights_paths(n))) for n in swept["weights"]]
        if longest := [name for name in values["weights"] if len(name) > LONGEST_LABEL]:
            raise UserError(
                f"weights={shown(longest[0])}: a row's name has at most {LONGEST_LABEL} characters, and in a "
                "sweep the path is one; move the file to a shorter path"
            )
    return networks, values


def _row_settings(table: Table, others: set[str]) -> tuple[dict[str, str], dict[str, Sequence[str]]]:
    """What the rows of a table set alike, and what differs (one setting in the report's tables); not `others`."""
    defaults = RunConfig().model_dump()
    rows = [{key: row.config.model_dump()[key] for key in defaults if key not in others} for row in table.rows]
    shared = {key: str(value) for key, value in rows[0].items() if all(row[key] == value for row in rows)}
    varied: dict[str, Sequence[str]] = {
        key: list(dict.fromkeys(_label(table, place, key) for place in range(len(rows))))
        for key in rows[0]
        if key not in shared
    }
    return {key: value for key, value in shared.items() if value != str(defaults[key])}, varied


def _label(table: Table, place: int, key: str) -> str:
    """A row's value as its label writes it, if it is one: 5e-2."""
    row = table.rows[place]
    value = getattr(row.config, key)
    same = replace(table, rows=(row,)).find_row(str(value))
    return row.label if same else str(value)
