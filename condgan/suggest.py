"""Choose a recipe from a first look at the data, from the clock and the machine, and say why that one."""

import json
import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from posixpath import basename
from typing import NamedTuple

import torch

from condgan import timing
from condgan.data.glance import Glance, glance, share_in_place
from condgan.data.listing import Listing
from condgan.data.mirror import Mirrored, tell_mirrored
from condgan.data.open import list_source
from condgan.data.preprocessing import height_and_width
from condgan.data.survey import Survey, quick_look
from condgan.estimate import estimate_memory
from condgan.labels import LabelSpec
from condgan.losses import SIGNED
from condgan.recipes.load import load
from condgan.recipes.schema import Average, Recipe, Schedule
from condgan.utils import distributed
from condgan.utils.device import device, lacks_memory
from condgan.utils.errors import UserError
from condgan.utils.files import file_names, is_name

MINUTES = {"cpu": 20.0, "cuda": 180.0}
"""How long training takes where nobody says, by the kind of device."""
SHARE = 0.7
"""Of a device's memory, what training may take."""
LEARNED_BY_HEART = 100
"""How often each image is seen for a discriminator to learn them by heart."""
LOOSE = 0.2
"""The share of the pixels' variance in the mean image below which what images show has no place of its own."""
WIDTHS = frozenset({"generator.width", "backbone.width"})
WAITS = 0.4
"""The share of a run without a better score after which it ends."""


class Choice(NamedTuple):
    """Settings of a recipe, and the reason for them."""

    settings: Sequence[str]
    reason: str


class Suggestion(NamedTuple):
    """A recipe, lines that say what was measured and why it is this one, and its speed."""

    recipe: Recipe
    lines: list[str]
    speed: float
    """Images of training in a second."""


class Rung(NamedTuple):
    """Networks of a size in pixels and of a share of the recipe's width, and the training that they are worth.

    They are chosen where the time is enough for at least so many images of training.
    """

    size: int
    width: float
    images: int


LADDER = (
    Rung(16, 1, 0),
    Rung(32, 0.5, 30_000),
    Rung(32, 1, 60_000),
    Rung(64, 1, 80_000),
    Rung(64, 2, 500_000),
    Rung(128, 1, 500_000),
    Rung(256, 1, 2_000_000),
)
"""From small to large; it is climbed as far as pictures and time reach. Each costs more than the one before."""


class Facts(NamedTuple):
    """What is known of the images to train on, as far as rules ask for it."""

    images: int
    classes: int
    per_class: float
    """Images of a class in the mean."""
    fewest: int
    """Images of a class at least, and at most."""
    most: int
    exclusive: bool
    gray: bool
    ground: str
    """What becomes of transparent pixels, where there are any."""
    translates: bool
    paired: bool
    """Whether every class has files of the same names."""
    light: bool
    """Whether the discriminator is a light one, as soon as it is chosen; False before."""
    signed: bool
    """Whether scores are above 0 for real and below for fake images, as soon as losses are chosen; False before."""
    hierarchical: bool
    """Whether the recipe to start from has a hierarchical latent."""
    stated: frozenset[str]
    """The parts of the recipe about which something was said, such as augment."""
    trained: int
    """Images of training that there is time for, as soon as networks are chosen; 0 before."""
    mirrored: Mirrored | None
    """How many mirrored images were told from the originals; None where nobody tried, or they are too few."""
    in_place: float
    """How much of the pixels' variance is that of the mean image."""

    @property
    def by_heart(self) -> bool:
        """Whether a discriminator would learn images by heart."""
        return self.repeats >= LEARNED_BY_HEART

    @property
    def penalized(self) -> bool:
        """Whether a penalty is chosen against that."""
        return self.by_heart and self.light and "objective" not in self.stated

    @property
    def repeats(self) -> float:
        """How often each image is seen."""
        return self.trained / self.images

    @property
    def told(self) -> str:
        return "" if self.mirrored is None else f"{self.mirrored.share:.0%} of {self.mirrored.of:,}"


class Rule(NamedTuple):
    """Where it applies, some settings are chosen for a reason; the facts are filled into both."""

    applies: Callable[[Facts], bool]
    settings: Sequence[str]
    reason: str


