"""Recipes: frozen, validated settings from a YAML file, overridden by key=value.

A part (generator, backbone, head, objective) is a name in its table and options, which are the keyword-only arguments
of what the table holds: their defaults live there alone.
"""

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from condgan.data.preprocessing import height_and_width
from condgan.labels import Field as Labeled
from condgan.labels import LabelSpec
from condgan.losses import OBJECTIVES, Regularizers
from condgan.networks import BACKBONES, GENERATORS, HEADS
from condgan.utils.choices import Crop, Precision
from condgan.utils.errors import UserError, unknown
from condgan.utils.options import STRICT

CountOrZero = Annotated[int, Field(ge=0)]


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A name in a table and the options of what it names."""

    name: str
    options: Mapping[str, Any]

    def build(self, table: Mapping[str, Callable], *wiring: Any) -> Any:
        """What the table holds under this name, called with what `build` wires to it and the options."""
        return table[self.name](*wiring, **self.options)


def _part(kind: str, table: Mapping[str, Callable]) -> Callable[[Any], Part]:
    """How to read a part from {name: …, option: …}: checked against the table, every default filled in."""

    def read(given: Any) -> Part:
        if not isinstance(given, Mapping) or "name" not in given:
            raise UserError(f"{kind}: {given!r} given, expected a mapping with the key 'name'")
        if not isinstance(given["name"], str) or given["name"] not in table:
            raise unknown(kind, given["name"], table)
        made = table[given["name"]]
        known = {
            name: parameter.default
            for name, parameter in inspect.signature(made).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        hints = get_type_hints(made.__init__ if inspect.isclass(made) else made, include_extras=True)
        options = dict(known)
        for name, value in given.items():
            if name == "name":
                continue
            if name not in known:
                raise unknown(f"option of the {kind} '{given['name']}'", name, known)
            kinds = [one for one in (hints[name], *get_args(hints[name])) if isinstance(one, type)]
            section = next((one for one in kinds if hasattr(one, "__dataclass_fields__")), None)
            if section is not None and isinstance(value, Mapping):
                check_names(section, value, f"{kind}.{name}.")
            config = None if section is hints[name] else STRICT  # a section brings its own
            try:
                options[name] = TypeAdapter(hints[name], config=config).validate_json(json.dumps(value, default=str))
            except ValidationError as error:
                raise type_error(f"{kind}.{name}", error) from None
        return Part(given["name"], options)

    return read


def _size(given: int | str) -> int | str:
    height_and_width(given)
    return given


@dataclass(frozen=True, config=STRICT)
class Data:
    """What to train on: names (`digits`) or paths, and the size and channels that their images are brought to."""

    size: Annotated[int | str, AfterValidator(_size)]
    """64, or 96x64: width × height."""
    channels: Literal[1, 3, 4]
    source: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Several are trained on together; each image knows the labels of its own."""
    classes: PositiveInt | None = None
    """How many the published data set has: what a dry run without data counts with."""
    attributes: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Which of an attribute file's are labels; by default all."""
    exclusive: tuple[tuple[str, ...], ...] | None = None
    """Groups of them of which an image has one at most; by default neighbors of which each image has exactly one."""
    paired: bool = False
    """Whether images that differ in labels alone are there to compare translations with; see `condgan.read`."""
    background: str = "white"
    """What shows through where images are transparent, and around padded ones."""
    crop: Crop = "center"
    """How pictures of another shape are brought to the size; see `condgan.data.preprocessing.Preprocessing`."""
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of each class that is held out, instead of the data's own test split; a tenth where it has none."""
    root: str | None = None
    """Where data sets that are known by name are looked for, and downloaded to."""
    flip: bool = False
    """Whether half of the images are mirrored, by chance."""
    weights: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] | None = None
    """How often each of several data sets has a turn; alike by default."""
    class_balance: Annotated[float, Field(ge=0, le=1)] = 0.0
    """From 0, classes are seen as often as the data have them, to 1, all alike: in proportion to n ** (1 − this)."""
    pad_crop: CountOrZero = 0
    """By how many pixels images are shifted at most, to any side, by chance; zeros come in (BigGAN on CIFAR: 4)."""
    resident: bool | None = None
    """Whether training images are copied to the device as a whole; by default if they fit into half of its memory."""

    def published_spec(self) -> LabelSpec | None:
        """The labels of the published data set, as far as the recipe knows them."""
        fields = []
        if self.attributes:
            groups = (tuple(name for name in group if name in self.attributes) for group in self.exclusive or ())
            chosen = tuple(group for group in groups if len(group) > 1)
            fields.append(Labeled("attributes", self.attributes, exclusive=False, groups=chosen))
        if self.classes:
            fields.append(Labeled("class", tuple(str(number) for number in range(self.classes))))
        return LabelSpec(tuple(fields)) if fields else None

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,) if isinstance(self.source, str) else self.source or ()


