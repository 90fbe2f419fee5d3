"""What an array task does: train its runs one after the other. Pickled by submitit."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import submitit

from caltech_exp.allocator import keep_freed_memory
from caltech_exp.config import RunConfig, run_id
from caltech_exp.errors import UserError
from caltech_exp.failures import import_libraries, record_failure_of_free_run
from caltech_exp.interruption import Interrupted, Requests
from caltech_exp.lease import ReplacedError
from caltech_exp.provenance import CHECKOUT, CodeVersion, Origin, code_version
from caltech_exp.splits import read_data_set
from jobs.ending import Ending
from jobs.log_limit import limit_logs
from jobs.profile_paths import expand_path, use_torch_home_of_submission

if TYPE_CHECKING:
    from caltech_exp.execute import TaskContext


@dataclass(frozen=True)
class TrainTask:
    """Runs of one task.

    data, data_on_node    the data folder; where the second is given it is used, with `$NAME` expanded on the node
    packs, packs_on_node  the folder of decoded images, and the node's own to copy them to, expanded there
    threads               CPU threads of torch, None for torch's own choice
    torch_home            the profile's, expanded on the node
    torch_home_here       where submit found weights, for tasks that get no variable that says where
    checkpoint_minutes    how often a run saves where it is
    log_mb                longest log, MB
    code                  of the snapshot that was submitted, which this must be run from
    """

    submission: str
    runs: tuple[tuple[RunConfig, int], ...]
    folder: str
    data: str
    data_on_node: str | None
    packs: str
    packs_on_node: str | None
    fingerprint: str
    device: str
    threads: int | None
    torch_home: str | None
    torch_home_here: str | None
    checkpoint_minutes: float
    log_mb: float
    code: CodeVersion

    def __call__(self) -> None:
        """Train every run. One that fails is recorded and does not keep the next from training, if the GPU can."""
        requests = Requests()
        ending = Ending(requests)
        environment = submitit.JobEnvironment()
        origin = Origin(self.submission, environment.job_id, str(environment.paths.stdout), self.code)
        try:
            limit_logs(self.log_mb)
            print(f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')}", flush=True)
            self._check_code()
            self._import_libraries()
            context = self._context(origin, requests)
        except Exception as error:
            for config, seed in self.runs:
                name = run_id(config, seed)
                record_failure_of_free_run(Path(self.folder), name, error, origin, self.fingerprint)
            raise
        self._train(context, ending)

    def _train(self, context: "TaskContext", ending: Ending) -> None:
        """Train one run after the other. Raises RuntimeError in the end if some failed.

        After some errors CUDA answers everything with that error until the process ends. Then the task ends: the
        runs to come would be recorded as failed with it. Submitting again trains them.
        """
        from caltech_exp.devices import why_broken
        from caltech_exp.execute import execute

        failed = []
        for left, (config, seed) in zip(reversed(range(len(self.runs))), self.runs, strict=True):
            try:
                execute(config, seed, context)
            except Interrupted:
                ending.now()
            except ReplacedError as error:
                print(f"run {run_id(config, seed)}: {error}", flush=True)
                ending.leave()
            except Exception as error:
                if len(self.runs) == 1:
                    raise
                print(f"run {run_id(config, seed)} failed: {type(error).__name__}: {error}", flush=True)
                failed.append(run_id(config, seed))
                if left and (reason := why_broken(context.device)):
                    raise RuntimeError(
                        f"this process cannot use the GPU any more ({reason}) since run {failed[-1]} failed; "
                        f"{left} of {len(self.runs)} runs were not tried, submit again"
                    ) from error
            if context.requests.stop and left:
                ending.now()
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(self.runs)} runs failed: {', '.join(failed)}")

    def _import_libraries(self) -> None:
        """Import torch, on the node only: submitting stays fast. Raises LibraryError."""
        if any(config.engine == "fast" for config, _ in self.runs):
            keep_freed_memory()
        import_libraries()
        if self.threads:
            import torch

            torch.set_num_threads(self.threads)

    def _check_code(self) -> None:
        """Raises UserError if this is not the code that was submitted: its results would be another code's."""
        here = code_version()
        if here != self.code:
            raise UserError(
                f"the task runs caltech_exp {here} from {CHECKOUT}, and {self.code} was submitted; submit again"
            )

    def _context(self, origin: Origin, requests: Requests) -> "TaskContext":
        """What all runs of the task share. Raises UserError or NodeError if something of it is not there."""
        from caltech_exp.devices import choose_device
        from caltech_exp.execute import TaskContext
        from caltech_exp.packs import PackPlace

        if self.torch_home:
            os.environ["TORCH_HOME"] = str(expand_path(self.torch_home, "torch_home"))
        use_torch_home_of_submission(self.torch_home_here)
        device = choose_device(self.device)
        root = expand_path(self.data_on_node, "data_on_node") if self.data_on_node else Path(self.data)
        data = read_data_set(root)
        if data.fingerprint != self.fingerprint:
            raise UserError(
                f"the data in {data.root} is not what was submitted "
                f"(fingerprint {data.fingerprint}, not {self.fingerprint}); copy it again, or submit anew"
            )
        on_node = expand_path(self.packs_on_node, "packs_on_node") if self.packs_on_node else None
        packs = PackPlace(Path(self.packs), on_node)
        seconds = 60 * self.checkpoint_minutes
        return TaskContext(Path(self.folder), data, device, packs, origin, seconds, requests)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit has Slurm start in place of this task after preemption or at the time limit: the same."""
        return submitit.helpers.DelayedSubmission(self)