RULES = (
    Rule(lambda facts: facts.gray, ["data.channels=1"], "gray, since no picture has colors{ground}"),
    Rule(lambda facts: not facts.gray, ["data.channels=3"], "RGB, since pictures have colors{ground}"),
    Rule(
        lambda facts: facts.exclusive and facts.classes == 1,
        ["head.name=plain", "generator.conditioning=none"],
        "without labels, since there is one class only",
    ),
    Rule(
        lambda facts: facts.exclusive and facts.classes == 1 and facts.hierarchical,
        ["generator.hierarchical=false"],
        "a latent in one piece, since the pieces go with labels",
    ),
    Rule(
        lambda facts: facts.exclusive and 5 * facts.fewest < facts.most and facts.fewest > 0,
        ["data.class_balance=0.5"],
        "rare classes more often (data.class_balance=0.5), since counts go from {fewest:,} to {most:,}",
    ),
    Rule(
        lambda facts: facts.translates and facts.exclusive and facts.paired,
        ["data.paired=true"],
        "data.paired=true, since every class has files of the same names: translations are compared with them",
    ),
    Rule(
        lambda facts: facts.mirrored is not None and facts.mirrored.alike,
        ["data.flip=true"],
        "flips (data.flip=true), since few mirrored images look different: a network tells {told}, half by chance",
    ),
    Rule(
        lambda facts: facts.mirrored is not None and not facts.mirrored.alike,
        ["data.flip=false"],
        "no flips, since mirrored images look different: a network tells {told}",
    ),
    Rule(
        lambda facts: facts.mirrored is None,
        ["data.flip=false"],
        "no flips, since {images:,} images are too few to tell whether mirrored ones look like them",
    ),
)  # fmt: skip
"""What is chosen for what, before networks are."""

FOR_REPEATED = (
    Rule(
        lambda facts: facts.penalized and facts.in_place < LOOSE,
        ["objective.penalties.consistency=10"],
        "a penalty on other scores of shifted images (objective.penalties.consistency=10), since each image is seen "
        "{repeats:.0f} times, a discriminator learns them by heart, and what they show is now here, now there",
    ),
    Rule(
        lambda facts: facts.penalized and facts.in_place >= LOOSE,
        ["objective.penalties.approximate_r1=1"],
        "a penalty on steep scores (objective.penalties.approximate_r1=1), since each image is seen {repeats:.0f} "
        "times, a discriminator learns them by heart, and what they show has its place",
    ),
    Rule(
        lambda facts: (
            facts.by_heart and facts.signed and not (facts.penalized or facts.translates or "augment" in facts.stated)
        ),
        ["augment={{name: ada, images: {half}, color: false}}"],
        "images turned, shifted and stretched (augment.name=ada) as far as the discriminator knows them by heart: each "
        "is seen {repeats:.0f} times",
    ),
)
"""What is chosen for images that are seen again and again in the time that there is."""

EXPECTATIONS = (
    (
        lambda facts: facts.translates and not facts.exclusive,
        "to make new images with these attributes instead, give the recipe any-projection",
    ),
    (
        lambda facts: not facts.translates and facts.per_class < 50,
        "expect copies of your pictures and little variety: {per_class:.0f} images a class to train on are few, and "
        "many methods fail below 50",
    ),
    (
        lambda facts: facts.paired and not facts.translates and facts.classes > 1,
        "every class has files of the same names: if those of a name show the same thing, --translate (any-stargan "
        "with data.paired=true) learns to turn one class into another",
    ),
)
"""What is said of the data beside, where it applies."""


def look_at_data(sources: Sequence[str], overrides: Sequence[str], translate: bool = False) -> Survey:
    """Take a quick look at a data set, listed as the recipe with these overrides would.

    Raises UserError for several data sets, which no recipe is chosen for, and where no picture can be read.
    """
    if len(sources) > 1:
        raise UserError("--data given twice without a recipe: choose one that learns from several, such as any-stargan")
    stated = load("any-projection", [one for one in overrides if one.startswith("data.")]).data
    listing = list_source(sources[0], stated.root, stated.held_out, stated.paired, stated.number)
    if translate and not stated.paired and _same_names(listing):
        listing = list_source(sources[0], stated.root, stated.held_out, paired=True)
    look = quick_look(listing)
    if not look.readable:
        raise UserError(f"no picture of '{sources[0]}' can be read: {look.unreadable[0]}")
    return look


