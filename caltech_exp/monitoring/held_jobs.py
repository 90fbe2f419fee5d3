"""Jobs of a study that Slurm holds because it could not start or keep them: each is released once.

Such a job waits for ever. Slurm holds it when its node could not start it, or when slurmctld or slurmd died at the
wrong moment; a site or a person may also have it requeued and held. A job that is held again after its release has
a lasting problem, mostly a bad node, so it is reported with that node instead.
"""

import contextlib
import re
from collections.abc import Sequence

from pydantic import RootModel

from caltech_exp.cli import UserError
from caltech_exp.executors.executor import StudyJob
from caltech_exp.executors.slurm_queries import Slurm, grouped
from caltech_exp.files import write_atomically
from caltech_exp.records import read_record
from caltech_exp.study.folder import StudyFolder

# Slurm's reasons for holding a job that was requeued (job_mgr.c): `launch failed requeued held`, `user env
# retrieval failed requeued held`, `launch failure limit exceeded requeued held`, `job requeued in held state`,
# `job requeued in special exit state`. A job that a person holds has JobHeldUser or JobHeldAdmin.
REASON = re.compile(r"requeued[ _](held|in[ _]held|in[ _]special)|JobHoldMaxRequeue", re.IGNORECASE)
# In the folder of a submission: the jobs of it that were released once.
RELEASED = "released.json"


class _Released(RootModel[frozenset[str]]):
    """Ids of jobs."""


def release_held(folder: StudyFolder, jobs: Sequence[StudyJob], slurm: Slurm) -> list[str]:
    """Release the user's jobs that Slurm holds and that were not released before; lines on what was done."""
    held = [study_job for study_job in jobs if study_job.manifest.is_own and REASON.search(study_job.job.reason)]
    released = {submission: _read_released(folder, submission) for submission in {job.manifest.id for job in held}}
    again = [study_job for study_job in held if study_job.job.id in released[study_job.manifest.id]]
    first = [study_job for study_job in held if study_job not in again]
    lines = []
    if first:
        names, reason = ", ".join(grouped([study_job.job.id for study_job in first])), first[0].job.reason
        try:
            slurm.release([study_job.job.id for study_job in first])
        except UserError as error:
            lines.append(f"Slurm holds {names} ({reason}), and they could not be released: {error}")
        else:
            lines.append(f"released {names}, which Slurm held: {reason}")
            for submission, before in released.items():
                ids = before | {study_job.job.id for study_job in first if study_job.manifest.id == submission}
                with contextlib.suppress(OSError):  # then they are released once more
                    write_atomically(folder.submission(submission) / RELEASED, _Released(ids).model_dump_json())
    return [*lines, *_describe_held_again(again, slurm)]


def _describe_held_again(again: Sequence[StudyJob], slurm: Slurm) -> list[str]:
    """A line for each node that such jobs were last on."""
    nodes = slurm.last_nodes([study_job.job.id for study_job in again]) if again else {}
    by_node: dict[str, list[StudyJob]] = {}
    for study_job in again:
        by_node.setdefault(nodes.get(study_job.job.id, ""), []).append(study_job)
    lines = []
    for node, study_jobs in sorted(by_node.items()):
        ids = grouped([study_job.job.id for study_job in study_jobs])
        where = f"on node {node}" if node else "on a node that `sinfo -R` may list"
        lines.append(
            f"not released again: {', '.join(ids)} failed {where} after being released "
            f"({study_jobs[0].job.reason}); once the node works, run `scontrol release {','.join(ids)}`, or run "
            f"jobs/cancel.py and submit with exclude: {node or 'NODE'} in the profile"
        )
    return lines


def _read_released(folder: StudyFolder, submission: str) -> frozenset[str]:
    released = read_record(folder.submission(submission) / RELEASED, _Released)
    return released.root if isinstance(released, _Released) else frozenset()
