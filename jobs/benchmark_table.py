"""A benchmark's figures as tables: template loop, fast engine, and how many times as fast."""

from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from caltech_exp.benchmark.plan import AUGMENTATIONS, MODELS, SHARES
from caltech_exp.benchmark.records import Benchmark, Costs, EpochCosts, FirstLosses


@dataclass(frozen=True)
class Figure:
    """A line of a table: which field of which measurement, in which unit, and whether more of it is faster.

    measurement  its name, after the network's where it has one
    unit         what the field is divided by
    faster       `more` or `less`, for the ratio; none where empty
    """

    title: str
    measurement: str
    field: str
    faster: str = ""
    unit: float = 1.0
    digits: int = 1


NETWORK_FIGURES = (
    Figure("epoch with validation, s", "epoch", "epoch_seconds", "less"),
    Figure("  images/s in training", "epoch", "images_per_second", "more"),
    Figure("  peak memory, GiB", "epoch", "peak_memory_bytes", unit=2**30, digits=2),
    Figure("  process start to first step, s", "epoch", "start_seconds"),
    Figure("epoch, convolutions frozen, s", "frozen epoch", "epoch_seconds", "less"),
    Figure("  process start to first step, s", "frozen epoch", "start_seconds"),
    Figure("decode once, images/s", "phases", "pack_images_per_second"),
    Figure("inputs, images/s (template: a core)", "phases", "input_images_per_second", "more"),
    Figure("training step, images/s", "phases", "step_images_per_second", "more"),
    Figure("  GFLOP/s", "phases", "step_flops_per_second", "more", unit=1e9),
    Figure("  fastest matrix product, GFLOP/s", "phases", "gemm_flops_per_second", "more", unit=1e9),
    Figure("  share of it, %", "phases", "share_of_peak", unit=0.01),
    Figure("  kept for the backward pass, MB per image", "phases", "saved_bytes_per_image", unit=1e6, digits=2),
    Figure("evaluation, images/s", "phases", "eval_images_per_second", "more"),
)
AUGMENT_FIGURES = tuple(
    Figure(f"augment={name}", f"augment {name}", "input_images_per_second", "more") for name in AUGMENTATIONS
)

Cells = Sequence[Sequence[str]]
Measurements = dict[tuple[str, str], Costs]
"""By name and engine."""


def benchmark_table(benchmark: Benchmark) -> str:
    """What machine it was, a table per network and one of its growth, and the augmentations."""
    costs: Measurements = {(m.name, m.config.engine): m.costs for m in benchmark.measurements}
    config = benchmark.measurements[0].config
    blocks = [
        f"{benchmark.device}, {benchmark.cores} cores; batch {config.batch_size}, template with {config.workers} "
        f"workers; torch {benchmark.libraries['torch']}; {benchmark.when}"
    ]
    for model in MODELS:
        blocks += [
            _compared(model, NETWORK_FIGURES, f"{model} ", costs),
            _growth(model, benchmark, costs),
            _losses(model, costs),
        ]
    inputs = "training inputs, images/s (template: a core)"
    return "\n\n".join(block for block in (*blocks, _compared(inputs, AUGMENT_FIGURES, "", costs)) if block)


def _compared(title: str, figures: Sequence[Figure], prefix: str, costs: Measurements) -> str:
    """The figures that were measured; nothing if none was."""
    rows = []
    for figure in figures:
        pair = [costs.get((prefix + figure.measurement, engine)) for engine in ("reference", "fast")]
        if pair == [None, None]:
            continue
        values = [getattr(cost, figure.field, None) for cost in pair]
        shown = ["" if value is None else f"{value / figure.unit:,.{figure.digits}f}" for value in values]
        rows.append((figure.title, *shown, _ratio(figure, *values)))
    return _table(rows, (title, "template", "fast", "times as fast")) if rows else ""


def _ratio(figure: Figure, template: float | None, fast: float | None) -> str:
    if not figure.faster or not template or not fast:
        return ""
    return f"{fast / template if figure.faster == 'more' else template / fast:.1f}"


def _growth(model: str, benchmark: Benchmark, costs: Measurements) -> str:
    """Seconds of an epoch of the fast engine against the number of images."""
    rows = []
    batch_size = benchmark.measurements[0].config.batch_size  # the last incomplete batch is not trained on
    for share in (1, *SHARES):
        cost = costs.get((f"{model} epoch of 1/{share}", "fast"))
        if isinstance(cost, EpochCosts):
            images = benchmark.images // share
            trained = images - images % batch_size
            per_image = 1000 * cost.epoch_seconds / (trained + images)
            rows.append((f"{images:,}", f"{trained:,}", f"{cost.epoch_seconds:.1f}", f"{per_image:.2f}"))
    headers = (f"{model}, fast: images of each split", "trained", "epoch, s", "ms per image trained or validated")
    return _table(rows, headers) if rows else ""


def _losses(model: str, costs: Measurements) -> str:
    """How far the losses of the first steps are apart, at most."""
    template, fast = (costs.get((f"{model} losses", engine)) for engine in ("reference", "fast"))
    if not isinstance(template, FirstLosses) or not isinstance(fast, FirstLosses):
        return ""
    pairs = list(zip(template.losses, fast.losses, strict=False))
    if not pairs:
        return f"{model} in fp32: the loss of the first step is not finite"
    apart = max(abs(ours - theirs) / theirs for theirs, ours in pairs)
    first, last = pairs[0][0], pairs[-1][0]
    diverged = [
        f"; {name} diverges at step {len(one.losses) + 1}"
        for name, one in (("the template", template), ("fast", fast))
        if len(one.losses) < one.steps
    ]
    return (
        f"{model} in fp32, losses of the first {len(pairs)} steps ({first:.4f} to {last:.4f}): within {apart:.1e}"
        f"{''.join(diverged)}"
    )


def _table(rows: Cells, headers: Sequence[str]) -> str:
    align = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers=headers, disable_numparse=True, preserve_whitespace=True, colalign=align)
