"""A measurement in a process of its own: start the process, and what it runs.

`python -m caltech_exp.benchmark.process START REQUEST` takes the time of its start, and a Request as JSON.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from caltech_exp import bootstrap
from caltech_exp.benchmark.records import Costs, EpochCosts, Outcome, Request, SideBySideCosts
from caltech_exp.child_environment import start_problem
from caltech_exp.cli import UserError
from caltech_exp.files import usable_cores


def measure_in_process(request: Request) -> Outcome:
    """Start the process and wait for it; if it fails, the UserError has its last line."""
    arguments = (str(time.time()), request.model_dump_json())
    command = bootstrap.own_command("caltech_exp.benchmark.process", arguments)
    try:
        process = subprocess.run(
            command, stdin=subprocess.DEVNULL, env=os.environ, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise UserError(start_problem(sys.executable, error)) from None
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        raise UserError(f"a measurement failed: {reason}")
    return Outcome.model_validate_json(process.stdout.strip().splitlines()[-1])


def measure_side_by_side(request: Request, runs: int) -> Outcome:
    """The same epochs by so many processes at a time, which share the threads of one."""
    request = request.model_copy(update={"threads": max(1, (request.threads or usable_cores()) // runs)})
    with ThreadPoolExecutor(runs) as pool:
        outcomes = list(pool.map(measure_in_process, [request] * runs))
    each = tuple(outcome.costs for outcome in outcomes if isinstance(outcome.costs, EpochCosts))
    return Outcome(device=outcomes[0].device, costs=SideBySideCosts(runs=each))


def main(started: float, request: Request) -> Outcome:
    """Measure in this process, which was started at the time `started`."""
    import torch

    from caltech_exp.benchmark import measure
    from caltech_exp.training.device import choose_device, describe_device

    if request.threads:
        torch.set_num_threads(request.threads)
    device = choose_device(request.device)
    costs: Costs
    match request.kind:
        case "epochs":
            costs = measure.epoch_costs(request, device, started)
        case "phases":
            costs = measure.phase_costs(request, device)
        case "augment":
            costs = measure.augment_costs(request, device)
        case "losses":
            costs = measure.first_losses(request, device)
    return Outcome(device=describe_device(device).name, costs=costs)


if __name__ == "__main__":
    try:
        print(main(float(sys.argv[1]), Request.model_validate_json(sys.argv[2])).model_dump_json())
    except UserError as error:
        raise SystemExit(str(error)) from None
