"""Rows whose runs do not have one origin: other code, libraries or devices may give other numbers."""

from collections.abc import Sequence
from typing import Any

from caltech_exp.reporting.outcome import Outcome


def mixed_origins(results: Sequence[Outcome]) -> list[str]:
    """In what the results differ: some of `code versions`, `library versions`, `devices`, `numbers of images`,
    `initial weights`."""
    differing: dict[str, set[Any]] = {
        "code versions": {str(code) for result in results for code in (*result.earlier_code, result.code)},
        "library versions": {
            tuple(sorted(one.items())) for one in _each([result.libraries for result in results])
        },
        "devices": {(result.device.type, result.device.name) for result in results},
        "numbers of images": {
            (result.data.train_images, result.data.val_images, result.data.test_images) for result in results
        },
        "initial weights": {result.weights_sha256 for result in results if result.weights_sha256},
    }
    return [name for name, found in differing.items() if len(found) > 1]


def _each(values: Sequence[Any]) -> list[Any]:
    """Every object once: results that were kept share theirs."""
    return list({id(value): value for value in values}.values())
