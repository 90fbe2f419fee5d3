"""The job before a study's runs: decode their images once, while no GPU waits. Pickled by submitit."""

from dataclasses import dataclass
from pathlib import Path

import submitit

from caltech_exp.failures import import_libraries
from caltech_exp.interruption import Requests
from caltech_exp.pack_index import split_contents
from caltech_exp.splits import read_data_set
from jobs.aggregated import PREPARED, reason_of, write_end
from jobs.ending import Ending
from jobs.log_limit import limit_logs
from jobs.missing_packs import PackItem


@dataclass(frozen=True)
class PackTask:
    """Packs to make of the images in `data`, into the folder `packs` that all tasks share.

    submission  folder of the submission, where it leaves how that went
    """

    data: str
    packs: str
    items: tuple[PackItem, ...]
    log_mb: float
    submission: str

    def __call__(self) -> None:
        """Make what is missing. Raises UserError for a damaged image or a folder that cannot be written."""
        Ending(Requests())
        environment = submitit.JobEnvironment()
        try:
            limit_logs(self.log_mb)
            self._make()
        except Exception as error:
            write_end(Path(self.submission), PREPARED, reason_of(error), environment)
            raise
        write_end(Path(self.submission), PREPARED, "", environment)

    def _make(self) -> None:
        import_libraries()
        from caltech_exp.packs import shared_pack  # torchvision is imported where it is needed

        data = read_data_set(Path(self.data))
        for item in self.items:
            shared_pack(Path(self.packs), split_contents(data, *item))

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit has Slurm start after preemption or at the time limit: the same, for what is left."""
        return submitit.helpers.DelayedSubmission(self)
