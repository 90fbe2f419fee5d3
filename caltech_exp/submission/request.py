"""The command line of `jobs/submit.py`: its options and the run settings it overrides, read and checked."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from caltech_exp.bootstrap import UntrustedError, look_again, read_own
from caltech_exp.catalog import THE_REPORT, Catalog, Section, Table, table_key
from caltech_exp.catalog.loader import parse_seeds
from caltech_exp.catalog.model import REPORT
from caltech_exp.cli import VALUE, Hint, Options, UserError, flags, parse, plain_words, shown, split_arguments
from caltech_exp.config import ABSENT, NETWORK_NAMES, PIN, RUN_SETTINGS, RunConfig
from caltech_exp.data.splits import SPLIT_FILES, DataSet, SplitSeed, TestShare, is_own, make_split, read_data_set
from caltech_exp.executors.slurm_queries import default_profile
from caltech_exp.files import folder_path, user_path
from caltech_exp.models.custom import CustomNetwork, find_network, recorded_network
from caltech_exp.models.weights import pin
from caltech_exp.profiles.paths import data_folder
from caltech_exp.profiles.profile import (
    PREFIX,
    LocalProfile,
    Profile,
    ProfileWords,
    SlurmProfile,
    load_profile,
    profile_files,
    take_profile_words,
)
from caltech_exp.profiles.resources import CpuJobs
from caltech_exp.profiles.sbatch_options import OTHER_NAMES, SETTINGS, in_unit, setting_for
from caltech_exp.strict_yaml import read_text
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, read_manifests, read_published_seeds
from caltech_exp.study.plan import RunFilter, catalog_seeds, merge_seeds, requested_seeds, split_names
from caltech_exp.study.results import Keep
from caltech_exp.study.study import StudyData, StudyFile, StudySettings
from caltech_exp.submission.pinned_files import files_of, pin_imagenet_weights, pin_study_file
from caltech_exp.submission.sweep import SWEEP, Sweep, make_sweep, split_sweep

PROFILE = "profile="
SUBMITTED_STATES = ("pending", "failed", "lost", "cancelled", "damaged")
RETRIED = ("failed", "lost")
MOST_AUTO = 4
"""Runs of a task with runs_at_once=auto, on each of its GPUs, before there is an estimate."""
SETTINGS_WITHOUT_HINT = ("cpu_jobs", "executor", "images_per_second", "sbatch", "sections")
SHORT_OPTIONS = {
    "A": "account", "C": "constraint", "c": "cpus-per-task", "G": "gpus", "p": "partition", "q": "qos",
    "t": "time", "x": "exclude",
}  # fmt: skip


def hints(catalog: Catalog) -> dict[str, Hint]:
    """Word that is not a key -> what to write instead (cli.split_arguments)."""
    settings = [name for name in SlurmProfile.model_fields if name not in SETTINGS_WITHOUT_HINT]
    options = {**{option: option for option in (*SETTINGS, *OTHER_NAMES)}, **SHORT_OPTIONS}
    keys = [table_key(section.name, table.name) for section, table in catalog.tables]
    return {
        **{name: f"profile.{name}={VALUE}" for name in settings},
        **{f"cpu_jobs.{name}": f"profile.cpu_jobs.{name}={VALUE}" for name in CpuJobs.model_fields},
        **{word.replace("-", "_"): _setting_hint(option) for word, option in options.items()},
        **{key: _table_hint(key) for key in keys},
        **{name: f"section={name}" for name in ("all", *(section.name for section in catalog.sections))},
        **dict.fromkeys(("seed", "random_seed", "random_state", "manual_seed"), _seeds_hint),
        "augmentation": lambda value: f"augment={value}" if value else "section=augmentation",
    }


def _table_hint(key: str) -> Hint:
    return lambda row: f"table={key}={row}" if row else f"table={key}"


def _seeds_hint(value: str) -> str:
    return f"seeds={value}" if "," in value else f"seeds={value or '...'}, (with the comma: a list of one seed)"


def _setting_hint(option: str) -> Hint:
    """`time`, `2:00:00` -> `profile.time_minutes=120`"""

    def hint(value: str) -> str:
        if option in ("gpus", "gpus-per-node") and value == "0":
            return "profile.gpus_per_node=null profile.device=cpu"
        return "profile." + "=".join(setting_for(option, value))

    return hint


def _section_names(catalog: Catalog) -> str:
    return "|".join(["all", *(section.name for section in catalog.sections)])


def _read_count(value: object) -> object:
    if value in (None, "auto") or re.fullmatch("0*[1-9][0-9]{0,5}", str(value)):
        return value
    raise ValueError("write a number, 1 or more, or auto")


CountOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_read_count)]


class SubmitOptions(Options):
    section: str = Field(
        "", examples=["transfer"], description=f"{_section_names(THE_REPORT)}, or several with commas"
    )
    table: str = Field(
        "",
        examples=["scratch.lr=5e-2"],
        description="section.table, for example scratch.lr, or a row of it, scratch.lr=5e-2; several with commas; "
        "the report's numbers do too, 1.1=5e-2",
    )
    study: str = Field(
        "",
        examples=["mine.yaml"],
        description="study file of your own (docs/studies.md); default: the study in runs=, otherwise the report",
    )
    seeds: str = Field(
        "",
        examples=["0,1,2"],
        description="how many seeds, or a list as in 0,1,2; default: the study's (3 for the report), and those "
        "that the rows were submitted with before",
    )
    profile: str = Field(
        "",
        examples=["slurm"],
        description="name in slurm/profiles, or a path; default: the one last named for the study, else slurm "
        "where sbatch exists, else local. profile.NAME=VALUE changes one of its settings for this command",
    )
    runs: str = Field("runs", description="folder of the study")
    data: str = Field(
        "",
        description="the Caltech-101 folder, or one of your own with a folder for each class (docs/studies.md); "
        "default: the study's, $CALTECH101_ROOT, or the profile's",
    )
    split: TestShare = None
    split_seed: SplitSeed = 0
    packs: str = Field(
        "", description="folder of decoded images; default: the profile's, otherwise the user's cache"
    )
    imagenet_weights: str = Field(
        "",
        description="folder with alexnet.pth and resnet18.pth to use instead of torchvision's; only those that "
        "the rows need",
    )
    runs_per_task: CountOrAuto | None = Field(
        None,
        description="how many runs a task trains; default: those that train side by side; auto: by the forecast",
    )
    runs_at_once: CountOrAuto = Field(
        1,
        description="how many runs a task trains side by side on each of its GPUs, or on its cores; auto: begins "
        "with one, and adds runs while memory and cores allow",
    )
    max_failures: int = Field(
        0, ge=0, description="after so many failed runs cancel queued tasks and start no further run; 0: never"
    )
    time: str = Field(
        "",
        description="time limit of a task: minutes, 2:00:00, or auto (by section from the forecast, with margin); "
        "default: the profile's",
    )
    keep_weights: Keep = Field(
        "none",
        description="write the trained network beside each result: none, last (epoch) or best (by validation "
        "accuracy)",
    )
    state: str = Field(
        "",
        description=f"only runs in these states, with commas; default: {','.join(SUBMITTED_STATES)}, which is all",
    )
    retry: Literal["failed", "finished"] | None = Field(
        None,
        description=f"failed: the same as state={','.join(RETRIED)}; "
        "finished: train the finished runs of table= and seeds= once more, to see that they are reproduced",
    )
    avoid_nodes: bool = Field(True, description="avoid nodes on which runs failed")
    aggregate: bool = Field(False, description="also submit a job that writes the report after all runs")
    out: str = Field("", description="folder of that report; default: report")
    wait: bool = Field(False, description="show progress until the last run has ended and the report is written")
    dry_run: bool = Field(False, description="show the plan and what prevents it (exit status 2); submit nothing")


@dataclass(frozen=True)
class Request:
    """A checked command line.

    seeds         of every row of the tables, by the id of its configuration
    settings      what the command overrides in every row
    runs          the folder of the study
    profile_name  the profile as the command line gives it, with the settings that it changes
    file          the user's study file; None for the report
    networks      the user's own networks that the runs use, to be copied into the study
    sweep         the command's own study, if it gives a setting several values; `file` is its study file
    data          the user's own data set, which settles the ids of the runs; None for Caltech-101
    words         of the command, in our form; the next command finds the profile in them
    """

    tables: tuple[tuple[Section, Table], ...]
    seeds: Mapping[str, tuple[int, ...]]
    settings: StudySettings
    options: SubmitOptions
    runs: Path
    profile: Profile
    profile_name: str
    file: StudyFile | None = None
    networks: tuple[CustomNetwork, ...] = ()
    sweep: Sweep | None = None
    data: DataSet | None = None
    words: tuple[str, ...] = ()

    @property
    def trains_again(self) -> bool:
        """Whether the runs with a result are trained once more, and no others."""
        return self.options.retry == "finished"

    @property
    def states(self) -> Sequence[str]:
        """The states of runs that are submitted."""
        return RETRIED if self.options.retry else split_names("state", self.options.state) or SUBMITTED_STATES

    @property
    def is_retry(self) -> bool:
        """Whether the command names the states of what it submits."""
        return bool(self.options.retry or self.options.state)

    @property
    def report(self) -> Path | None:
        """The folder of the report, None if none is asked for."""
        return folder_path(self.options.out or "report", "out") if self.options.aggregate else None


def parse_request(argv: Sequence[str]) -> Request:
    """Read and check the command line; the study file and the weights that it names are read too."""
    known = [*SubmitOptions.model_fields, *RUN_SETTINGS]
    argv = plain_words(argv, known, flags(SubmitOptions))
    profile_words, words = take_profile_words(argv)
    values = split_arguments(words, known, flags(SubmitOptions), hints(THE_REPORT), "submit")
    options = parse(SubmitOptions, {key: values[key] for key in SubmitOptions.model_fields if key in values})
    if options.time not in ("", "auto"):
        if not (minutes := in_unit("time_minutes", options.time)):
            raise UserError(f"time={shown(options.time)}: write minutes, 2:00:00 for two hours, or auto")
        profile_words, _ = take_profile_words([*argv, f"{PREFIX}time_minutes={minutes}"])
    runs = folder_path(options.runs, "runs")
    folder = StudyFolder(runs)
    given, swept = split_sweep({key: values[key] for key in RUN_SETTINGS if key in values})
    if options.retry == "finished" and not (options.table and options.seeds):
        raise UserError("retry=finished trains finished runs once more; say which with table= and seeds=")
    if options.retry and options.state:
        raise UserError(f"retry={options.retry} says which states; leave state= out")
    overrides, network = _overrides(given, runs)
    sweep: Sweep | None = None
    file: StudyFile | None
    if swept:
        if options.study:
            raise UserError(f"{next(iter(swept))}= has several values; write a sweep into {options.study} instead")
        folder.require_same_file(StudyFile(name=SWEEP, text=""))
        sweep = make_sweep(swept, given, _select(THE_REPORT, options), folder)
        asked = sweep.select(StudyFile(name=SWEEP, text=sweep.text).catalog)
        file, networks = pin_study_file(sweep.path, sweep.text, files_of(asked, overrides), folder)
    else:
        file, networks = _study_file(options, folder, overrides)
    catalog = file.catalog if file else THE_REPORT
    tables = sweep.select(catalog) if sweep else _select(catalog, options)
    folder.require_same_file(file)
    # The checks before submission name the manifests that cannot be read.
    manifests = [manifest for manifest in read_manifests(runs) if isinstance(manifest, Manifest)]
    name, profile = _profile(options.profile, profile_words, manifests, runs)
    if options.time == "auto" and isinstance(profile, LocalProfile):
        raise UserError("time=auto: tasks on this machine have no time limit; leave it out")
    data = _own_data(options, profile, folder)
    overrides |= data.settings if data else {}
    settings = _settings(overrides, options.imagenet_weights, folder, tables)
    model = str(settings.overrides.get("model", NETWORK_NAMES[0]))
    if not network and model not in NETWORK_NAMES:
        network = recorded_network(model, runs)
    if look_again(runs.exists) and not look_again(runs.is_dir):
        raise UserError(f"runs={runs} is not a folder; choose another")
    return Request(
        tables=tuple(tables),
        seeds=_seeds(
            options.seeds,
            catalog_seeds(tables, settings),
            requested_seeds(settings.fitting(catalog), settings, manifests, read_published_seeds(runs)),
        ),
        settings=settings,
        options=options,
        runs=runs,
        profile=profile,
        profile_name=f"profile {name}{profile_words}",
        file=file,
        networks=(*networks, *([network] if network else [])),
        sweep=sweep,
        data=data,
        words=tuple(argv),
    )


def _select(catalog: Catalog, options: SubmitOptions) -> list[tuple[Section, Table]]:
    """The tables and rows that the command asks for."""
    if not options.section and not options.table:
        raise UserError(f"nothing to submit: give section={_section_names(catalog)} or table=section.table")
    if options.out and not options.aggregate:
        raise UserError(
            f"out={options.out} is the report's folder, but no report is asked for; add aggregate=true"
        )
    chosen = RunFilter.parse(options.section, options.table, options.state, SUBMITTED_STATES)
    return catalog.select(chosen.sections, chosen.tables)


def _own_data(options: SubmitOptions, profile: Profile, folder: StudyFolder) -> DataSet | None:
    """The user's own data set; None for Caltech-101, which the checks before submission read."""
    split = make_split(options.split, options.split_seed)
    study = folder.study()
    try:
        root = data_folder(options.data, profile, study.data.root if study else "")
    except UserError:
        return None
    if study and split is None and not os.access(root / SPLIT_FILES[0], os.F_OK):
        split = study.data.split
    if not is_own(root, split):
        return None
    data = read_data_set(root, split)
    folder.require_same_data(StudyData.of(data))
    return data


