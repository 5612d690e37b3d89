"""Recipes: frozen, validated settings from a YAML file, overridden by key=value.

A part (generator, backbone, head, objective) is a name in its table and options, which are the keyword-only arguments
of what the table holds: their defaults live there alone.
"""

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from condgan.augment import AUGMENTATIONS
from condgan.data.preprocessing import color, height_and_width
from condgan.labels import Field as Labeled
from condgan.labels import LabelSpec
from condgan.losses import OBJECTIVES, SIGNED, Objective, Penalties
from condgan.networks import BACKBONES, GENERATORS, HEADS
from condgan.optimizers import OPTIMIZERS
from condgan.schedules import Positive
from condgan.types import Head
from condgan.utils.choices import Crop, Precision
from condgan.utils.errors import UserError, repeated, shown, unknown
from condgan.utils.files import LONGEST_NAME, is_name
from condgan.utils.options import STRICT, AverageWidth, Depth, Fraction, ImageCount, ImageCountOrNone, LabelName, Text


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A name in a table and the options of what it names."""

    name: str
    options: Mapping[str, Any]

    def build(self, table: Mapping[str, Callable], *wiring: Any) -> Any:
        """Call what the table holds under this name, with what `build` wires to it and the options."""
        return table[self.name](*wiring, **self.options)


def _part(kind: str, table: Mapping[str, Callable], default: str | None = None) -> Callable[[Any], Part]:
    """How to read a part from {name: …, option: …}: checked against the table, every default filled in.

    `default`: the name where none is given.
    """

    def read(given: Any) -> Part:
        if isinstance(given, Mapping) and default is not None:
            given = {"name": default, **given}
        if not isinstance(given, Mapping) or "name" not in given:
            raise UserError(f"{kind}: {shown(repr(given))} given, expected a mapping with the key 'name'")
        if not isinstance(given["name"], str) or given["name"] not in table:
            raise unknown(kind, given["name"], table)
        known, hints = _options(table[given["name"]])
        options = dict(known)
        for name, value in given.items():
            if name == "name":
                continue
            if name not in known and default is not None:
                raise unknown("option", f"{kind}.{name}", [f"{kind}.{one}" for one in known])
            if name not in known:
                raise unknown(f"option of the {kind} '{given['name']}'", name, known)
            options[name] = _option(f"{kind}.{name}", hints[name], value)
        if missing := next((name for name, value in options.items() if value is inspect.Parameter.empty), None):
            raise UserError(f"option {kind}.{missing} is missing: the recipe must set it")
        return Part(given["name"], options)

    return read


def _options(made: Callable) -> tuple[dict[str, Any], dict[str, Any]]:
    """The defaults and types of a part's options: of its keyword-only arguments, and those of its `finish`."""
    known, hints = {}, {}
    for one in (made, getattr(made, "finish", None)):
        if one is None:
            continue
        for name, parameter in inspect.signature(one).parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                known[name] = parameter.default
        hints |= get_type_hints(one.__init__ if inspect.isclass(one) else one, include_extras=True)
    return known, hints


def _option(where: str, hint: Any, value: Any) -> Any:
    """An option's value, of its type. Raises UserError for another one."""
    kinds = [get_args(one)[0] if get_origin(one) is Annotated else one for one in (hint, *get_args(hint))]
    section = next((one for one in kinds if isinstance(one, type) and dataclasses.is_dataclass(one)), None)
    if section is not None and isinstance(value, Mapping):
        check_names(section, value, f"{where}.")
    config = None if section is hint else STRICT  # a section brings its own
    try:
        return TypeAdapter(hint, config=config).validate_json(json.dumps(value))
    except ValidationError as error:
        raise type_error(where, error) from None


def _size(given: int | str) -> int | str:
    height_and_width(given)
    return given


def _background(given: str) -> str:
    color(given)
    return given


def _name(given: str) -> str:
    """Refuse what cannot be called the name of a folder: what leads elsewhere, what nobody sees, what is too long."""
    if is_name(given):
        return given
    raise UserError(
        f"name '{shown(given)}' given: expected one that its folder can have, without / and \\, of 1 to {LONGEST_NAME} "
        "bytes; set name=…"
    )


