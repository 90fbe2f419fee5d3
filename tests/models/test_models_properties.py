"""Damaged weights files are refused in one line and execute no code."""

import io
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from caltech_exp.config import RunConfig
from caltech_exp.models.networks import build
from tests.tools.bad_inputs import Reader, damaged_bytes, generated


def saved(state: object, *, as_zip: bool) -> bytes:
    content = io.BytesIO()
    torch.save(state, content, _use_new_zipfile_serialization=as_zip)
    return content.getvalue()


STATE = {"classifier.6.weight": torch.zeros(2, 3), "classifier.6.bias": torch.ones(2)}
SOUND = [saved(STATE, as_zip=True), saved(STATE, as_zip=False)]
"""Not of a network: also undamaged they are refused."""


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    """300 files, from both of torch's formats."""
    reader = Reader(tmp_path)
    file = tmp_path / "net.pth"

    @generated(300)
    @given(damaged_bytes(st.sampled_from(SOUND)) | st.binary(max_size=300))
    @example(SOUND[0])
    @example(b"\x80\x02.")
    def weights(content: bytes) -> None:
        file.write_bytes(content)
        with torch.device("meta"):  # names and shapes only: fast
            reader.read(lambda: build(RunConfig(model="alexnet", weights=str(file))))

    weights()
    assert reader.refused >= 300
