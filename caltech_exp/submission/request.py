"""The words of `jobs/submit.py`: options of the command and overrides of the runs, checked."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from caltech_exp.catalog import THE_REPORT, Catalog, Section, Table
from caltech_exp.catalog.loader import custom_networks, parse_seeds
from caltech_exp.catalog.model import REPORT
from caltech_exp.cli import VALUE, UserError, flags, parse, shown, split_arguments, usage
from caltech_exp.config import NETWORK_NAMES, PIN, RunConfig
from caltech_exp.data.download import IMAGENET
from caltech_exp.files import user_path
from caltech_exp.models.custom import CustomNetwork, find_network, recorded_network
from caltech_exp.models.weights import pin
from caltech_exp.profiles.profile import NO_WORDS, ProfileWords, SlurmProfile, take_profile_words
from caltech_exp.profiles.sbatch_options import SETTINGS
from caltech_exp.strict_yaml import MOST_CHARACTERS
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.study import StudyFile, StudySettings

OF_SBATCH = ("hold", "licenses", "mail-type", "mail-user", "nice", "reservation")
"""Options of sbatch that a profile has no setting of its own for, and people type."""
BY_ANOTHER_NAME = {"cpus": "cpus-per-task", "gpus": "gpus-per-node", "mem": "mem", "memory": "mem", "time": "time"}
"""What people call an option of sbatch -> the option."""
NO_HINT = ("cpu_jobs", "executor", "images_per_second", "sbatch")
"""Settings of a profile that are not changed as a whole."""


def hints(catalog: Catalog) -> dict[str, str]:
    """Word -> what to write: sections and tables by name, settings of a profile, options of sbatch."""
    of_sbatch = {option: setting.replace(": ", "=", 1) for option, setting in SETTINGS.items()}
    return {
        **{name.replace("-", "_"): f"profile.sbatch.{name}={VALUE}" for name in OF_SBATCH},
        **{name: f"profile.{of_sbatch[option]}" for name, option in BY_ANOTHER_NAME.items()},
        **{name: f"profile.{name}={VALUE}" for name in SlurmProfile.model_fields if name not in NO_HINT},
        **{
            f"{section.name}.{table.name}": f"table={section.name}.{table.name}"
            for section, table in catalog.tables
        },
        **{name: f"section={name}" for name in ("all", *(section.name for section in catalog.sections))},
    }


def _section_names(catalog: Catalog) -> str:
    return "|".join(["all", *(section.name for section in catalog.sections)])


class SubmitOptions(BaseModel):
    """What `jobs/submit.py` takes besides run settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    section: str = Field("", description=f"{_section_names(THE_REPORT)}, or several with commas")
    table: str = Field(
        "",
        description="section.table, for example scratch.lr, or a row of it, scratch.lr=5e-2; several with commas",
    )
    study: str = Field(
        "", description="study file of your own (docs/studies.md); left out: that of runs=, or the report"
    )
    seeds: str = Field(
        "", description="how many seeds, or a list as in 0,1,2; left out: the study's, 3 of the report"
    )
    profile: str = Field(
        "",
        description="name in slurm/profiles or path; left out: Slurm, or this machine. profile.NAME=VALUE changes "
        "a setting of it",
    )
    runs: str = Field("runs", description="folder of the study")
    data: str = Field("", description="the Caltech-101 folder; left out: $CALTECH101_ROOT or the profile's")
    packs: str = Field("", description="folder of decoded images; left out: the profile's, or the user's cache")
    imagenet_weights: str = Field(
        "",
        description="folder with alexnet.pth and resnet18.pth, as the rows need them, in place of torchvision's",
    )
    runs_per_task: int = Field(1, ge=1, description="runs that one task trains one after the other")
    retry: Literal["failed"] | None = Field(
        None, description="failed: only runs that failed or were lost, not those that were never submitted"
    )
    avoid_nodes: bool = Field(True, description="leave out nodes that are to blame for failed or lost runs")
    aggregate: bool = Field(False, description="write the report too, by a job after all runs of the study")
    out: str = Field("", description="folder of that report; left out: report")
    wait: bool = Field(False, description="show a progress bar until the last run ends, and the report is there")
    dry_run: bool = Field(False, description="show the plan and stop")


@dataclass(frozen=True)
class Request:
    """A checked command line: what to run, with which overrides, and the remaining options.

    file      the study file that it is of, None for the report
    networks  the user's own that it names, to be kept with the study
    profile   what it changes of the profile
    """

    tables: tuple[tuple[Section, Table], ...]
    seeds: tuple[int, ...]
    settings: StudySettings
    options: SubmitOptions
    file: StudyFile | None = None
    networks: tuple[CustomNetwork, ...] = ()
    profile: ProfileWords = NO_WORDS

    @property
    def report(self) -> Path | None:
        """The folder of the report, None if none is asked for. Raises UserError for one that cannot be."""
        return user_path(self.options.out or "report", "out") if self.options.aggregate else None


NEXT_TABLE = re.compile(r",(?=\s*[a-z0-9_]+\.[a-z0-9_]+\s*(?:[=,]|$))")
"""The comma before a table's name, `section.table`."""

USAGE = usage(
    "python jobs/submit.py section=NAME [option=value ...] [setting=value ...]\n\n"
    "Submits the runs behind the report's tables; what is finished or queued is left alone.\n"
    "Options, then settings of the runs, which override every row:",
    SubmitOptions,
    RunConfig,
)