@dataclass(frozen=True, config=STRICT)
class Data:
    """The data to train on: names (`digits`) or paths, and the size and channels that their images are brought to."""

    size: Annotated[int | str, AfterValidator(_size)]
    """64, or 96x64: width × height."""
    channels: Literal[1, 3, 4]
    source: Text | Annotated[tuple[Text, ...], Field(min_length=1, max_length=100)] | None = None
    """Several are trained on together; each image knows the labels of its own."""
    classes: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """How many the published data set has: what a dry run without data counts with."""
    attributes: Annotated[tuple[LabelName, ...], Field(min_length=1, max_length=10_000)] | None = None
    """Which of an attribute file's are labels; by default all."""
    exclusive: tuple[tuple[LabelName, ...], ...] | None = None
    """Groups of them of which an image has one at most; by default neighbors of which each image has exactly one."""
    number: LabelName | None = None
    """The column of a table beside the images whose numbers are the labels, such as an age."""
    vicinity: Fraction | None = None
    """How near numbers count as the same while training, as a share of their range; by default such that half of the
    images have 50 in theirs (Ding et al. 2021, §3: κ)."""
    hard_vicinity: bool = False
    """Whether all that are so near count alike, instead of less and less."""
    paired: bool = False
    """Whether images that differ in labels alone are there to compare translations with; see `condgan.read`."""
    background: Annotated[str, AfterValidator(_background)] = "white"
    """The color that shows through where images are transparent, and around padded ones."""
    crop: Crop = "center"
    """How pictures of another shape are brought to the size; see `condgan.data.preprocessing.Preprocessing`."""
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of each class that is held out, instead of the data's own test split; a tenth where it has none."""
    root: Text | None = None
    """Where data sets that are known by name are looked for, and downloaded to."""
    flip: bool = False
    """Whether half of the images are mirrored, by chance."""
    weights: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=100)] | None = None
    """How often each of several data sets has a turn; alike by default."""
    class_balance: Fraction = 0.0
    """From 0, classes are seen as often as the data have them, to 1, all alike: in proportion to n ** (1 − this)."""
    pad_crop: Annotated[int, Field(ge=0, le=4096)] = 0
    """By how many pixels images are shifted at most, to any side, by chance; zeros come in (BigGAN on CIFAR: 4)."""
    resident: bool | None = None
    """Whether training images are copied to the device as a whole; by default if they fit into half of its memory."""
    stream: bool = False
    """Whether pictures are decoded each time that they are seen, instead of once into the cache; see `condgan.read`."""

    def published_spec(self) -> LabelSpec | None:
        """The labels of the published data set, as far as the recipe knows them."""
        fields = []
        if self.attributes:
            there = set(self.attributes)
            groups = (tuple(name for name in group if name in there) for group in self.exclusive or ())
            chosen = tuple(group for group in groups if len(group) > 1)
            fields.append(Labeled("attributes", self.attributes, exclusive=False, groups=chosen))
        if self.classes:
            fields.append(Labeled("class", tuple(str(number) for number in range(self.classes))))
        return LabelSpec(tuple(fields)) if fields else None

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,) if isinstance(self.source, str) else self.source or ()


@dataclass(frozen=True, config=STRICT)
class Average:
    """A moving average of the generator: its decay per iteration, or the images after which half of it is new, or how
    its weights spread over time, as a share of the training so far."""

    decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    half_life: Positive | None = None
    width: AverageWidth | None = None
    start: ImageCountOrNone = 0
    """Images before which it is a plain copy."""

    def __post_init__(self) -> None:
        given = [name for name in ("decay", "half_life", "width") if getattr(self, name) is not None]
        if len(given) != 1:
            told = " and ".join(given) or "none"
            raise UserError(f"{told} of decay, half_life and width of an average given: expected one of them")
        if self.width is not None and self.start:
            raise UserError(
                f"start {self.start} of an average given with width {self.width:g}, which grows from the first image "
                "on: expected 0"
            )