def choose_recipe(
    look: Survey, source: str, overrides: Sequence[str], minutes: float | None = None, translate: bool = False
) -> Suggestion:
    """A recipe for a data set on this machine, to be trained in so many minutes; overrides are kept in any case.

    By default in `MINUTES`. Some iterations of training are timed. Raises UserError for a single class to translate.
    """
    minutes = MINUTES[device().type] if minutes is None else minutes
    field = look.listing.labels.spec.fields[0]
    if translate and field.exclusive and len(field.values) == 1:
        raise UserError("--translate given with images of one class: expected two classes or more, or attributes")
    stated = {one.partition("=")[0] for one in overrides}
    if translate and field.range is not None:
        raise UserError(f"--translate given with the number '{field.name}': expected classes or attributes")
    lacking = look.listing.labels.partial
    if translate and lacking:
        raise UserError("--translate given with images whose labels are not all known, which a translator needs")
    name, reason = _base(field.exclusive or field.range is not None or lacking, translate)
    base = load(name)
    facts = _facts(look, base, stated)
    chosen = [Choice([], reason)]
    chosen += _filled_in([rule for rule in RULES if rule.applies(facts)], facts)
    settings = [
        named_after(source),
        f"description={json.dumps(description(source, minutes))}",
        f"data.source={json.dumps(source)}",
    ]
    settings += [one for choice in chosen for one in choice.settings]
    networks, speed, measured = _climb(base, look, settings, overrides, minutes)
    settings += networks.settings
    chosen.append(networks)
    if device().type == "cuda" and "schedule.batch" not in stated:
        smaller = _batches_that_fit(load(name, [*settings, *overrides]), look.listing.labels.spec)
        settings += [one for choice in smaller for one in choice.settings]
        chosen += smaller
    how_long = partial(_length, base.schedule, minutes, stated="schedule.images" in stated)
    length = how_long(load(name, [*settings, *overrides]), speed)
    recipe = load(name, [*settings, *length.settings, *overrides])
    facts = facts._replace(
        trained=recipe.schedule.images,
        light=recipe.backbone.name == "light",
        signed=recipe.objective.options.get("adversarial") in SIGNED,
    )
    if rules := [rule for rule in FOR_REPEATED if rule.applies(facts)]:
        changed = [one for choice in _filled_in(rules, facts) for one in choice.settings]
        speed = timing.images_per_second(load(name, [*settings, *changed, *overrides]), look.listing.labels.spec)
        length = how_long(load(name, [*settings, *changed, *overrides]), speed)
        facts = facts._replace(trained=load(name, [*settings, *length.settings, *overrides]).schedule.images)
        repeated = _filled_in(rules, facts)
        chosen += repeated
        settings += [one for choice in repeated for one in choice.settings]
        recipe = load(name, [*settings, *length.settings, *overrides])
    own = [one for one in [*chosen, length] if not _is_stated(one, stated)]
    takes = timing.in_words(timing.minutes_for(recipe.schedule.images, speed))
    lines = [
        f"measured       {measured}",
        *(f"chose          {one.reason}" for one in own),
        f"takes          {takes} on this machine, or less where images get no better",
        *(f"note           {_filled(said, facts)}" for applies, said in EXPECTATIONS if applies(facts)),
    ]
    return Suggestion(recipe, lines, speed)


def _in_minutes(minutes: float) -> str:
    return f"{minutes:g} minute{'s' * (minutes != 1)}"


def description(source: str, minutes: float) -> str:
    """The description of a recipe that was chosen for a data set and so many minutes."""
    return f"chosen for '{run_name(Path(source).stem)}' and {_in_minutes(minutes)}"


def run_name(stem: str) -> str:
    """What a run is called that learns from a folder or file of this name."""
    return next((name for name in (stem, *file_names([stem])) if is_name(name)), "data")


def named_after(source: str) -> str:
    """The setting by which a run is called as its data are."""
    return f"name={json.dumps(run_name(Path(source).stem))}"


def patience(images: int) -> str:
    """The setting by which a run of so many images ends where it gets no better."""
    return f"schedule.patience={two_digits(WAITS * images)}"


def two_digits(count: float | int) -> int:
    """A count rounded to two digits, at least 1."""
    return max(1, int(float(f"{count:.1e}")))


