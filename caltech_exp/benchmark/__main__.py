"""python -m caltech_exp.benchmark MEASUREMENT: make one measurement and print its outcome, both as JSON."""

import sys

from caltech_exp.benchmark.records import Costs, Measurement, Outcome
from caltech_exp.cli import UserError
from caltech_exp.machine import keep_freed_memory


def main(text: str) -> str:
    measurement = Measurement.model_validate_json(text)
    if measurement.config.engine == "fast":
        keep_freed_memory()  # as a task does, before torch is imported
    import torch

    from caltech_exp.benchmark.measure import augment_costs, epoch_costs, first_losses, phase_costs
    from caltech_exp.training.device import choose_device, describe_device

    if measurement.threads:
        torch.set_num_threads(measurement.threads)
    device = choose_device(measurement.device)
    costs: Costs
    match measurement.kind:
        case "epochs":
            costs = epoch_costs(measurement, device)
        case "phases":
            costs = phase_costs(measurement, device)
        case "augment":
            costs = augment_costs(measurement, device)
        case "losses":
            costs = first_losses(measurement, device)
    return Outcome(device=describe_device(device).name, costs=costs).model_dump_json()


if __name__ == "__main__":
    try:
        print(main(sys.argv[1]))
    except UserError as error:
        raise SystemExit(str(error)) from None
