"""Every random draw is a function of the run's seed, its purpose and its place: checkpoints hold no generator state."""

import zlib

import numpy as np


def derive_seed(seed: int, purpose: str, *place: int) -> int:
    """A 64-bit seed for one purpose at one place, such as (rank, iteration)."""
    entropy = (seed, zlib.crc32(purpose.encode()), *place)
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