def _seeds(
    text: str, named: Mapping[str, tuple[int, ...]], requested: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Configuration id -> the seeds of `seeds=text`; by default those that rows name, and all asked for before."""
    if text:
        return dict.fromkeys(named, parse_seeds(text))
    return merge_seeds([named, {config_id: requested[config_id] for config_id in named}])


def _settings(
    overrides: dict[str, int | float | str],
    imagenet_weights: str,
    folder: StudyFolder,
    tables: Sequence[tuple[Section, Table]],
) -> StudySettings:
    """The command's settings and those that its study was started with, which need not be typed again.

    Raises UserError if they contradict each other, or do not fit a row of the tables.
    """
    study = folder.study()
    before = study.settings if study else StudySettings()
    settings = before.extended(StudySettings(overrides=overrides))
    folder.require_same_settings(settings, tables)
    settings.require_fit(tables)
    used: dict[str, list[str]] = {}
    for section, table in tables:
        for config in (settings.apply(row.config) for row in table.rows):
            if config.weights == "imagenet":
                used.setdefault(config.model, []).append(section.name)
    if imagenet_weights:
        sections = [section.name for section, _ in tables]
        pinned = pin_imagenet_weights(imagenet_weights, used, sections, before.imagenet_weights)
        settings = settings.extended(StudySettings(imagenet_weights=pinned))
        folder.require_same_settings(settings, tables)
    elif used and before.imagenet_weights:
        files = " and ".join(f"{model}.pth" for model in sorted(used))
        raise UserError(
            f"{folder.path} was started with imagenet_weights=, but without {files}; "
            "give imagenet_weights= with a folder that has what the rows need"
        )
    if study is None:
        return settings
    # What the study does not set makes no difference to these rows.
    kept = {name: settings.overrides[name] for name in before.overrides}
    return settings.model_copy(update={"overrides": kept})


def _profile(given: str, words: ProfileWords, manifests: Sequence[Manifest], runs: Path) -> tuple[str, Profile]:
    """The name and the profile of `profile=given`; by default the one that this user last named for the study.

    The manifest that names it may be another user's forgery, so a path counts only if the file is this user's own.
    """
    commands = (manifest.command for manifest in reversed(manifests) if manifest.is_own)
    named = (word.removeprefix(PROFILE) for command in commands for word in command if word.startswith(PROFILE))
    name = given or next(named, "")
    if name and not given and name not in profile_files():
        before, advice = f"{runs} was last submitted with profile={shown(name)}", "give profile= again"
        try:
            read_own(user_path(name, "profile"))
        except OSError as error:
            raise UserError(f"{before}, which cannot be read here ({error.strerror}); {advice}") from None
        except UntrustedError as error:
            raise UserError(f"{before}, and {error.problem}; {advice}") from None
    name = name or default_profile()
    return name, load_profile(name, words)


def _overrides(values: Mapping[str, str], runs: Path) -> tuple[dict[str, int | float | str], CustomNetwork | None]:
    """The overrides, with a weights file and a network pinned to their content; and the network that they name."""
    overrides = parse(RunConfig, values).model_dump(include=set(values))
    if overrides.get("weights", "none") not in ("none", "imagenet"):
        overrides["weights"] = pin(overrides["weights"], runs=runs)
    if overrides.get("model", NETWORK_NAMES[0]) in NETWORK_NAMES:
        return overrides, None
    network = find_network(overrides["model"], Path.cwd(), runs)
    return {**overrides, "model": network.model}, network


def _study_file(
    options: SubmitOptions, folder: StudyFolder, overrides: Collection[str]
) -> tuple[StudyFile | None, list[CustomNetwork]]:
    """The study file `study=NAME`, by default the one that the folder keeps, and the networks that the rows use.

    overrides  what the command sets in every row, so that the file's own does not count
    """
    study = folder.study()
    before = study.file if study else None
    replaced = {*overrides, *(study.settings.overrides if study else ())}
    if not options.study:
        if before is None:
            return None, []
        asked = files_of(_select(before.catalog, options), replaced)
        if absent := next((name for name in asked if f"{PIN}{ABSENT}" in name), ""):
            raise UserError(
                f"{absent.partition(PIN)[0]} was missing when {before.name}.yaml was submitted; give study= again"
            )
        kept = {
            name: recorded_network(model, folder.path) for name, model in before.networks.items() if model in asked
        }
        models = {**before.networks, **{name: network.model for name, network in kept.items()}}
        return before.model_copy(update={"networks": models}), list(kept.values())
    path = user_path(options.study, "study")
    text = read_text(path, f"study={shown(options.study)}", "give a YAML file")
    if path.stem == REPORT:
        raise UserError(
            f"study={shown(options.study)}: {REPORT} is the name of the report itself; rename the file"
        )
    asked = files_of(_select(StudyFile(name=path.stem, text=text).catalog, options), replaced)
    return pin_study_file(path, text, asked, folder)