def _base(generated: bool, translate: bool) -> tuple[str, str]:
    """The recipe to start from, and why; `generated`: of classes, a number, or labels that are not all known."""
    if not generated:
        return "any-stargan", "any-stargan, since images have attributes, which translators learn"
    if translate:
        return "any-stargan", "any-stargan, since --translate asks for a translator"
    if device().type == "cuda":
        there = torch.cuda.get_device_name()
        return "any-biggan", f"any-biggan, since there is a {there}: its small BigGAN suits one"
    return "any-projection", (
        "any-projection, since there is no GPU here: its small networks train in minutes on a CPU"
    )


def _facts(look: Survey, base: Recipe, stated: Collection[str]) -> Facts:
    listing = look.listing
    field, counts = listing.labels.spec.fields[0], listing.labels.at(slice(listing.train)).counts().tolist()
    classes = len(counts) if field.exclusive else 1
    few = glance(listing, look.channels)
    return Facts(
        images=listing.train,
        classes=classes,
        per_class=listing.train / classes,
        fewest=min(counts),
        most=max(counts),
        exclusive=field.exclusive,
        gray=look.gray,
        ground=", what is transparent on white" if any(one.clear for one in look.readable) else "",
        translates=base.translates,
        paired=_same_names(listing),
        light=False,
        signed=False,
        hierarchical=bool(base.generator.options.get("hierarchical")),
        stated=frozenset(option.partition(".")[0] for option in stated),
        trained=0,
        mirrored=None if "data.flip" in stated else _mirrored(few),
        in_place=distributed.from_main(round(1000 * share_in_place(few.images))) / 1000,
    )


def _mirrored(few: Glance) -> Mirrored | None:
    """What the leader finds, for all processes."""
    found = tell_mirrored(*few)
    told, of = (distributed.from_main(count) for count in found or (0, 0))
    return Mirrored(told, of) if of else None


def _same_names(listing: Listing) -> bool:
    """Whether every class has files of the same names."""
    field = listing.labels.spec.fields[0]
    if not field.exclusive or len(field.values) == 1:
        return False
    names: list[list[str]] = [[] for _ in field.values]
    for name, number in zip(listing.names, listing.labels.index().tolist(), strict=True):
        names[number].append(basename(name))
    return len(names[0]) > 1 and all(sorted(one) == sorted(set(names[0])) for one in names)


def _filled_in(rules: Sequence[Rule], facts: Facts) -> list[Choice]:
    return [Choice([_filled(one, facts) for one in rule.settings], _filled(rule.reason, facts)) for rule in rules]


