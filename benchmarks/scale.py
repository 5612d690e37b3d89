"""What the published recipes need: `python -m benchmarks.scale` prints the table of docs/scale.md.

Arithmetic and memory are counted on tensors without contents; times are arithmetic over an assumed share of what GPUs
can do.
"""

from condgan.estimate import estimate_memory, iteration_flops
from condgan.recipes.load import load

RECIPES = (
    "acgan-cifar10", "projection-cifar10", "biggan-cifar10", "tacgan-cifar10", "tacgan-vggface2", "sagan-celeba64",
    "celeba-stargan", "celeba-rafd-stargan", "biggan-imagenet64", "sngan-imagenet128", "sagan-imagenet128",
    "acgan-imagenet128", "projection-imagenet128", "tacgan-imagenet128", "biggan-imagenet128",
    "biggan-deep-imagenet128", "biggan-imagenet256",
)  # fmt: skip
PEAKS = {"H200": 989e12, "A100": 312e12}
"""Floating-point operations per second, dense bfloat16, as their maker states them."""
SHARE = 0.3
"""Of these, that training is assumed to reach."""
TOGETHER = 8
"""GPUs."""


def duration(seconds: float) -> str:
    """In hours up to two days, then in days; what is shorter than an hour, nobody knows so well."""
    hours = seconds / 3600
    if hours < 1:
        return "< 1 h"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} d"


def divides(batch: int, gpus: int) -> bool:
    """Whether so many GPUs can have equal parts of a batch."""
    return batch % gpus == 0 and batch >= 2 * gpus


def memory(name: str, gpus: int) -> str:
    """GiB on each GPU: what is kept, and activations; a dash where the batch has no equal parts."""
    schedule = load(name).schedule
    if not divides(schedule.batch, gpus):
        return "–"
    part = [f"schedule.batch={schedule.batch // gpus}", f"schedule.accumulate={max(1, schedule.accumulate // gpus)}"]
    recipe = load(name, [*part, "compute.precision=bfloat16"])
    labels = recipe.data.published_spec()
    assert labels is not None
    return " + ".join(
        f"{size / 2**30:.1f}" if size >= 0.05 * 2**30 else "< 0.1" for size in estimate_memory(recipe, labels)
    )


def row(name: str) -> str:
    """A recipe's line of the table."""
    recipe = load(name)
    labels, schedule = recipe.data.published_spec(), recipe.schedule
    assert labels is not None
    flops = iteration_flops(recipe, labels)
    iterations = schedule.images / (schedule.batch * schedule.d_steps)
    times = [
        duration(flops * iterations / (PEAKS[gpu] * SHARE * gpus)) if divides(schedule.batch, gpus) else "–"
        for gpu, gpus in (("A100", 1), ("A100", TOGETHER), ("H200", 1), ("H200", TOGETHER))
    ]
    cells = [
        f"`{name}`", f"{schedule.batch:,}", f"{flops / 1e9:,.0f}", f"{iterations:,.0f}",
        f"{flops * iterations / 1e18:,.1f}", memory(name, 1), memory(name, TOGETHER), *times,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """A line per recipe; those of CIFAR-100 are as those of CIFAR-10."""
    head = (
        "| recipe | batch | GFLOP per iteration | iterations | EFLOP | GiB, 1 GPU | GiB on each of 8 "
        "| 1 A100 | 8 A100 | 1 H200 | 8 H200 |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    return "\n".join([head, *map(row, RECIPES)])


def main() -> None:
    print(table())


if __name__ == "__main__":
    main()
