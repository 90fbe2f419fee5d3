"""What the processor can do, held against what torch says of it."""

import torch

from caltech_exp.machine import computes_bf16


def test_torch_says_the_same() -> None:
    assert computes_bf16() == torch.ops.mkldnn._is_mkldnn_bf16_supported()
