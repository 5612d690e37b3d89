"""Numbers that change as training goes on, counted in the real images that the discriminator has seen."""

from typing import Annotated

from pydantic import AfterValidator, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from condgan.utils.options import STRICT


@dataclass(frozen=True, config=STRICT)
class Ramp:
    """A number that goes straight from `start` to `end` over the first `images` images, and stays there."""

    start: float
    end: float
    images: PositiveInt

    def at(self, images: int) -> float:
        """The number after so many images."""
        return self.start + (self.end - self.start) * min(1.0, images / self.images)

    def __neg__(self) -> "Ramp":
        return Ramp(-self.start, -self.end, self.images)


Number = float | Ramp


def value_at(number: Number, images: int) -> float:
    """A number, or where its ramp is, after so many images."""
    return number.at(images) if isinstance(number, Ramp) else number


def _above(least: float, strictly: bool) -> AfterValidator:
    """Refuse ramps that leave the range of the number in whose place they are."""

    def check(ramp: Ramp) -> Ramp:
        if min(ramp.start, ramp.end) < least or (strictly and min(ramp.start, ramp.end) == least):
            raise ValueError(f"a ramp whose ends are {'greater than' if strictly else 'at least'} {least:g}")
        return ramp

    return AfterValidator(check)


Weight = NonNegativeFloat | Annotated[Ramp, _above(0.0, strictly=False)]
Positive = PositiveFloat | Annotated[Ramp, _above(0.0, strictly=True)]
