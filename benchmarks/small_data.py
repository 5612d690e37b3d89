"""Pieces for small data, each alone and together: equal steps, several seeds, judged on held-out images.

`python -m benchmarks.small_data FOLDER [--only SET;…] [--variants NAME;…] [--seeds 3] [--minutes M] [--out FILE]`

FOLDER holds cifar10-jpeg.zip, trash-photos.zip and sprites-attributes.zip; sets without a file there are left out. The
same command goes on where it was stopped (`benchmarks.study`). `--table FILE` prints a record's tables.
"""

from benchmarks.study import Set, Variant, by_folders, by_hair, study

COLORS = ["data.size=32", "data.channels=3"]
DIGITS = ["data.source=digits", "data.held_out=0.9", "data.size=16", "data.channels=1"]
SETS = {
    "digits, 10 %": Set(None, by_folders, 1.0, DIGITS, 60_000),
    "trash": Set("trash-photos.zip", by_folders, 1.0, COLORS, 40_000),
    "trash, 30 a class": Set("trash-photos.zip", by_folders, 1.0, COLORS, 40_000, most=30),
    "cifar10, 10 %": Set("cifar10-jpeg.zip", by_folders, 0.1, COLORS, 40_000),
    "cifar10, 20 %": Set("cifar10-jpeg.zip", by_folders, 0.2, COLORS, 40_000),
    "hairs": Set("sprites-attributes.zip", by_hair, 1.0, COLORS, 40_000),
    "hairs, 30 a class": Set("sprites-attributes.zip", by_hair, 1.0, COLORS, 40_000, most=30),
}

LECAM = "objective.penalties.lecam={start: 0, end: 0.3, images: 1, begin: 10000}"
"""Once its averages mean something."""
MILD = "augment={name: diffaugment, policy: [color, translation]}"
MOVED = "augment={name: ada, images: 20000, color: false}"
R1 = "objective.penalties.approximate_r1=1"
PIECES: dict[str, list[str]] = {
    "none": [],
    "DiffAugment": ["augment.name=diffaugment"],
    "DiffAugment without cutout": [MILD],
    "ADA": ["augment={name: ada, images: 20000}"],
    "ADA without color": [MOVED],
    "LeCam": [LECAM],
    "CR": ["objective.penalties.consistency=10"],
    "bCR": ["objective.penalties.consistency=10", "objective.penalties.consistency_fake=10"],
    "R1, approximate": [R1],
    "relativistic, R1 and R2": [
        "objective={name: gan, adversarial: relativistic, penalties: {approximate_r1: 0.1, approximate_r2: 0.1}}",
        "schedule.fake_labels=batch",
    ],
    "transition": ["objective.transition={start: 0, end: 1, begin: 10000, images: 20000}"],
    "gSR": ["objective.penalties.spectral_groups=0.5"],
    "R1, ADA without color": [R1, MOVED],
}
"""What each adds to the recipe."""
NARROW = ["generator.width=8", "backbone.width=8"]
VARIANTS = {name: Variant("any-projection", [*NARROW, *added]) for name, added in PIECES.items()}

if __name__ == "__main__":
    study("small_data", __doc__, SETS, VARIANTS, equal_time=False)
