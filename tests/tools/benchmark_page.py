"""The figures of jobs/benchmark.py as a table and a plot in docs/performance.md.

    python -m tests.tools.benchmark_page FILE

FILE is what `jobs/benchmark.py parts=growth,batches,side_by_side epochs=3 out=FILE` wrote. The plot is in
docs/growth.svg.
"""

from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from caltech_exp.benchmark.records import (
    BATCHES,
    MODELS,
    SHARES,
    SIDE_BY_SIDE,
    Benchmark,
    EpochCosts,
    SideBySideCosts,
)
from caltech_exp.cli import UserError, run_command_line
from caltech_exp.files import user_path
from caltech_exp.records import Corrupt, read_record
from tests.tools.page import PERFORMANCE, spread, write_part

TITLES = {"alexnet": "AlexNet", "resnet18": "ResNet-18"}
PATHS = ("data=", "packs=", "out=")  # words that name a user's folders


def main(argv: Sequence[str]) -> int:
    """Write the tables and the plot. Raises UserError if the file lacks a figure."""
    if len(argv) != 1:
        raise UserError(
            "python -m tests.tools.benchmark_page takes FILE, what jobs/benchmark.py wrote to out=; give it"
        )
    benchmark = read(user_path(argv[0], "FILE"))
    plot = PERFORMANCE.with_name("growth.svg")
    draw(benchmark, plot)
    text = f"{caption(benchmark)}\n\n{table(benchmark)}\n\n![How the cost of training grows]({plot.name})"
    write_part("growth of training", text)
    print(text)
    return 0


def read(path: Path) -> Benchmark:
    benchmark = read_record(path, Benchmark)
    if benchmark is None:
        raise UserError(f"{path} does not exist; jobs/benchmark.py writes it with out=")
    if isinstance(benchmark, Corrupt):
        raise UserError(benchmark.complaint("measure again"))
    return benchmark


def caption(benchmark: Benchmark) -> str:
    """The command, the machine and the versions of the figures."""
    return f"`{command(benchmark)}` on {machine(benchmark)}; the least to the most of all epochs:"


def command(benchmark: Benchmark) -> str:
    """Without the user's folders."""
    words = (word for word in benchmark.words if not word.startswith(PATHS))
    return " ".join(("python jobs/benchmark.py", *words))


def machine(benchmark: Benchmark) -> str:
    """The device, the versions and the day."""
    versions = ", ".join(f"{name} {benchmark.libraries[name]}" for name in ("python", "torch"))
    return f"{benchmark.device}, {benchmark.cores} cores, {versions}, {benchmark.when[:10]}"


def epochs(benchmark: Benchmark, name: str) -> list[EpochCosts]:
    """The processes of a measurement; none if it was not made."""
    costs = next((result.costs for result in benchmark.measurements if result.name == name), None)
    if isinstance(costs, SideBySideCosts):
        return list(costs.runs)
    return [costs] if isinstance(costs, EpochCosts) else []


def table(benchmark: Benchmark) -> str:
    lines = []
    for model in MODELS:
        cells = [(f"epoch of 1/{share}", f"{benchmark.images // share:,} images") for share in SHARES]
        cells += [(f"batch {size}", f"{benchmark.images // 4:,} images, batches of {size}") for size in BATCHES]
        cells += [
            (f"side by side {runs}", f"{benchmark.images // 8:,} images, runs at a time: {runs}")
            for runs in SIDE_BY_SIDE
        ]
        for name, title in cells:
            if costs := epochs(benchmark, f"{model} {name}"):
                seconds = [second for cost in costs for second in cost.each_epoch]
                memory = sum(cost.peak_memory_bytes for cost in costs) / 2**30
                images = sum(cost.images_per_second for cost in costs)
                lines.append((TITLES[model], title, spread(seconds), f"{images:.1f}", f"{memory:.2f}"))
    headers = ("network", "fast engine", "epoch with validation, s", "training, images/s", "peak memory, GiB")
    sides = ("left", "left", "right", "right", "right")
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True, colalign=sides)


def draw(benchmark: Benchmark, path: Path) -> None:
    """Three panels: an epoch against its images, training against its batch size, what runs side by side gain."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update(
        {"svg.hashsalt": "growth", "svg.fonttype": "none"}
    )  # the same figures give the same small file
    figure = Figure(figsize=(10, 3), layout="constrained")
    images, batches, side_by_side = figure.subplots(1, 3)
    for model in MODELS:
        seconds = [
            (benchmark.images // share, min(costs[0].each_epoch))
            for share in SHARES
            if (costs := epochs(benchmark, f"{model} epoch of 1/{share}"))
        ]
        # Not an epoch: an incomplete batch is left out of it, which is another share of the images at each size.
        speeds = [
            (size, costs[0].images_per_second)
            for size in BATCHES
            if (costs := epochs(benchmark, f"{model} batch {size}"))
        ]
        for axes, points in ((images, seconds), (batches, speeds)):
            axes.plot(*zip(*points, strict=True), marker="o", label=TITLES[model]) if points else None
        rates = [(runs, rate(benchmark, model, runs)) for runs in SIDE_BY_SIDE]
        gains = [(runs, value / rates[0][1]) for runs, value in rates if value and rates[0][1]]
        side_by_side.plot(*zip(*gains, strict=True), marker="o", label=TITLES[model]) if gains else None
    for axes, label in (
        (images, "images of each split"),
        (batches, "batch size"),
        (side_by_side, "runs at a time"),
    ):
        axes.set(xlabel=label, ylim=(0, None))
    images.set_ylabel("epoch with validation, s")
    batches.set_ylabel("training, images/s")
    images.set_xlim(0, None)
    batches.set_xscale("log", base=2)
    for axes, ticks in ((batches, BATCHES), (side_by_side, SIDE_BY_SIDE)):
        axes.set_xticks(ticks, labels=[f"{tick}" for tick in ticks])
    side_by_side.set_ylabel("images/s of all, times that of one")
    images.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def rate(benchmark: Benchmark, model: str, runs: int) -> float | None:
    """Epochs per second of all processes side by side, from the first one's start to the last one's end."""
    costs = epochs(benchmark, f"{model} side by side {runs}")
    return len(costs) / SideBySideCosts(runs=tuple(costs)).epoch_seconds if costs else None


if __name__ == "__main__":
    run_command_line(main, __doc__ or "")
