"""python -m caltech_exp.benchmark MEASUREMENT: make one measurement and print its outcome, both as JSON."""

import sys

from caltech_exp.allocator import keep_freed_memory
from caltech_exp.benchmark.records import Measurement, Outcome
from caltech_exp.errors import UserError


def main(text: str) -> str:
    measurement = Measurement.model_validate_json(text)
    if measurement.config.engine == "fast":
        keep_freed_memory()  # as a task does, before torch is imported
    import torch

    from caltech_exp.benchmark.epochs import epoch_costs
    from caltech_exp.benchmark.phases import augment_costs, phase_costs
    from caltech_exp.execute import choose_device, describe_device

    if measurement.threads:
        torch.set_num_threads(measurement.threads)
    device = choose_device(measurement.device)
    measure = {"epochs": epoch_costs, "phases": phase_costs, "augment": augment_costs}[measurement.kind]
    return Outcome(device=describe_device(device).name, costs=measure(measurement, device)).model_dump_json()


if __name__ == "__main__":
    try:
        print(main(sys.argv[1]))
    except UserError as error:
        raise SystemExit(str(error)) from None