def parse_request(argv: Sequence[str]) -> Request:
    """Check the words of the command line. Raises UserError for the first that is wrong."""
    profile, words = take_profile_words(argv)
    known = [*SubmitOptions.model_fields, *RunConfig.model_fields]
    values = split_arguments(words, known, flags(SubmitOptions), hints(THE_REPORT))
    option_words = {key: value for key, value in values.items() if key in SubmitOptions.model_fields}
    overrides = {key: value for key, value in values.items() if key in RunConfig.model_fields}
    options = parse(SubmitOptions, option_words)
    runs = user_path(options.runs, "runs")
    file, networks = _study_file(options, runs)
    catalog = file.catalog if file else THE_REPORT
    if not options.section and not options.table:
        raise UserError(f"nothing to submit: give section={_section_names(catalog)} or table=section.table")
    if options.out and not options.aggregate:
        raise UserError(f"out={options.out} is the folder of a report; add aggregate=true, or leave it out")
    tables = catalog.select(names("section", options.section), table_names(options.table))
    seeds = parse_seeds(options.seeds) if options.seeds else catalog.seeds
    checked = parse(RunConfig, overrides).model_dump(include=set(overrides))
    if checked.get("weights") not in (None, "none", "imagenet"):
        checked["weights"] = pin(checked["weights"])
    if checked.get("model") not in (None, *NETWORK_NAMES):
        networks.append(find_network(checked["model"], Path.cwd(), runs))
        checked["model"] = networks[-1].model
    settings = StudySettings(overrides=checked)
    settings.require_fit(tables)
    if options.imagenet_weights:
        configs = [settings.apply(row.config) for _, table in tables for row in table.rows]
        used = {config.model for config in configs if config.weights == "imagenet"}
        replaced = _imagenet_weights(options.imagenet_weights, used)
        settings = settings.model_copy(update={"imagenet_weights": replaced})
    try:
        settings.require_fit(catalog.tables)
    except UserError as error:
        raise UserError(f"{error}; settings hold for the whole study, whatever is submitted of it") from None
    return Request(tuple(tables), seeds, settings, options, file, tuple(networks), profile)


def _study_file(options: SubmitOptions, runs: Path) -> tuple[StudyFile | None, list[CustomNetwork]]:
    """The study file of study=, or the one that the folder was started with, and the networks that it brings."""
    if not options.study:
        study = StudyFolder(runs).study()
        if study is None or study.file is None:
            return None, []
        kept = {name: recorded_network(model, runs) for name, model in study.file.networks.items()}
        named = {name: network.model for name, network in kept.items()}
        return study.file.model_copy(update={"networks": named}), list(kept.values())
    path = user_path(options.study, "study")
    try:
        with path.open(encoding="utf-8") as opened:
            text = opened.read(MOST_CHARACTERS + 1)
    except FileNotFoundError:
        raise UserError(f"study={shown(options.study)}: there is no such file; name a YAML file") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"study={shown(options.study)} cannot be read ({reason}); give a YAML file") from None
    if path.stem == REPORT:
        raise UserError(
            f"study={shown(options.study)}: {REPORT} is the name of the report itself; rename the file"
        )
    own = {name: find_network(of, path.parent, runs) for name, of in custom_networks(text, path.name).items()}
    networks = {name: network.model for name, network in own.items()}
    file = StudyFile(name=path.stem, text=text, networks=networks)
    return file.model_copy(update={"weights": _study_weights(file, path, runs)}), list(own.values())


def _study_weights(file: StudyFile, path: Path, runs: Path) -> dict[str, str]:
    """The weights files that the rows of a study file name, pinned to their content of now.

    One that is gone stays pinned as it was last submitted. A study of an earlier version does not pin those it
    began with: they stay as they are, and so do its runs.
    """
    found = file.weights_files
    study = StudyFolder(runs).study() if found else None
    before = study.file if study and study.file and study.file.name == file.name else None
    unpinned = {name for name in before.weights_files if PIN not in name} if before else set()
    pinned = {}
    for name in found:
        if name in unpinned:
            continue
        try:
            pinned[name] = pin(name, path.parent)
        except UserError as error:
            gone = not user_path(name.partition(PIN)[0], "weights", path.parent).exists()
            if not (gone and before and name in before.weights):
                raise UserError(f"{path.name}: {error}") from None
            pinned[name] = before.weights[name]
    return pinned


def names(key: str, text: str) -> list[str]:
    """The names of `key=a,b`. Raises UserError for an empty one between commas."""
    names = [name.strip() for name in text.split(",")] if text else []
    if not all(names):
        raise UserError(f"{key}={text}: there is an empty name between the commas; leave it out")
    return names


def table_names(text: str) -> list[str]:
    """The names of `table=a.b,c.d=row`; a row's label may hold commas. Raises UserError as `names` does."""
    return [one.strip() for one in NEXT_TABLE.split(text)] if "=" in text else names("table", text)


def _imagenet_weights(folder: str, used: Collection[str]) -> dict[str, str]:
    """The folder's weights by network; it need not have those of networks that are not used."""
    root = user_path(folder, "imagenet_weights")
    if not root.is_dir():
        raise UserError(f"imagenet_weights={folder}: there is no such folder; give one with state dicts")
    missing = [f"{model}.pth" for model in IMAGENET if model in used and not (root / f"{model}.pth").exists()]
    if missing:
        raise UserError(f"imagenet_weights={folder}: {' and '.join(missing)} not there; put state dicts there")
    pinned = {}
    for model in IMAGENET:
        try:
            pinned[model] = pin(f"{model}.pth", root)
        except UserError:
            if model in used:
                raise
    return pinned
