"""What the published recipes need: `python -m benchmarks.scale` prints the tables of docs/scale.md.

Arithmetic, memory and exchanges are counted on tensors without contents; times are arithmetic over an assumed share of
what GPUs can do, and over assumed links between them.
"""

from benchmarks.exchange import Link, counted, summed
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
EXCHANGING = (
    "celeba-stargan", "sagan-imagenet128", "acgan-imagenet128", "biggan-imagenet128", "biggan-deep-imagenet128",
    "biggan-imagenet256",
)  # fmt: skip
NETWORKS = (4, 8)
"""Processes that exchange, each with a GPU."""
LINKS = (
    Link("NVLink", 450e9, 2e-6),
    Link("PCIe 4.0 ×16", 25e9, 5e-6),
    Link("100 Gbit/s Ethernet", 12.5e9, 20e-6),
)
"""Assumed."""


def duration(seconds: float) -> str:
    """In hours up to two days, then in days; what is shorter than an hour, nobody knows so well."""
    hours = seconds / 3600
    if hours < 1:
        return "< 1 h"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} d"


def milliseconds(seconds: float) -> str:
    """With two digits, if it has no more before the point."""
    text = f"{1e3 * seconds:.2g}"
    return f"{1e3 * seconds:,.0f}" if "e" in text or 1e3 * seconds >= 10 else text


def divides(batch: int, gpus: int) -> bool:
    """Whether so many GPUs can have equal parts of a batch."""
    return batch % gpus == 0 and batch >= 2 * gpus


def parts(name: str, gpus: int) -> str:
    """The override that lets each of so many GPUs have parts as large as one has."""
    return f"schedule.accumulate={max(1, load(name).schedule.accumulate // gpus)}"


def memory(name: str, gpus: int) -> str:
    """GiB on each GPU: what is kept, and activations; a dash where the batch has no equal parts."""
    schedule = load(name).schedule
    if not divides(schedule.batch, gpus):
        return "–"
    recipe = load(name, [f"schedule.batch={schedule.batch // gpus}", parts(name, gpus), "compute.precision=bfloat16"])
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


def exchange_row(name: str, processes: int) -> str:
    """A line of what so many processes exchange in an iteration."""
    recipe = load(name, [parts(name, processes)])
    labels = recipe.data.published_spec()
    assert labels is not None
    exchanges = counted(recipe, labels, processes)
    (often, gradients), (times, rest) = summed(exchanges, "gradients"), summed(exchanges, "sums", "rows")
    arithmetic = iteration_flops(recipe, labels) / (PEAKS["H200"] * SHARE * processes)
    cells = [
        f"`{name}`", f"{processes}", f"{gradients / 1e6:,.0f} in {often}", f"{rest / 1e6:.2g} in {times}",
        *(milliseconds(link.seconds(exchanges, processes)) for link in LINKS), milliseconds(arithmetic),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def exchange_table() -> str:
    """A line per recipe and number of processes."""
    links = " | ".join(link.name for link in LINKS)
    head = f"| recipe | processes | MB of gradients | MB of the rest | {links} | arithmetic |"
    rows = (exchange_row(name, processes) for name in EXCHANGING for processes in NETWORKS)
    return "\n".join([head, f"|---{'|---:' * (4 + len(LINKS))}|", *rows])


def main() -> None:
    print(table(), exchange_table(), sep="\n\n")


if __name__ == "__main__":
    main()
