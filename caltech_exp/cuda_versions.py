"""Versions that can change what a GPU computes, besides packages: the CUDA torch was built for, and the driver."""

import torch


def cuda_versions(device: torch.device) -> dict[str, str]:
    """Versions by name, to stand beside provenance.library_versions; none on a CPU.

    torch_build    of torch with its build, as in `2.9.0+cu130`
    cuda, cudnn    that torch runs with; cuDNN's as it numbers itself, 91300 for 9.13.0
    nvidia_driver  of this machine, where nvidia-ml-py can ask it
    """
    if device.type != "cuda":
        return {}
    found = {
        "torch_build": str(torch.__version__),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "nvidia_driver": _driver(),
    }
    return {name: str(version) for name, version in found.items() if version}


def _driver() -> str | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None