@dataclass(frozen=True, config=STRICT)
class Schedule:
    """How long and how often, counted in real images seen by the discriminator."""

    images: ImageCount
    batch: Annotated[int, Field(ge=2, le=1 << 20)]
    d_steps: Depth = 1
    g_steps: Depth = 1
    accumulate: Annotated[int, Field(ge=1, le=1 << 19)] = 1
    joint: bool = False
    """Whether real and fake images go through the discriminator as one batch."""
    decay: ImageCountOrNone = 0
    """Over how many last images both learning rates fall linearly to zero."""
    fake_labels: Literal["data", "uniform", "batch"] = "data"
    """Where the labels of fakes come from: the training images' own frequencies, every class alike, or the images of
    the batch one by one, so that a real image and the fake at its place have one label."""
    init_classifier: ImageCountOrNone = 0
    """Images on which backbone and head first learn to classify alone."""
    log: ImageCount = 2_000
    sample: ImageCount = 20_000
    save: ImageCount = 20_000
    keep_last: Annotated[int, Field(ge=2, le=10**6)] = 2
    """How many checkpoints are kept because they are the latest, and because they score best."""
    keep_best: Annotated[int, Field(ge=1, le=10**6)] = 1
    best_by: str = "fd_classifier"
    """The score by which checkpoints are the best; a run begins only if its kind of model has it."""
    patience: ImageCount | None = None
    """Images without a better score after which a run ends; by default it goes on to its last image."""


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
class Transfer:
    """The run whose weights a run begins with, and what it keeps of them."""

    run: Text | None = None
    """Its directory, for the best checkpoint, or that of one of its checkpoints."""
    frozen: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many of the backbone's lowest stages stay as they were there (FreezeD: Mo et al. 2020)."""

    def __post_init__(self) -> None:
        if self.frozen and self.run is None:
            raise UserError(f"transfer.frozen {self.frozen} given without a run whose weights to keep: add --from RUN")


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """All settings of a run."""

    name: Annotated[str, AfterValidator(_name)]
    description: Text
    data: Data
    generator: Annotated[Part, BeforeValidator(_part("generator", GENERATORS))]
    backbone: Annotated[Part, BeforeValidator(_part("backbone", BACKBONES))]
    head: Annotated[Part, BeforeValidator(_part("head", HEADS))]
    objective: Annotated[Part, BeforeValidator(_part("objective", OBJECTIVES))]
    g_opt: Annotated[Part, BeforeValidator(_part("g_opt", OPTIMIZERS, default="adam"))]
    d_opt: Annotated[Part, BeforeValidator(_part("d_opt", OPTIMIZERS, default="adam"))]
    ema: Average
    schedule: Schedule
    augment: Annotated[Part, BeforeValidator(_part("augment", AUGMENTATIONS))] = Part("none", {})
    averages: Annotated[Mapping[str, Average], Field(max_length=16)] = dataclasses.field(default_factory=dict)
    """More averages of the generator, by name; each is saved with the run."""
    transfer: Transfer = Transfer()
    compute: Compute = Compute()
    seed: Annotated[int, Field(ge=0, lt=1 << 64)] = 0

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
                f"schedule.decay {self.schedule.decay} given with schedule.images {self.schedule.images}: learning "
                f"rates cannot fall for longer than that; set schedule.decay={self.schedule.images // 2} or less"
            )
        if self.schedule.decay and self.schedule.patience is not None:
            raise UserError(
                f"schedule.patience {self.schedule.patience} given with schedule.decay {self.schedule.decay}, whose "
                "rates fall toward an end that is known: expected one of them; set schedule.patience=null or "
                "schedule.decay=0"
            )
        objective: Objective = self.objective.build(OBJECTIVES)
        _require_outputs(f"objective '{self.objective.name}'", self.head.name, objective.reads)
        if self.translates != objective.translates:
            wanted = "objective stargan" if self.translates else "another objective, or generator stargan"
            raise UserError(
                f"generator '{self.generator.name}' given with objective '{self.objective.name}': expected {wanted}"
            )
        if objective.of_batch and parts > 1:
            raise UserError(
                f"schedule.accumulate {parts} given with objective '{self.objective.name}', which compares the images "
                "of a batch with each other: expected 1"
            )
        if self.translates and self.schedule.fake_labels != "data":
            raise UserError(
                f"schedule.fake_labels {self.schedule.fake_labels} given: a translator's targets are its batch's "
                "labels, permuted"
            )
        if self.data.weights and self.data.sources and len(self.data.weights) != len(self.data.sources):
            raise UserError(
                f"data.weights of {len(self.data.weights)} data sets given, expected one for each of the "
                f"{len(self.data.sources)} of data.source"
            )
        game = self.objective.options.get("adversarial")
        if self.augment.name == "ada" and game is not None and game not in SIGNED:
            raise UserError(
                f"augment.name ada given with objective.adversarial {game}, whose scores tell by no sign what looks "
                f"real: expected {' or '.join(SIGNED)}, or augment.name=diffaugment"
            )
        if game == "wasserstein" and not self.penalties.gradient_penalty:
            raise UserError(
                "objective.adversarial wasserstein given without a gradient penalty, which would diverge: "
                "add objective.penalties.gradient_penalty=10, and spectral_norm=null to backbone and head"
            )
        how = self.generator.options.get("conditioning")
        if self.penalties.spectral_groups and how != "own":
            given = self.generator.name if how is None else f"{self.generator.name}' and conditioning '{how}"
            raise UserError(
                f"objective.penalties.spectral_groups given with generator '{given}', whose norms have no tables "
                "of the label: set generator.conditioning=own, with generator resnet or light"
            )
        if objective.transition and how == "none":
            raise UserError(
                "objective.transition given with generator.conditioning 'none', which knows no labels: leave one out"
            )
        if objective.transition and how == "multiply":
            raise UserError(
                "objective.transition given with generator.conditioning 'multiply', which would multiply latents by 0: "
                "set generator.conditioning=add"
            )
        if self.schedule.init_classifier:
            _require_outputs("schedule.init_classifier", self.head.name, ("logits",))
        reserved = {"ema", "generator", "discriminator", "augment", *objective.trackers}
        lower = [name.lower() for name in self.averages]  # since some file systems tell no case
        names = all(name.isidentifier() and is_name(name) for name in self.averages)
        if repeated([*lower, *map(str.lower, reserved)]) or not names:
            raise UserError(
                f"averages {shown(', '.join(self.averages))} given: expected names of letters, digits and _, but not "
                f"{', '.join(sorted(reserved))}"
            )

    @property
    def conditional(self) -> bool:
        """Whether the discriminator looks at labels."""
        return HEADS[self.head.name].conditional

    @property
    def translates(self) -> bool:
        """Whether it learns image → image."""
        return getattr(GENERATORS[self.generator.name], "latent_dim", 0) is None

    @property
    def penalties(self) -> Penalties:
        return self.objective.options.get("penalties", Penalties())


