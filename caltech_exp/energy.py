"""The energy a GPU has used, where its driver counts it."""

import torch


def energy_joules(device: torch.device) -> float | None:
    """The device's own counter, in joules since its driver was loaded; differences of it mean something.

    None on a CPU, on GPUs without a counter (before NVIDIA's Volta), in a MIG slice, and without nvidia-ml-py. The
    counter is the whole board's: two runs that share a GPU both count everything.
    """
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except pynvml.NVMLError:
        return None
