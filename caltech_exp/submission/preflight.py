"""Everything that can be checked before anything is submitted."""

import errno
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from caltech_exp.bootstrap import look_again
from caltech_exp.catalog import THE_REPORT
from caltech_exp.catalog.model import table_key
from caltech_exp.cli import EXIT_USER_ERROR, UserError, did_you_mean, join_words
from caltech_exp.config import CUSTOM_NETWORK, NUM_CLASSES, PIN, SAME_RESULT_SETTINGS, RunConfig, split_run_id
from caltech_exp.data.pack_format import ALL_PACKS, PackKey, index_file, split_contents
from caltech_exp.data.splits import SPLIT_FILES, DataSet, Split, check_images, evenly, read_data_set
from caltech_exp.executors.executor import Executor, StudyJob, study_jobs
from caltech_exp.models.custom import CustomNetwork
from caltech_exp.models.trial import try_network
from caltech_exp.models.weights import fetch_imagenet, fit_note, imagenet_path, imagenet_problem
from caltech_exp.monitoring.run_states import run_states
from caltech_exp.profiles.paths import data_folder, packs_folder
from caltech_exp.profiles.profile import Profile, SlurmProfile
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest
from caltech_exp.study.plan import PlannedRun, catalog_seeds, check_frozen_batchnorm
from caltech_exp.study.results import WEIGHTS, read_result
from caltech_exp.study.results import Result as RunResult
from caltech_exp.study.results_cache import PastRun
from caltech_exp.study.run_status import DONE, RunStatus
from caltech_exp.study.study import StudyData, StudySettings, weights_files
from caltech_exp.submission.request import Request
from caltech_exp.submission.sweep import unsubmitted_edits

Result = TypeVar("Result")
MAX_TABLES = 3  # that a warning names; of more it names the sections


@dataclass(frozen=True)
class StudyState:
    """What the folder of a study and the queues say at one moment.

    past    the results on the present data set
    states  run id -> state, of every run of the plan
    jobs    the study's jobs in the queues; empty if nobody asked
    """

    folder: StudyFolder
    manifests: Sequence[Manifest]
    past: Mapping[str, PastRun]
    states: Mapping[str, RunStatus]
    jobs: Sequence[StudyJob] = ()


def read_state(
    request: Request,
    plan: Sequence[PlannedRun],
    executor: Executor,
    fingerprint: str | None,
    *,
    brief: bool = False,
) -> StudyState:
    """The state of the study now; `brief` leaves out why runs were lost, and the jobs.

    Queues are asked for the jobs only if something may depend on one: a report, queued runs, packs in the making.
    """
    folder = StudyFolder(request.runs)
    manifests = folder.manifests()
    past = folder.past_runs(fingerprint, keep=not request.options.dry_run)
    states = run_states(
        folder, plan, executor.slurm, manifests=manifests, fingerprint=fingerprint, past=past, explain=not brief
    )
    state = StudyState(folder, manifests, past, states)
    may_wait_for_packs = executor.can_chain_jobs and _has_unmade_packs(manifests)
    if brief or not (request.report or _has_queued(states) or may_wait_for_packs):
        return state
    return replace(state, jobs=study_jobs(folder, manifests, executor.slurm))


def _has_queued(states: Mapping[str, RunStatus]) -> bool:
    return any(state.state == "queued" for state in states.values())


def _has_unmade_packs(manifests: Iterable[Manifest]) -> bool:
    """Whether an earlier submission has a job for packs that do not exist, or that this user may not see."""
    packs = {pack for manifest in manifests if manifest.preparation for pack in manifest.preparation.packs}
    return not all(os.access(pack, os.F_OK) for pack in packs)


def open_runs(plan: Sequence[PlannedRun], states: Mapping[str, RunStatus], request: Request) -> list[PlannedRun]:
    """The runs to submit."""
    if request.trains_again:
        return [run for run in plan if states[run.id].state in DONE and not states[run.id].again]
    is_retry = request.is_retry

    def is_open(run: PlannedRun) -> bool:
        status = states[run.id]
        if status.in_task:  # that task may try the run again, should it be requeued
            return False
        # A retry takes over what is queued on another cluster, but not what failed in a network's own code.
        is_chosen = status.state in request.states or bool(request.options.retry and status.place)
        return is_chosen and not (is_retry and has_broken_network(run, status))

    return [run for run in plan if is_open(run)]


