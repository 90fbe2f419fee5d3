"""Energy counters."""

import torch

from caltech_exp.training.device import energy_joules


def test_a_cpu_counts_none() -> None:
    assert energy_joules(torch.device("cpu")) is None


def test_a_gpu_counts_upwards(cuda: torch.device) -> None:
    before = energy_joules(cuda)
    square = torch.rand(4096, 4096, device=cuda)
    for _ in range(100):
        square = square @ square / 4096
    torch.cuda.synchronize()
    after = energy_joules(cuda)
    assert before is not None
    assert after is not None
    assert after > before
