"""What the JSON files of a run directory must look like to be read: they may be damaged, or somebody else's."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, StringConstraints, ValidationError, model_validator

from condgan.utils.errors import said_of
from condgan.utils.files import found, read_bytes
from condgan.utils.limits import TABLE

Count = Annotated[int, Field(ge=0, lt=2**63)]
Pair = Annotated[tuple[float, float], Strict(False)]
Numbers = dict[str, int | float | None]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class DataRecord(_Part):
    """The data of a run, as they were when it began."""

    sha256: str
    train: Count
    held_out: Count
    classes: list[str]
    skipped: list[str]


class Start(_Part):
    """A time that a run was begun or resumed."""

    command: str
    commit: str | None = None
    threads: Annotated[int, Field(ge=1, le=1 << 16)] | None = None
    processes: Count = 1
    gpu: str | None = None


class Environment(Start):
    """environment.json: where a run began, and with what."""

    data: DataRecord
    condgan: str
    python: str
    packages: dict[str, str]
    platform: str
    cpu: str
    resumed: list[Start] = []


class Row(_Part):
    """The numbers of a class, of a data set or of an attribute."""

    __pydantic_extra__: Numbers  # pyright: ignore[reportIncompatibleVariableOverride]
    judged: dict[str, Count] = {}
    real: Numbers = {}
    across: Numbers = {}


class Measured(_Part):
    """How numbers were measured."""

    checkpoint: Annotated[str, StringConstraints(pattern="^[0-9]{1,18}$")] | None = None
    warnings: list[str] = []


class Metrics(_Part):
    """metrics.json, and those of other extractors."""

    __pydantic_extra__: Numbers  # pyright: ignore[reportIncompatibleVariableOverride]
    real: Numbers = {}
    across: Numbers = {}
    intervals: dict[str, Pair] = {}
    per_class: dict[str, Row] = {}
    per_field: dict[str, Row] = {}
    per_attribute: dict[str, Row] = {}
    about: Measured = Measured()
    verdict: list[str] = []


class MeanAndSpread(_Part):
    """Accuracies over seeds."""

    mean: float
    std: float


class ArmRecord(_Part):
    """Classifiers that learned from the same kind of images."""

    balanced: MeanAndSpread
    accuracy: MeanAndSpread
    per_class: dict[str, MeanAndSpread]


class Gain(_Part):
    """What fakes, or augmentation, change."""

    difference: float
    interval: Pair
    verdict: Literal["helps", "hurts", "no difference", "no better than augmentation"]


class MixtureRecord(_Part):
    """Fakes that joined the real images."""

    ratio: float | Literal["balance"]
    selection: str
    truncation: float | None


class TrialRecord(MixtureRecord):
    """What they changed, on validation images, in a round of the search."""

    round: Count
    seeds: Count
    difference: float


class ChosenRecord(MixtureRecord):
    """Those that were judged."""

    counts: dict[str, Count]


class Utility(Gain):
    """utility.json."""

    advice: str
    baseline: str
    augmentation: str
    seeds: Count
    n_real: Count
    n_fakes: Count
    n_validation: Count
    n_test: Count
    chosen: ChosenRecord
    baselines: dict[str, float]
    """Balanced accuracies on validation images."""
    search: list[TrialRecord]
    arms: dict[str, ArmRecord]
    comparisons: dict[str, Gain]
    per_class: dict[str, Gain]

    @model_validator(mode="after")
    def _complete(self) -> "Utility":
        for arm in (self.baseline, self.mixed):
            if arm not in self.arms:
                raise ValueError(f"no arm '{arm}'")
            if missing := self.per_class.keys() - self.arms[arm].per_class.keys():
                raise ValueError(f"class '{min(missing)}' has no accuracy")
        return self

    @property
    def mixed(self) -> str:
        """The baseline with fakes."""
        return f"{self.baseline}+fakes"


Schema = TypeVar("Schema", bound=BaseModel)


def read_as(path: Path, schema: type[Schema], do: str) -> Schema | None:
    """What a file says, None where there is none. Raises UserError for a damaged one, with what to do."""
    if not found(path):
        return None
    with said_of(f"'{path}'", do, ValueError):
        return understood(read_bytes(path, TABLE), schema)


def environment_of(directory: Path) -> Environment | None:
    """What a run says of where it began, if it says so."""
    return read_as(directory / "environment.json", Environment, "put it back, or start over with --fresh")


def last_threads(directory: Path) -> int | None:
    """How many threads of a CPU trained a run last, where it was one process."""
    began = environment_of(directory)
    last = None if began is None else [began, *began.resumed][-1]
    return None if last is None or last.gpu is not None or last.processes != 1 else last.threads


def understood(text: bytes, schema: type[Schema]) -> Schema:
    """What a text of JSON says. Raises ValueError with the first thing that it has wrong, and where."""
    try:
        return schema.model_validate(json.loads(text))  # not pydantic's reader: names of files may be no text
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def tree_of(part: BaseModel | None) -> dict[str, Any]:
    """What a file said, as it was; nothing where there was none."""
    return {} if part is None else part.model_dump(exclude_unset=True)