def _filled(text: str, facts: Facts) -> str:
    return text.format(**facts._asdict(), told=facts.told, repeats=facts.repeats, half=max(1, facts.trained // 2))


def _is_stated(choice: Choice, stated: Collection[str]) -> bool:
    """Whether a choice was made by who asked: by its first setting; of networks, size and width."""
    if choice.settings and _option(choice.settings[0]) == "data.size":
        return "data.size" in stated and not WIDTHS.isdisjoint(stated)
    return bool(choice.settings) and _option(choice.settings[0]) in stated


def _option(setting: str) -> str:
    return setting.partition("=")[0]


def _climb(
    base: Recipe, look: Survey, settings: Sequence[str], overrides: Sequence[str], minutes: float
) -> tuple[Choice, float, str]:
    """The largest networks for which pictures and time are enough; their speed; and what was measured on the way.

    The smallest ones, which need no time, are measured only where they are the answer.
    """
    smallest, *larger = _rungs(look, base, overrides)
    tried: list[str] = []

    def measured(rung: Rung) -> float | None:
        """Images of training in a second; None where memory is not enough for them."""
        recipe = load(base.name, [*settings, *_network(rung, base), *overrides])
        what = f"{recipe.data.size} pixels, width {recipe.generator.options['width']}"
        try:
            found = timing.images_per_second(recipe, look.listing.labels.spec)
        except RuntimeError as error:
            if rung is smallest or not lacks_memory(error):
                raise
            tried.append(f"{what}: not enough memory")
            return None
        tried.append(f"{what}: {timing.per_second(found)} images/s")
        return found

    reached, speed = smallest, None
    beyond: tuple[Rung, int | None] | None = None
    for rung in larger:
        found = measured(rung)
        images = None if found is None else timing.images_within(minutes, found)
        if images is None or images < rung.images:
            beyond = rung, images
            break
        reached, speed = rung, found
    speed = speed or measured(smallest)
    assert speed is not None, "the smallest raise"
    return Choice(_network(reached, base), _size_reason(reached, beyond, look, minutes)), speed, "; ".join(tried)


def _rungs(look: Survey, base: Recipe, overrides: Sequence[str]) -> list[Rung]:
    """The networks to try: up to the power of two nearest to the pictures, of the size and width that are stated."""
    stated = {_option(one) for one in overrides}
    nearest = 2 ** round(math.log2(max(min(look.median), 1)))
    rungs = [rung for rung in LADDER if rung.size <= max(LADDER[0].size, nearest)]
    if "data.size" in stated:
        size = load(base.name, [one for one in overrides if _option(one) == "data.size"]).data.size
        rungs = [rung for rung in LADDER if rung.size == size] or [Rung(min(height_and_width(size)), 1, 0)]
    if not WIDTHS.isdisjoint(stated):
        rungs = [rung for rung in rungs if rung.width == 1]
    return rungs


def _network(rung: Rung, base: Recipe) -> list[str]:
    """The settings of a recipe's networks of some size and width; attention is where it was, at half of the size."""
    widths = [int(rung.width * part.options["width"]) for part in (base.generator, base.backbone)]
    settings = [f"data.size={rung.size}", f"generator.width={widths[0]}", f"backbone.width={widths[1]}"]
    if base.generator.options.get("attention"):
        settings += [f"generator.attention=[{rung.size // 2}]", f"backbone.attention=[{rung.size // 2}]"]
    return settings


def _size_reason(rung: Rung, beyond: tuple[Rung, int | None] | None, look: Survey, minutes: float) -> str:
    """Why not larger networks; `beyond`: the next ones, and the images of training that there are, None: no memory."""
    width = {0.5: " of half the width", 2: " of twice the width"}.get(rung.width, "")
    what = f"{rung.size} pixels{width}"
    if beyond is None:
        return f"{what}, since the median picture is {look.median[0]}×{look.median[1]}"
    larger, images = beyond
    more = f"at {larger.size}" if larger.size > rung.size else "at more width"
    if images is None:
        return f"{what}, since there is not enough memory {more}"
    return (
        f"{what}, since {_in_minutes(minutes)} {more} are {two_digits(images):,} images of training, and from "
        f"{larger.images:,} on that is better"
    )


def _length(base: Schedule, minutes: float, recipe: Recipe, speed: float, stated: bool) -> Choice:
    """How long the recipe is trained in so many minutes, and what goes with that; or what goes with its own length."""
    schedule = recipe.schedule
    images = schedule.images if stated else max(two_digits(timing.images_within(minutes, speed)), 10 * schedule.batch)
    ratio = images / base.images
    settings = [f"schedule.images={images}"]
    if not stated:
        settings += [f"schedule.{name}={two_digits(ratio * getattr(base, name))}" for name in ("log", "sample", "save")]
        settings += [
            f"{place}.half_life={two_digits(ratio * one.half_life)}"
            for place, one in {"ema": recipe.ema, **_averages(recipe)}.items()
            if isinstance(one.half_life, float) and ratio < 1
        ]
    if base.decay:
        settings.append(f"schedule.decay={int(ratio * base.decay)}")
    elif not schedule.decay:
        settings.append(patience(images))
    return Choice(settings, f"{images:,} images of training, enough for {_in_minutes(minutes)}")


def _averages(recipe: Recipe) -> dict[str, Average]:
    return {f"averages.{name}": one for name, one in recipe.averages.items()}


def _batches_that_fit(recipe: Recipe, labels: LabelSpec) -> list[Choice]:
    """Halve a batch until its training fits this GPU's memory: each half, the last one being it."""
    choices: list[Choice] = []
    whole, there = recipe.schedule.batch, torch.cuda.mem_get_info()[1]
    memory, batch = estimate_memory(recipe, labels), whole
    while batch > 8 and (needed := memory.kept + memory.activations * batch // whole) > SHARE * there:
        batch //= 2
        setting, much = f"schedule.batch={batch}", f"{needed / 2**30:.0f} GiB of {there / 2**30:.0f}"
        choices.append(Choice([setting], f"{setting}, since more needs {much}"))
    return choices
