"""The job before a study's runs: decode their images once, while no GPU waits. Pickled by submitit."""

from dataclasses import dataclass
from pathlib import Path

import submitit

from caltech_exp.interruption import Requests
from caltech_exp.pack_index import split_contents
from caltech_exp.splits import read_data_set
from jobs.ending import Ending
from jobs.log_limit import limit_logs
from jobs.missing_packs import PackItem


@dataclass(frozen=True)
class PackTask:
    """Packs to make of the images in `data`, into the folder `packs` that all tasks share."""

    data: str
    packs: str
    items: tuple[PackItem, ...]
    log_mb: float

    def __call__(self) -> None:
        """Make what is missing. Raises UserError for a damaged image or a folder that cannot be written."""
        limit_logs(self.log_mb)
        Ending(Requests())
        from caltech_exp.packs import shared_pack  # torchvision is imported where it is needed

        data = read_data_set(Path(self.data))
        for item in self.items:
            shared_pack(Path(self.packs), split_contents(data, *item))

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit has Slurm start after preemption or at the time limit: the same, for what is left."""
        return submitit.helpers.DelayedSubmission(self)
