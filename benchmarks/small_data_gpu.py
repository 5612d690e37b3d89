"""Pieces for small data with the networks and pixels that a GPU is given: as `benchmarks.small_data`, and beside it.

`python -m benchmarks.small_data_gpu FOLDER [--only SET;…] [--variants NAME;…] [--images N] [--out FILE]`
"""

from benchmarks.small_data import PIECES
from benchmarks.study import Set, Variant, by_folders, study

COLORS = "data.channels=3"
SETS = {
    "trash, 30 a class": Set("trash-photos.zip", by_folders, 1.0, ["data.size=64", COLORS], 100_000, most=30),
    "trash": Set("trash-photos.zip", by_folders, 1.0, ["data.size=64", COLORS], 100_000),
    "cifar10, 10 %": Set("cifar10-jpeg.zip", by_folders, 0.1, ["data.size=32", COLORS], 200_000),
    "cifar10, 20 %": Set("cifar10-jpeg.zip", by_folders, 0.2, ["data.size=32", COLORS], 200_000),
}
VARIANTS = {name: Variant("any-biggan", added) for name, added in PIECES.items()}

if __name__ == "__main__":
    study("small_data_gpu", __doc__, SETS, VARIANTS, equal_time=False)
