"""Which code trained a run before the code that goes on with it, by its checkpoint."""

from collections.abc import Mapping
from typing import Any

from caltech_exp.provenance import CodeVersion


def recorded(earlier: tuple[CodeVersion, ...], here: CodeVersion) -> list[dict[str, Any]]:
    """What a checkpoint keeps: every code that trained the run, oldest first, the running one last."""
    return [code.model_dump() for code in (*earlier, here)]


def earlier_code(saved: Mapping[str, Any], here: CodeVersion) -> tuple[CodeVersion, ...]:
    """Every other code than the running one that trained what a checkpoint holds, oldest first.

    Checkpoints of before codes were kept name the package's version alone.
    """
    before = saved.get("codes") or [{"version": saved["kin"]["caltech_exp"], "commit": None, "dirty": None}]
    return tuple(code for code in map(CodeVersion.model_validate, before) if code != here)
