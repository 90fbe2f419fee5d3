"""A task that trains nothing: for studies of thousands of runs, where the training is not what is tested."""

import socket
from dataclasses import dataclass
from pathlib import Path

import submitit

from caltech_exp.config import RunConfig, run_id
from caltech_exp.files import utc_now
from caltech_exp.records import write_record
from caltech_exp.study.lease import acquire, hold
from caltech_exp.study.results import RESULT, DataRecord, Device, Epoch, Result, read_result
from caltech_exp.study.run_status import remove_after_result
from caltech_exp.submission.tasks import TrainTask


@dataclass(frozen=True)
class StubTask(TrainTask):
    """As a TrainTask, with leases and results written as those are, and without torch."""

    def __call__(self) -> None:
        job = submitit.JobEnvironment().job_id
        for config, seed in self.runs:
            folder = Path(self.folder) / run_id(config, seed)
            lease = acquire(folder, job)
            if lease is None:
                print(f"run {folder.name} is skipped: another process trains it", flush=True)
                continue
            with hold(lease):
                if not isinstance(read_result(folder), Result):
                    write_record(folder, RESULT, self._result(config, seed, job, lease.number))
                    print(f"run {folder.name}: trained", flush=True)
                remove_after_result(folder)

    def _result(self, config: RunConfig, seed: int, job: str, attempts: int) -> Result:
        epochs = tuple(
            Epoch(
                epoch=number,
                lr=config.lr,
                train_loss=4.615120516841260 / number,
                val_loss=4.615120516841260 / number,
                val_accuracy=0.5,
                seconds=20.123456789,
            )
            for number in range(1, config.epochs + 1)
        )
        return Result(
            run_id=run_id(config, seed),
            config=config,
            seed=seed,
            status="finished",
            epochs=epochs,
            first_loss=4.61512051684126,
            val_accuracy=0.5,
            best_val_accuracy=0.5,
            test_loss=4.61512051684126,
            test_accuracy=0.5,
            data=DataRecord(
                fingerprint=self.fingerprint, stand_in=True, train_images=4, val_images=4, test_images=4
            ),
            device=Device(type="cpu", name="none: nothing was trained"),
            libraries={},
            code=self.code,
            job=job,
            host=socket.gethostname(),
            started=utc_now(),
            wall_seconds=20.123456789 * config.epochs + 5.0,
            attempts=attempts,
            images_per_second=100.0,
            peak_memory_bytes=1,
        )
