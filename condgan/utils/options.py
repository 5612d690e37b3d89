"""How options are read: strictly, so that a typo or a wrong type is told."""

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
