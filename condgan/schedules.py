"""Numbers that change as training goes on, counted in the real images that the discriminator has seen."""

from dataclasses import replace
from math import cos, inf, pi
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from condgan.utils.options import STRICT, ImageCount, ImageCountOrNone


@dataclass(frozen=True, config=STRICT)
class Ramp:
    """A number that is `start` until `begin` images were seen, goes to `end` over `images` more, and stays.

    It goes straight, or, with `cosine`, along half a wave: slowly at first and at last.
    """

    start: float
    end: float
    images: ImageCount
    begin: ImageCountOrNone = 0
    cosine: bool = False

    def at(self, images: int) -> float:
        """The number after so many images."""
        way = min(1.0, max(0, images - self.begin) / self.images)
        return self.start + (self.end - self.start) * ((1 - cos(pi * way)) / 2 if self.cosine else way)

    def times(self, factor: float) -> "Ramp":
        return replace(self, start=factor * self.start, end=factor * self.end)

    def __neg__(self) -> "Ramp":
        return self.times(-1.0)


Number = float | Ramp


def value_at(number: Number, images: int) -> float:
    """A number, or where its ramp is, after so many images."""
    return number.at(images) if isinstance(number, Ramp) else number


def _within(least: float, most: float, *, least_too: bool = True, most_too: bool = True) -> AfterValidator:
    """Refuse ramps that leave the range of the number in whose place they are."""

    def check(ramp: Ramp) -> Ramp:
        for end in (ramp.start, ramp.end):
            if not least <= end <= most or (end == least and not least_too) or (end == most and not most_too):
                raise ValueError(f"expected a ramp within {least:g} … {most:g}")
        return ramp

    return AfterValidator(check)


Weight = NonNegativeFloat | Annotated[Ramp, _within(0.0, inf)]
Positive = PositiveFloat | Annotated[Ramp, _within(0.0, inf, least_too=False)]
Transition = Annotated[Ramp, _within(0.0, 1.0)] | None
Portion = Annotated[float, Field(gt=0, le=1)] | Annotated[Ramp, _within(0.0, 1.0, least_too=False)]
Share = Annotated[float, Field(ge=0, lt=1)] | Annotated[Ramp, _within(0.0, 1.0, most_too=False)]