@dataclass(frozen=True, config=STRICT)
class Adam:
    """Adam's settings (Kingma & Ba 2015)."""

    lr: PositiveFloat
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8


@dataclass(frozen=True, config=STRICT)
class Average:
    """The generator's moving average: decay per iteration, and the images before which it is a plain copy."""

    decay: Annotated[float, Field(ge=0, lt=1)]
    start: CountOrZero = 0


@dataclass(frozen=True, config=STRICT)
class Schedule:
    """How long and how often, counted in real images seen by the discriminator."""

    images: PositiveInt
    batch: Annotated[int, Field(ge=2)]
    d_steps: PositiveInt = 1
    g_steps: PositiveInt = 1
    accumulate: PositiveInt = 1
    joint: bool = False
    """Whether real and fake images go through the discriminator as one batch."""
    decay: CountOrZero = 0
    """Over how many last images both learning rates fall linearly to zero."""
    fake_labels: Literal["data", "uniform"] = "data"
    """Where the labels of fakes come from: the training images' own frequencies, or every class alike."""
    init_classifier: CountOrZero = 0
    """Images on which backbone and head first learn to classify alone."""
    log: PositiveInt = 2_000
    sample: PositiveInt = 20_000
    save: PositiveInt = 20_000
    keep_last: Annotated[int, Field(ge=2)] = 2
    """How many checkpoints are kept because they are the latest, and because they score best."""
    keep_best: PositiveInt = 1
    best_by: str = "fd_classifier"
    """The score by which checkpoints are the best; a run begins only if its kind of model has it."""


