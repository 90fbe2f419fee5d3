"""What an array task does: train its runs one after the other. Pickled by submitit."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import submitit

from caltech_exp.allocator import keep_freed_memory
from caltech_exp.config import RunConfig, run_id
from caltech_exp.errors import UserError
from caltech_exp.provenance import CodeVersion, code_version
from jobs.profiles import expand_path


@dataclass(frozen=True)
class TrainTask:
    """Runs of one task.

    data, data_on_node    the data folder; where the second is given it is used, with `$NAME` expanded on the node
    packs, packs_on_node  the folder of decoded images, and the node's own to copy them to, expanded there
    threads               CPU threads of torch, None for torch's own choice
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
    code: CodeVersion

    def __call__(self) -> None:
        """Train every run. One that fails is recorded and does not keep the next from training."""
        environment = submitit.JobEnvironment()
        if self.torch_home:
            os.environ["TORCH_HOME"] = str(expand_path(self.torch_home, "torch_home"))
        if any(config.engine == "fast" for config, _ in self.runs):
            keep_freed_memory()
        # torch is imported on the node only: submitting stays fast.
        import torch

        from caltech_exp.execute import Origin, choose_device, execute, record_failure
        from caltech_exp.packs import PackPlace
        from caltech_exp.splits import read_data_set

        here = code_version()
        code = here if here.commit else self.code  # a node may lack git
        if code != self.code:
            print(f"the code has changed since submission: {code}, not {self.code}", flush=True)
        origin = Origin(self.submission, environment.job_id, str(environment.paths.stdout), code)
        folder = Path(self.folder)
        if self.threads:
            torch.set_num_threads(self.threads)
        print(f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')}", flush=True)
        try:
            device = choose_device(self.device)
            data = read_data_set(
                expand_path(self.data_on_node, "data_on_node") if self.data_on_node else Path(self.data)
            )
            if data.fingerprint != self.fingerprint:
                raise UserError(
                    f"the data in {data.root} is not what was submitted "
                    f"(fingerprint {data.fingerprint}, not {self.fingerprint}); copy it again, or submit anew"
                )
        except Exception as error:
            for config, seed in self.runs:
                record_failure(folder, run_id(config, seed), error, origin)
            raise
        on_node = expand_path(self.packs_on_node, "packs_on_node") if self.packs_on_node else None
        packs = PackPlace(Path(self.packs), on_node)
        failed = []
        for config, seed in self.runs:
            try:
                execute(config, seed, folder, data, device, packs, origin)
            except Exception as error:
                if len(self.runs) == 1:
                    raise
                print(f"run {run_id(config, seed)} failed: {type(error).__name__}: {error}", flush=True)
                failed.append(run_id(config, seed))
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(self.runs)} runs failed: {', '.join(failed)}")

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """On preemption or time-out Slurm queues the task again; finished runs of it are not repeated."""
        # torch raises an error when a DataLoader worker ends, and all of them end with the task now.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return submitit.helpers.DelayedSubmission(self)