def _require_outputs(what: str, head: str, wanted: tuple[str, ...]) -> None:
    """Refuse a head that lacks what is read of it, or one whose outputs nobody would read."""

    def fits(head: type[Head]) -> bool:
        given = {*head.outputs, *head.scores}
        return {*wanted} <= given and bool({*wanted} - {*head.scores}) == bool(head.outputs)

    fitting = [name for name, one in HEADS.items() if fits(one)]
    fitting.sort(key=lambda name: (len(HEADS[name].outputs), not HEADS[name].conditional))
    if not fitting:
        raise UserError(f"{what} given, which reads {', '.join(wanted)}: no head gives that; add one to HEADS")
    if head not in fitting:
        raise UserError(f"head '{head}' given with {what}: expected {' or '.join(fitting)}; set head.name={fitting[0]}")


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
                    f"option {prefix}{name}: {shown(repr(tree[name]))} given, expected a section with "
                    + ", ".join(inner.name for inner in dataclasses.fields(field.type))
                )
            check_names(field.type, tree[name], f"{prefix}{name}.")
        elif name == "averages" and name in tree and isinstance(tree[name], Mapping):
            for one, inner in tree[name].items():
                check_names(Average, inner if isinstance(inner, Mapping) else {}, f"{prefix}{name}.{one}.")
        elif name not in tree and field.default is field.default_factory is dataclasses.MISSING:
            raise UserError(f"option {prefix}{name} is missing: the recipe must set it")


def type_error(where: str, error: ValidationError) -> UserError:
    """The first thing that is wrong with an option, or with one inside; of a ramp what is wrong with it as a ramp."""
    found = error.errors()
    of_ramp = [one for one in found if one["type"] != "float_type"] if isinstance(found[0]["input"], Mapping) else []
    first = (of_ramp or found)[0]
    inner = [part for part in first["loc"] if isinstance(part, str) and part.isidentifier() and part not in KINDS]
    expected = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected", 1)
    name = ".".join([where, *inner] if where else inner)
    return UserError(f"option {name}: {shown(repr(first['input']))} given, {expected}")


KINDS = ("Ramp", "float", "int", "str", "bool")
"""How pydantic names the kinds that a value may be of."""
