"""How options are read: strictly, so that a typo or a wrong type is told, and none beyond what can be trained."""

from typing import Annotated

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Width = Annotated[int, Field(ge=1, le=1 << 16)]
"""Channels, features or latents: what such numbers multiply to is still a size that a tensor can have."""
Depth = Annotated[int, Field(ge=1, le=64)]
"""Layers, or what each step does one after the other."""
Fraction = Annotated[float, Field(ge=0, le=1)]
WIDTH_LIMITS = 0.005, 0.28
"""Of an average over training, relative to it: all weights alike would have 0.289."""
AverageWidth = Annotated[float, Field(ge=WIDTH_LIMITS[0], le=WIDTH_LIMITS[1])]
ImageCount = Annotated[int, Field(ge=1, le=10**12)]
ImageCountOrNone = Annotated[int, Field(ge=0, le=10**12)]
Text = Annotated[str, Field(max_length=4096)]
"""A path, or words for people."""
LabelName = Annotated[str, Field(max_length=255)]
