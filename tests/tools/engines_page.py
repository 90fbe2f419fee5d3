"""Both engines on one machine, as a table in docs/performance.md.

    python -m tests.tools.engines_page FILE...

Each FILE is what `jobs/benchmark.py models=alexnet out=FILE` wrote. The same command with several files repeats
every figure, and the table shows the least and the most.
"""

from collections import Counter
from collections.abc import Sequence
from statistics import median

from tabulate import tabulate

from caltech_exp.benchmark.records import MODELS, Benchmark
from caltech_exp.cli import UserError, join_words, run_command_line
from caltech_exp.commands.benchmark import AUGMENT_FIGURES, NETWORK_FIGURES, Figure, ratio
from caltech_exp.files import user_path
from tests.tools.benchmark_page import TITLES, command, machine, read
from tests.tools.page import spread, write_part

ENGINES = ("reference", "fast")
TIMES = {1: "once", 2: "twice"}


def main(argv: Sequence[str]) -> int:
    """Write the tables. Raises UserError if the files are not of one machine, data set and version."""
    if not argv:
        raise UserError(
            "python -m tests.tools.engines_page takes FILE..., what jobs/benchmark.py wrote to out=; give them"
        )
    benchmarks = [read(user_path(name, "FILE")) for name in argv]
    for name, benchmark in zip(argv, benchmarks, strict=True):
        if differences := benchmarks[0].differences(benchmark):
            raise UserError(f"{argv[0]} and {name} have other {', '.join(differences)}; measure again")
    require_same_settings(benchmarks)
    text = "\n\n".join((caption(benchmarks), *tables(benchmarks)))
    write_part("two engines", text)
    print(text)
    return 0


def require_same_settings(benchmarks: Sequence[Benchmark]) -> None:
    """Raises UserError if a figure was measured with several settings or numbers of threads: not one spread."""
    results = [result for benchmark in benchmarks for result in benchmark.measurements]
    settings = {(result.name, result.config.engine): (result.config, result.threads) for result in results}
    for result in results:
        if settings[result.name, result.config.engine] != (result.config, result.threads):
            raise UserError(f"{result.name} was measured with other settings in another file; leave one out")


def caption(benchmarks: Sequence[Benchmark]) -> str:
    """Every command with its repetitions, and the machine."""
    commands = Counter(command(benchmark) for benchmark in benchmarks)
    parts = [f"`{each}` ({TIMES.get(count, f'{count} times')})" for each, count in commands.items()]
    return f"{join_words(parts)} on {machine(benchmarks[0])}; the least to the most, and the ratio of the medians:"


def tables(benchmarks: Sequence[Benchmark]) -> list[str]:
    """A table of each network, and one of the random transforms."""
    made = [table(benchmarks, NETWORK_FIGURES, f"{model} ", TITLES[model]) for model in MODELS]
    made.append(table(benchmarks, AUGMENT_FIGURES, "", "inputs, images/s (template: one core)"))
    return [text for text in made if text]


def table(benchmarks: Sequence[Benchmark], figures: Sequence[Figure], prefix: str, title: str) -> str:
    """The figures that were measured with either engine; empty without any."""
    rows = []
    for figure in figures:
        template, fast = (
            [value / figure.unit for value in values(benchmarks, figure, prefix + figure.measurement, engine)]
            for engine in ENGINES
        )
        if template or fast:
            spreads = (spread(each) if each else "" for each in (template, fast))
            medians = (median(each) if each else None for each in (template, fast))
            rows.append((figure.title.replace("  ", "– "), *spreads, ratio(figure, *medians)))
    headers = (title, "template", "fast", "times as fast")
    sides = ("left", "right", "right", "right")
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=sides) if rows else ""


def values(benchmarks: Sequence[Benchmark], figure: Figure, name: str, engine: str) -> list[float]:
    """A figure of every file that has it; of epochs, every epoch's."""
    found: list[float] = []
    for benchmark in benchmarks:
        for result in benchmark.measurements:
            if (result.name, result.config.engine) == (name, engine):
                each = getattr(result.costs, "each_epoch", ()) if figure.field == "epoch_seconds" else ()
                found += each or [getattr(result.costs, figure.field)]
    return found


if __name__ == "__main__":
    run_command_line(main, __doc__ or "")
