"""Jobs of a study that Slurm holds because it could not start or keep them: they are released once.

Such a job waits for ever. Slurm holds it when its node could not start it, or when slurmctld or slurmd died at a
bad moment; a site or a person may have a job requeued and held, too. A job that is held again after its release
has a reason that stays, mostly a bad node. It is named with that node instead.
"""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import RootModel

from caltech_exp.cli import UserError
from caltech_exp.executors.executor import StudyJob
from caltech_exp.executors.slurm_queries import Slurm, grouped
from caltech_exp.files import write_atomically
from caltech_exp.records import read_record
from caltech_exp.study.manifest import SUBMISSIONS

REASON = re.compile(r"requeued[ _](held|in[ _]held|in[ _]special)|JobHoldMaxRequeue", re.IGNORECASE)
"""In Slurm's reasons for holding a job that was requeued (job_mgr.c): `launch failed requeued held`, `user env
retrieval failed requeued held`, `launch failure limit exceeded requeued held`, `job requeued in held state`, `job
requeued in special exit state`. A job that a person holds has JobHeldUser or JobHeldAdmin."""
RELEASED = "released.json"
"""In the folder of a submission: the jobs of it that were released once."""


class _Released(RootModel[frozenset[str]]):
    """Ids of jobs."""


def release_held(jobs: Sequence[StudyJob], runs: Path, slurm: Slurm) -> list[str]:
    """Release the user's jobs that Slurm holds and that were not released before; lines that say what was done."""
    held = [found for found in jobs if found.manifest.is_own and REASON.search(found.job.reason)]
    submissions = sorted({found.manifest.id for found in held})
    before = {submission: _released(runs / SUBMISSIONS / submission) for submission in submissions}
    again = [found for found in held if found.job.id in before[found.manifest.id]]
    first = [found for found in held if found not in again]
    lines = []
    if first:
        names = ", ".join(grouped([found.job.id for found in first]))
        try:
            slurm.release([found.job.id for found in first])
        except UserError as error:
            lines.append(f"Slurm holds {names} ({first[0].job.reason}), and they could not be released: {error}")
        else:
            lines.append(f"released {names}, which Slurm held: {first[0].job.reason}")
            for submission, known in before.items():
                ids = known | {found.job.id for found in first if found.manifest.id == submission}
                with contextlib.suppress(OSError):  # then they are released once more
                    write_atomically(runs / SUBMISSIONS / submission / RELEASED, _Released(ids).model_dump_json())
    return [*lines, *_held_again(again, slurm)]


def _held_again(again: Sequence[StudyJob], slurm: Slurm) -> list[str]:
    """A line for each node that such jobs were last on."""
    nodes = slurm.last_nodes([found.job.id for found in again]) if again else {}
    by_node: dict[str, list[StudyJob]] = {}
    for found in again:
        by_node.setdefault(nodes.get(found.job.id, ""), []).append(found)
    lines = []
    for node, of_node in sorted(by_node.items()):
        ids = grouped([found.job.id for found in of_node])
        where = f"on node {node}" if node else "on a node that `sinfo -R` may list"
        lines.append(
            f"not released again: {', '.join(ids)} failed {where} after being released ({of_node[0].job.reason}); "
            f"once the node works, run `scontrol release {','.join(ids)}`, or run jobs/cancel.py and submit with "
            f"exclude: {node or 'NODE'} in the profile"
        )
    return lines


def _released(folder: Path) -> frozenset[str]:
    found = read_record(folder / RELEASED, _Released)
    return found.root if isinstance(found, _Released) else frozenset()
