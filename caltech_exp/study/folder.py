"""The folder of a study.

RUNS/study.json                         settings, study file, data set, when it was started, by which code
RUNS/sweep.yaml                         study file of a sweep from the command line, for the user to edit
RUNS/networks/<user id>/                files of the users' custom networks
RUNS/<run id>/                          what a run leaves (results.py, lease.py), and its checkpoint
RUNS/<run id>/again/                    what it leaves when it is trained once more (results.again_folder)
RUNS/submissions/<id>/manifest.json     what was submitted (manifest.py)
RUNS/submissions/<id>/                  submitit's pickles, the logs, environment.json
RUNS/sources/<user id>/<hash>/          the source code that the tasks of submissions run
"""

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.catalog import THE_REPORT
from caltech_exp.cli import UserError
from caltech_exp.files import folder_if_it_succeeds, locked
from caltech_exp.records import Corrupt, read_record, write_record
from caltech_exp.study.manifest import MANIFEST, SUBMISSIONS, Manifest, config_ids, read_manifests
from caltech_exp.study.results_cache import PastRun, past_runs, run_names
from caltech_exp.study.study import STUDY, Study, StudyData, StudyFile, StudySettings, Tables

NOT_OF_A_FOLDER = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True)
class StudyFolder:
    path: Path

    def study(self) -> Study | None:
        """The record of the study, None if the folder holds none."""
        study = read_record(self.path / STUDY, Study)
        if isinstance(study, Corrupt):
            raise UserError(study.complaint("restore it, or use another runs= folder"))
        return study

    def require_study(self) -> Study:
        """The same; UserError if the folder holds none."""
        if study := self.study():
            return study
        raise UserError(f"runs={self.path} holds no study; submit one with jobs/submit.py, or name another folder")

    def write_study(self, study: Study) -> None:
        write_record(self.path, STUDY, study)

    def require_same(
        self, settings: StudySettings, data: StudyData, file: StudyFile | None = None, tables: Tables | None = None
    ) -> None:
        """Raises UserError if the folder holds a study with other settings, data, or another study file.

        The content of the same study file may have changed: rows and tables are added as a study goes on.

        tables  what the command asks for; by default everything
        """
        study = self.study()
        if study is None:
            return
        self.require_same_file(file)
        if tables is None:
            tables = study.settings.fitting(file.catalog if file else THE_REPORT).tables
        self.require_same_settings(settings, tables)
        self.require_same_data(data)

    def require_same_data(self, data: StudyData) -> None:
        """Raises UserError if the folder holds a study of other data."""
        study = self.study()
        if study and study.data.fingerprint != data.fingerprint:
            keys = "data= and split=" if study.data.split or data.split else "data="
            is_changed = (study.data.root, study.data.split) == (data.root, data.split)
            remedy = "restore what has changed in it" if is_changed else f"give the same {keys}"
            raise UserError(
                f"{self.path} holds a study of the {study.data}, but this command uses the {data}; "
                f"{remedy} or choose another runs= folder"
            )

    def require_same_file(self, file: StudyFile | None) -> None:
        """Raises UserError if the folder holds another study than the file's (None: the report's)."""
        study = self.study()
        recorded, requested = (
            f"the study {study_file.name}" if study_file else "the report's study"
            for study_file in (study.file if study else file, file)
        )
        if recorded != requested:
            raise UserError(
                f"{self.path} holds {recorded}, but this command submits {requested}; choose another runs= folder"
            )

    def require_same_settings(self, settings: StudySettings, tables: Tables) -> None:
        """Raises UserError if the tables' runs are others with these settings than with those of the study."""
        study = self.study()
        if study and (difference := self.joined_settings(study, settings).difference(settings, tables)):
            raise UserError(f"{self.path} was started {difference}; use another runs= folder")

    def joined_settings(self, study: Study, other: StudySettings) -> StudySettings:
        """The settings of the folder's study, with the other's ImageNet weights for further networks.

        Without them if runs of the study start from torchvision's: no row would be theirs any more.
        """
        if not other.imagenet_weights or (not study.settings.imagenet_weights and self._uses_torchvision(study)):
            return study.settings
        return study.settings.joined(other)

    def _uses_torchvision(self, study: Study) -> bool:
        """Whether a run of the study that starts from torchvision's ImageNet weights was submitted."""
        manifests = (manifest for manifest in read_manifests(self.path) if isinstance(manifest, Manifest))
        submitted = (run for manifest in manifests for task in manifest.tasks for run in task.runs)
        begun = config_ids([*self.run_names(), *submitted])
        rows = (row for _, table in study.catalog.tables for row in table.rows)
        configs = (study.settings.apply(row.config) for row in rows)
        return any(config.weights == "imagenet" and config.id in begun for config in configs)

    def manifests(self) -> list[Manifest]:
        """The manifests of all submissions, oldest first.

        Raises UserError if one cannot be read: submitting without it could train a run twice.
        """
        manifests = []
        for manifest in read_manifests(self.path):
            if isinstance(manifest, Corrupt):
                raise UserError(
                    manifest.complaint(
                        f"which jobs it submitted is unknown, so remove {manifest.path.parent} once none is queued"
                    )
                )
            manifests.append(manifest)
        return manifests

    def write_manifest(self, manifest: Manifest) -> None:
        write_record(self.submission(manifest.id), MANIFEST, manifest)

    def past_runs(self, fingerprint: str | None, *, keep: bool = True) -> dict[str, PastRun]:
        """Run id -> its result in short; see results_cache.past_runs."""
        return past_runs(self.path, fingerprint, keep=keep)

    def run(self, run_id: str) -> Path:
        return self.path / run_id

    def run_names(self) -> list[str]:
        """The ids of all runs that wrote anything, sorted."""
        return run_names(self.path)

    def run_folders(self) -> list[Path]:
        return [self.run(name) for name in self.run_names()]

    def submission(self, submission_id: str) -> Path:
        return self.path / SUBMISSIONS / submission_id

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the submission lock: two commands at once cannot submit the same run.

        If the block fails and leaves no study, the folders made for the lock are removed. Raises UserError if the
        folder cannot be written, in the block too (disk full, no permission), but OSError for ESTALE: another
        folder would not help.
        """
        file = self.path / SUBMISSIONS / ".lock"
        waiting = f"another command submits into {self.path} or cancels its jobs; waiting for it"
        try:
            with folder_if_it_succeeds(file.parent), locked(file, waiting):
                try:
                    yield
                except BaseException:
                    if not (self.path / STUDY).exists():
                        file.unlink(missing_ok=True)
                    raise
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise
            if error.errno in NOT_OF_A_FOLDER:
                raise UserError(
                    f"no more processes or open files are allowed here ({error.strerror}); end some of your "
                    "programs on this machine and run the command again"
                ) from None
            raise UserError(
                f"runs folder {self.path} cannot be written ({error.strerror}); use another runs= folder"
            ) from None
