"""The record of a benchmark, for tests of what is made from it."""

from collections.abc import Sequence

from caltech_exp.benchmark.records import Benchmark, MeasurementResult
from caltech_exp.provenance import code_version


def make_benchmark(
    measurements: Sequence[MeasurementResult], *, images: int, words: tuple[str, ...] = (), cores: int = 2
) -> Benchmark:
    return Benchmark(
        device="EPYC",
        cores=cores,
        host="node01",
        images=images,
        words=words,
        libraries={"torch": "2.9.0", "python": "3.11"},
        code=code_version(),
        when="2026-01-01T00:00:00Z",
        measurements=tuple(measurements),
    )