def has_broken_network(run: PlannedRun, status: RunStatus) -> bool:
    """Whether the run failed in the code of its custom network, whose copy in the study never changes."""
    network, failure = CUSTOM_NETWORK.fullmatch(run.config.model), status.failure
    if network is None or failure is None or failure.kind not in ("mistake", "error"):
        return False
    return f'File "{network["path"]}"' in failure.traceback or f"network {run.config.model}" in failure.error


@dataclass(frozen=True)
class Preflight:
    """What the checks found.

    study_data None only in a dry run that cannot read the data set
    packs      packs that the open runs use and that nobody has made yet, each with its index file
    max_tasks  the most tasks of an array, None for no limit
    room       the most tasks that may be queued now, None for no limit
    notes      advice and warnings
    problems   why the submission would be refused
    """

    study_data: StudyData | None
    state: StudyState
    packs: Mapping[PackKey, Path]
    max_tasks: int | None
    room: int | None
    notes: Sequence[str]
    problems: Sequence[str]

    @property
    def exit_status(self) -> int:
        return EXIT_USER_ERROR if self.problems else 0


def preflight(request: Request, plan: Sequence[PlannedRun], executor: Executor) -> Preflight:
    """Check the request, the checks that tell most in the least time first.

    A dry run collects all problems, writes nothing and downloads nothing. Otherwise the first problem is raised.
    """
    dry_run, folder = request.options.dry_run, StudyFolder(request.runs)
    problems = []

    def check(function: Callable[..., Result], *args: object, **kwargs: object) -> Result | None:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            if not dry_run:
                raise
            problems.append(str(error))
            return None

    if request.report:
        check(check_writable, request.report, "out")
    if dry_run:  # otherwise the folder's lock is the test
        check(check_writable, request.runs, "runs")
    check(executor.check, folder)
    study = check(folder.study)
    root = study.data.root if study else ""
    data = request.data or check(find_data, request.options.data, request.profile, root)
    study_data = check(StudyData.of, data) if data else None
    if study_data:
        check(folder.require_same, request.settings, study_data, request.file, request.tables)
    fingerprint = study_data.fingerprint if study_data else None
    state = check(read_state, request, plan, executor, fingerprint, brief=not dry_run)
    if state is None:
        past = folder.past_runs(fingerprint, keep=False)
        state = StudyState(folder, (), past, {run.id: RunStatus("pending") for run in plan})
    configs = [run.config for run in open_runs(plan, state.states, request)]
    check(check_frozen_batchnorm, configs)
    if data:
        check(check_data, configs, data, request.settings)
    proven = {run.config.model for run in plan if state.states[run.id].state in DONE}
    trial_notes = check(try_networks, request, configs, proven) or []
    max_tasks, room = check(executor.max_tasks) or (None, None)
    to_do = check(check_weights, configs, fetch=not dry_run) or []
    submitted = {config_id for manifest in state.manifests for config_id in manifest.asked}
    weights_notes = check(check_weights_files, configs, request.networks, submitted) or []
    image_notes = []
    if data and study is None:
        images = f"{len(data.train_val) + len(data.test):,} images of {data.root}"
        if dry_run:  # which takes a second, not a minute
            to_do.append(f"Still to do: submit reads all {images} and names a damaged one.")
        else:
            print(f"checking {images}", flush=True)
            image_notes = check_images(data)
    place = check(packs_folder, request.options.packs, request.profile)
    packs = check(missing_packs, configs, data, place) if data and place else None
    notes = [
        *filter(None, [executor.describe_environment() if dry_run else ""]),
        *trial_notes,
        *image_notes,
        *weights_notes,
        *unpinned([run.config for run in plan]),
        *merged_rows(request),
        *([] if request.options.study else unsubmitted_edits(request.file, request.runs)),
        *unknown_sections(request),
        *unasked_results(request, state.past),
        *slow_arithmetic(configs, executor),
        *without_effect(configs),
        *to_do,
    ]
    return Preflight(study_data, state, packs or {}, max_tasks, room, notes, problems)