@dataclass(frozen=True, config=STRICT)
class Compute:
    """How steps are computed, which changes their time and memory, and their results by rounding alone."""

    precision: Precision = "auto"
    """bfloat16 for what networks multiply, where the hardware does it (auto), always, or never; the rest is float32."""
    compile: Literal["auto", True, False] = "auto"
    """torch.compile, which takes a minute or two; auto: in bfloat16, where the run is long enough to gain more."""
    channels_last: bool = True
    """Whether the channels of a pixel lie side by side in memory."""
    fused_optimizers: bool = True
    """Whether Adam updates all weights in one kernel."""
    recompute: bool = False
    """Whether residual blocks keep their inputs alone, and compute the rest again in the backward pass."""
    sync_batch_norm: bool = True
    """Whether the batch norms of several processes see the whole batch, not each process's part of it."""


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """All settings of a run."""

    name: str
    description: str
    data: Data
    generator: Annotated[Part, BeforeValidator(_part("generator", GENERATORS))]
    backbone: Annotated[Part, BeforeValidator(_part("backbone", BACKBONES))]
    head: Annotated[Part, BeforeValidator(_part("head", HEADS))]
    objective: Annotated[Part, BeforeValidator(_part("objective", OBJECTIVES))]
    g_opt: Adam
    d_opt: Adam
    ema: Average
    schedule: Schedule
    compute: Compute = Compute()
    seed: CountOrZero = 0

    def __post_init__(self) -> None:
        batch, parts = self.schedule.batch, self.schedule.accumulate
        if batch % parts or batch < 2 * parts:
            raise UserError(
                f"schedule.batch {batch} given with schedule.accumulate {parts}: "
                "the batch must divide into equal parts of two images or more"
            )
        if self.compute.recompute and self.compute.compile is True:
            raise UserError("compute.recompute and compute.compile given: expected one of them at most")
        if self.schedule.decay > self.schedule.images:
            raise UserError(
                f"schedule.decay {self.schedule.decay} given with schedule.images {self.schedule.images}: rates cannot "
                "fall for longer than that; lower it"
            )
        _require_head(f"objective '{self.objective.name}'", self.head.name, LABEL_HEADS[self.objective.name])
        if self.translates != (self.objective.name in TRANSLATING):
            wanted = "objective stargan" if self.translates else "another objective, or generator stargan"
            raise UserError(
                f"generator '{self.generator.name}' given with objective '{self.objective.name}': expected {wanted}"
            )
        if self.translates and self.schedule.fake_labels != "data":
            raise UserError(
                "schedule.fake_labels uniform given: a translator's targets are its batch's labels, permuted"
            )
        if self.data.weights and self.data.sources and len(self.data.weights) != len(self.data.sources):
            raise UserError(
                f"data.weights of {len(self.data.weights)} data sets given, expected one for each of the "
                f"{len(self.data.sources)} of data.source"
            )
        if self.objective.options["adversarial"] == "wasserstein" and not self.penalties.gradient_penalty:
            raise UserError(
                "objective.adversarial wasserstein given without a gradient penalty, which would diverge: "
                "add objective.penalties.gradient_penalty=10, and spectral_norm=null to backbone and head"
            )
        if self.schedule.init_classifier:
            _require_head("schedule.init_classifier", self.head.name, CLASSIFIERS)

    @property
    def conditional(self) -> bool:
        """Whether the discriminator looks at labels."""
        return self.head.name != "plain"

    @property
    def translates(self) -> bool:
        """Whether it learns image → image."""
        return getattr(GENERATORS[self.generator.name], "latent_dim", 0) is None

    @property
    def penalties(self) -> Regularizers:
        return self.objective.options["penalties"]


LABEL_HEADS = {
    "acgan": ("classifier", "twin"),
    "gan": ("projection", "plain"),
    "stargan": ("domain", "classifier"),
    "tacgan": ("twin",),
}
"""The heads whose outputs an objective reads."""

TRANSLATING = ("stargan",)
"""The objectives of translators."""

CLASSIFIERS = ("classifier", "domain", "twin")
"""The heads that read labels."""


def _require_head(what: str, head: str, wanted: tuple[str, ...]) -> None:
    if head not in wanted:
        raise UserError(f"head '{head}' given with {what}: expected {' or '.join(wanted)}; set head.name={wanted[0]}")


def check_names(cls: type, tree: Mapping[str, Any], prefix: str) -> None:
    """Unknown and missing options, before pydantic looks at their types."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in tree:
        if key not in fields:
            raise unknown("option", f"{prefix}{key}", [f"{prefix}{name}" for name in fields])
    for name, field in fields.items():
        if name in tree and isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            if not isinstance(tree[name], Mapping):
                raise UserError(
                    f"option {prefix}{name}: {tree[name]!r} given, expected a section with "
                    + ", ".join(inner.name for inner in dataclasses.fields(field.type))
                )
            check_names(field.type, tree[name], f"{prefix}{name}.")
        elif name not in tree and field.default is dataclasses.MISSING:
            raise UserError(f"option {prefix}{name} is missing: the recipe must set it")


def type_error(where: str, error: ValidationError) -> UserError:
    first = error.errors()[0]
    expected = first["msg"].replace("Input should be", "expected", 1)
    return UserError(f"option {where}: {first['input']!r} given, {expected}")