def check_writable(folder: Path, key: str) -> None:
    """Raises UserError if this machine cannot write into `key=folder`, which need not exist yet."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"{key}={folder}: {place} is a file; give another folder")

    def ask() -> None:
        if not os.access(place, os.W_OK | os.X_OK):
            raise OSError(errno.ESTALE, "perhaps")  # access(2) keeps the reason to itself

    try:
        look_again(ask)
    except OSError:
        raise UserError(f"{key}={folder}: {place} cannot be written; give another folder") from None


def find_data(given: str, profile: Profile, recorded: str = "", split: Split | None = None) -> DataSet:
    return read_data_set(data_folder(given, profile, recorded), split)


def check_splits(data: DataSet) -> None:
    """Raises UserError if no image is left for validation, which takes every other line of train.txt."""
    if not data.val:
        raise UserError(f"{data.root / SPLIT_FILES[0]} leaves no image for validation; it must name at least two")


def check_data(configs: Iterable[RunConfig], data: DataSet, settings: StudySettings) -> None:
    """Raises UserError if there are too many classes, or fewer training images than a batch takes."""
    if len(data.classes) > NUM_CLASSES and not data.is_own:
        raise UserError(
            f"{data.root / 'train.txt'} names {len(data.classes)} classes and the networks have {NUM_CLASSES} "
            "outputs; name fewer"
        )
    check_splits(data)
    for config in configs:
        images = _training_images(data, config)
        if config.batch_size > images and config.last_batch == "drop":
            whose = "" if "batch_size" in settings.overrides else " of a row of the report"
            raise UserError(
                f"batch_size={config.batch_size}{whose} is larger than the training set of {images:,} images: "
                f"no step would run; set batch_size={images} or less, more images, or last_batch=keep"
            )


def _training_images(data: DataSet, config: RunConfig) -> int:
    """How many training images a run uses."""
    chosen = evenly(data.train, config.max_images)
    if config.max_per_class == 0:
        return len(chosen)
    classes = Counter(sample.label for sample in chosen)
    return sum(min(count, config.max_per_class) for count in classes.values())


def try_networks(request: Request, configs: Sequence[RunConfig], proven: Collection[str]) -> list[str]:
    """A line on every own network that could not be tried. Raises UserError for one that does not work."""
    is_same = not getattr(request.profile, "python", None)
    notes = (
        try_network(network, own, python_is_same=is_same)
        for network in request.networks
        if network.model not in proven and (own := [c for c in configs if c.model == network.model])
    )
    return list(filter(None, notes))


def check_weights(configs: Iterable[RunConfig], *, fetch: bool) -> list[str]:
    """Download the ImageNet weights that are missing, or without `fetch` return a line for each of them.

    Raises UserError if weights are damaged or cannot be read or downloaded.
    """
    downloads = []
    for model in sorted({config.model for config in configs if config.weights == "imagenet"}):
        path = imagenet_path(model)
        try:
            if fetch:
                fetch_imagenet(model)
            elif _is_missing(path):
                downloads.append(
                    f"Still to do: {path.name} is missing from {path.parent}. It will be downloaded on submit; "
                    "without a network, run python jobs/prepare.py."
                )
            elif problem := imagenet_problem(model):
                raise UserError(problem)
        except UserError as error:
            raise UserError(f"weights=imagenet: {error}") from None
    return downloads


def _is_missing(path: Path) -> bool:
    try:
        return not path.is_file()
    except OSError:  # no permission to look there
        return False


def check_weights_files(
    configs: Iterable[RunConfig], networks: Iterable[CustomNetwork], submitted: Collection[str] = ()
) -> list[str]:
    """A line on every weights file that is used only in part. Raises UserError if one does not fit its network.

    networks   the user's own networks, which the study may not keep yet
    submitted  ids of configurations that were submitted before, when these lines were printed
    """
    given = {(c.model, c.weights): c for c in configs if c.weights not in ("none", "imagenet")}
    contents = {network.model: network.content for network in networks}
    try:
        notes = {config: fit_note(config, contents.get(config.model)) for config in given.values()}
    except OSError as error:
        raise UserError(f"weights cannot be read now ({error.strerror or error}); submit again later") from None
    new = [config for config in notes if config.id not in submitted]
    lines = [*map(notes.get, new), *map(_other_normalization, new)]
    return list(dict.fromkeys(filter(None, lines)))


def _other_normalization(config: RunConfig) -> str:
    """A line if the run whose weights a run starts from had inputs that were normalised differently."""
    file = Path(config.weights.partition(PIN)[0])
    before = read_result(file.parent) if file.name == WEIGHTS else None
    if not isinstance(before, RunResult) or before.config.input_statistics == config.input_statistics:
        return ""
    kept = before.config.input_statistics
    return (
        f"run {before.run_id} was trained with normalization={kept}, but the runs that start from it have "
        f"{config.input_statistics}; normalization={kept} would keep its inputs"
    )


def unpinned(configs: Iterable[RunConfig]) -> list[str]:
    """A line on weights files that are not pinned: those of a study that began before files were pinned."""
    files = [file for file in weights_files(configs) if PIN not in file]
    if not files:
        return []
    return [
        f"weights {', '.join(files)}: this study began before weights were pinned, so its runs keep their "
        "ids; do not change the file, or start the study again with another runs= folder"
    ]


def slow_arithmetic(configs: Iterable[RunConfig], executor: Executor) -> list[str]:
    """Advice for runs in bf16 on a CPU that only emulates it."""
    if not executor.emulates_bf16():
        return []
    if not any(config.engine == "fast" and config.precision == "bf16" for config in configs):
        return []
    return ["this machine's CPU only emulates bf16; precision=fp32 is faster (such runs have other ids)"]


def without_effect(configs: Iterable[RunConfig]) -> list[str]:
    """Lines on settings that were changed and have no effect on some runs."""
    lines = []
    for config in configs:
        lines += [
            f"{name} has no effect with {cause}"
            for name, cause in config.unused.items()
            if name not in SAME_RESULT_SETTINGS and getattr(config, name) != RunConfig.model_fields[name].default
        ]
        if (warmup := config.warmup_epochs) >= config.epochs:
            lines.append(f"warmup_epochs={warmup} is not below epochs={config.epochs}: lr is never reached")
    return list(dict.fromkeys(lines))


def unknown_sections(request: Request) -> list[str]:
    """A line on every section that the profile names and the study does not have."""
    known = [section.name for section in (request.file.catalog if request.file else THE_REPORT).sections]
    named = request.profile.sections if isinstance(request.profile, SlurmProfile) else ()
    return [
        f"sections.{name} in the profile changes nothing: the study has no such section{did_you_mean(name, known)}"
        for name in named
        if name not in known
    ]


def unasked_results(request: Request, results: Iterable[str]) -> list[str]:
    """A line on results that the study file asked for before it was changed."""
    if request.file is None:
        return []
    asked = catalog_seeds(request.settings.fitting(request.file.catalog).tables, request.settings)
    count = sum(split_run_id(run)[0] not in asked for run in results)
    if not count:
        return []
    runs = "1 finished run is" if count == 1 else f"{count:,} finished runs are"
    return [f"{runs} no longer asked for by {request.file.name}.yaml; the report leaves them out"]


def merged_rows(request: Request) -> list[str]:
    """A warning if the overrides turn rows with different settings into the same run."""
    rows_by_run: dict[str, list[tuple[str, RunConfig]]] = {}
    for section, table in request.tables:
        for row in table.rows:
            run = request.settings.apply(row.config).id
            rows_by_run.setdefault(run, []).append((table_key(section.name, table.name), row.config))
    merged = [rows for rows in rows_by_run.values() if len({config.id for _, config in rows}) > 1]
    if not merged:
        return []
    causes = {
        name: value
        for name, value in request.settings.overrides.items()
        if any(len({getattr(config, name) for _, config in rows}) > 1 for rows in merged)
    }
    cause = str(StudySettings(overrides=causes or request.settings.overrides))
    cause = re.sub(rf"(?<==)\S*/(\S+){PIN}[\w+]+", r"\1", cause)  # of a network or weights the file's name
    places = list(dict.fromkeys(table for rows in merged for table, _ in rows))
    if len(places) > MAX_TABLES:
        places = list(dict.fromkeys(place.partition(".")[0] for place in places))
    count = sum(len(rows) for rows in merged)
    whole = sum(
        len(table.rows)
        for section, table in request.tables
        if {section.name, table_key(section.name, table.name)} & set(places)
    )
    runs = "one and the same run" if len(merged) == 1 else f"only {len(merged)} different runs"
    return [
        f"warning: with {cause}, {f'the {count}' if count == whole else f'{count} of the {whole}'} rows of "
        f"{join_words(places)} are {runs}{' per seed' if len(max(request.seeds.values(), key=len)) > 1 else ''}"
    ]


def missing_packs(configs: Iterable[RunConfig], data: DataSet, folder: Path) -> dict[PackKey, Path]:
    """The packs that these runs use and `folder` lacks, each with its index file.

    Whether a pack is sound is checked when a run opens it. Raises UserError if an image is missing.
    """
    keys = pack_keys(configs)
    files = {key: index_file(folder, split_contents(data, *key).name) for key in keys}
    return {key: file for key, file in files.items() if not file.exists()}


def pack_keys(configs: Iterable[RunConfig]) -> list[PackKey]:
    """The packs that these runs use."""
    variants = {(c.max_images, c.resize, c.augment != "none") for c in configs if c.engine == "fast"}
    keys = dict.fromkeys(
        (split, max_images, layout, resize)
        for max_images, resize, is_augmented in sorted(variants)
        for split, layout in ALL_PACKS
        if is_augmented or layout != "resized"  # which is for random crops
    )
    return list(keys)
