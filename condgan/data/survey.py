"""Survey the pictures of a source: sizes, formats, modes, copies, and which cannot be decoded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from tqdm import tqdm

from condgan.data.copies import keep_together, said_of_copies, same_contents
from condgan.data.listing import UNLABELED, Listing, class_is, digest_of
from condgan.data.prepare import chunked, in_workers
from condgan.data.preprocessing import Preprocessing, is_dark, opened, pixels, quietly, reason
from condgan.utils.errors import shown
from condgan.utils.figures import sheet, spread

QUICK = 500
"""Pictures that a quick look opens."""
RARE = 20
"""Images of a class below which it is called rare."""


class Seen(NamedTuple):
    """The size, mode and format of a picture."""

    width: int
    height: int
    mode: str
    format: str
    clear: bool
    """Whether something shines through."""
    digest: bytes = b""
    bad: str = ""
    """Why it cannot be decoded."""
    dark: bool = False
    """Whether it has 16 bits, but values of 8."""


@dataclass(frozen=True)
class Survey:
    """Sizes, modes and formats of some pictures of a listing, by their places in it."""

    listing: Listing
    places: Int[np.ndarray, " n"]
    seen: Sequence[Seen]

    @property
    def readable(self) -> list[Seen]:
        return [one for one in self.seen if not one.bad]

    @property
    def unreadable(self) -> list[str]:
        """The pictures that cannot be decoded, and why."""
        pairs = zip(self.places.tolist(), self.seen, strict=True)
        return [f"{self.listing.call(place)} ({one.bad})" for place, one in pairs if one.bad]

    @property
    def gray(self) -> bool:
        """Whether no picture has colors."""
        return all(one.mode in GRAY for one in self.readable)

    @property
    def channels(self) -> int:
        """1 where no picture has colors, else 3."""
        return 1 if self.gray else 3

    @property
    def median(self) -> tuple[int, int]:
        """The median width and height."""
        sizes = np.array([(one.width, one.height) for one in self.readable] or [(0, 0)])
        width, height = np.median(sizes, 0)
        return int(width), int(height)

    def contents(self) -> Int[np.ndarray, " n"]:
        """A number for each picture of the listing, the same for copies; of those that were not looked at, its own."""
        known = {place: one.digest for place, one in zip(self.places.tolist(), self.seen, strict=True) if not one.bad}
        number: dict[bytes | int, int] = {}
        return np.array([number.setdefault(known.get(i, i), len(number)) for i in range(len(self.listing))], np.int64)

    def copies(self) -> list[list[int]]:
        """Places of pictures whose files are the same."""
        return [places.tolist() for places in same_contents(self.contents())]

    def kept_together(self) -> "Survey":
        """The same of a listing that has copies on one side of the split; of all its pictures."""
        places, train = keep_together(self.listing, self.contents())
        return Survey(self.listing.at(places, train), np.arange(len(places)), [self.seen[place] for place in places])


GRAY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")


def quick_look(listing: Listing, at_most: int = QUICK) -> Survey:
    """Look at the heads of some pictures, evenly spread."""
    places = np.unique(np.linspace(0, len(listing) - 1, min(at_most, len(listing))).round().astype(int))
    look = Survey(listing, places, [_look(listing, place, None) for place in places.tolist()])
    return look.kept_together() if len(places) == len(listing) else look


def survey(listing: Listing) -> Survey:
    """Look at all pictures, and decode them to see whether they can be."""
    chunks = chunked(0, len(listing))
    parts = in_workers(_Looker(listing, chunks), len(chunks))
    seen: list[Seen] = []
    with tqdm(total=len(listing), desc="looking", unit="image", leave=False, disable=None) as bar:
        for part in parts:
            seen += part
            bar.update(len(part))
    return Survey(listing, np.arange(len(listing)), seen).kept_together()


@dataclass(frozen=True)
class _Looker:
    listing: Listing
    chunks: Sequence[range]

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, number: int) -> list[Seen]:
        if number >= len(self.chunks):
            raise IndexError
        preprocessing = Preprocessing(16, 16, 3)
        return [_look(self.listing, place, preprocessing) for place in self.chunks[number]]


def _look(listing: Listing, place: int, preprocessing: Preprocessing | None) -> Seen:
    try:
        picture = listing.read(place)
        digest = digest_of(picture)
        if not isinstance(picture, bytes):
            channels = 1 if picture.ndim == 2 else picture.shape[2]
            mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
            return Seen(picture.shape[1], picture.shape[0], mode, "pixels", channels in (2, 4), digest)
        with opened(picture) as image:
            size = image.size
            mode, form, clear = image.mode, image.format or "PNG", image.has_transparency_data
            with quietly():
                dark = is_dark(image)
        if preprocessing is not None:
            pixels(picture, preprocessing)
        return Seen(*size, mode, form, clear, digest, dark=dark)
    except Exception as error:  # decoders raise whatever they like
        return Seen(0, 0, "", "", False, bad=reason(error))


def warnings(look: Survey) -> list[str]:
    """Warn of what may go wrong with these data."""
    listing, said = look.listing, []
    field, counts = listing.labels.spec.fields[0], listing.labels.counts().tolist()
    if field.exclusive and len(listing) == 1:
        said.append("one image only, and training needs two, one of them to hold out: add some")
    if field.exclusive and len(counts) > 1:
        rare = [(name, count) for name, count in zip(field.values, counts, strict=True) if count < RARE]
        if len(rare) == 1:
            name, count = rare[0]
            said.append(f"class '{name}' has {count} image{'s' * (count != 1)}: too few to learn from")
        elif rare:
            listed = ", ".join(f"'{name}' {count}" for name, count in rare[:8]) + ", …" * (len(rare) > 8)
            said.append(f"{len(rare):,} classes have fewer than {RARE} images, too few to learn from: {listed}")
        if (single := sum(count == 1 for _, count in rare)) and listing.share is not None:
            said.append(
                f"{single:,} of the classes ha{'ve' if single > 1 else 's'} one image only, and training needs two, "
                "one of them to hold out: add some, or leave these classes out"
            )
        held = listing.labels.at(slice(listing.train, None)).counts().tolist()
        if listing.share is None and (lacking := [name for name, n in zip(field.values, held, strict=True) if not n]):
            said.append(
                f"{class_is(lacking)} without held-out images, and training needs one of each: give some, or hold out "
                "a share of the training images with data.held_out=0.1 (or --held-out 0.1)"
            )
        if max(counts) > 10 * max(1, min(counts)):
            least, most = (field.values[counts.index(one)] for one in (min(counts), max(counts)))
            said.append(
                f"'{most}' has {max(counts) / max(1, min(counts)):.0f} times the images of '{least}': "
                "data.class_balance=0.5 shows rare classes more often"
            )
        lower = Counter(name.strip().lower() for name in field.values)
        for name, count in lower.items():
            if count > 1:
                said.append(f"{count} classes are called '{name}' but for upper case or blanks")
    if not field.exclusive and field.range is None:
        for name, count in zip(field.values, counts, strict=True):
            if not 0 < count < len(listing):
                said.append(f"{'every' if count else 'no'} image has attribute '{name}': it cannot be learned")
    if len(look.seen) == len(listing):
        said += said_of_copies(listing, look.contents())
    readable = look.readable
    if dark := sum(one.dark for one in readable):
        said.append(
            f"{dark:,} picture{'s' * (dark > 1)} of 16 bits ha{'ve' if dark > 1 else 's'} values of 0 … 255 only, and "
            "will be black: save with 8 bits, or multiply the values by 257"
        )
    lost = sum(min(one.width, one.height) * 2 < max(one.width, one.height) for one in readable)
    if lost * 10 > len(readable):
        said.append(
            f"{lost:,} of {len(readable):,} pictures are more than twice as wide as high, or as high as wide: training "
            "sees the middle of each, less than half of it; data.crop=pad keeps all"
        )
    return said


def describe_survey(look: Survey) -> list[str]:
    """Describe the pictures in lines: a word, and what is to be said of it."""
    listing, readable = look.listing, look.readable
    labels = listing.labels.by_class() or listing.labels
    counts, field = labels.counts().tolist(), labels.spec.fields[0]
    held = len(listing) - listing.train
    of = f" of {len(counts):,} classes" if field.exclusive else f" with {len(counts):,} attributes"
    kind = "classes" if field.exclusive else "attributes"
    if field.exclusive and len(counts) == 1:
        of = " without labels" if field.values[0] == UNLABELED else f" of one class, '{field.values[0]}'"
    if (scale := listing.labels.spec.range) is not None:
        of = f" with '{listing.labels.spec.fields[0].name}' from {scale.low:g} to {scale.high:g}"
        kind = "numbers"
    lines = [f"images         {len(listing):,}{of}: {listing.train:,} to train on, {held:,} held out"]
    if len(counts) > 1:
        named = [f"{name} {count:,}" for name, count in zip(field.values, counts, strict=True)]
        order = sorted(range(len(counts)), key=lambda i: -counts[i])
        if len(named) > 12:
            most, least = (", ".join(named[i] for i in some) for some in (order[:5], order[-5:]))
            lines.append(f"{kind:14} {most}, …, {least}")
        else:
            lines.append(f"{kind:14} {', '.join(named)}")
    if readable:
        areas = sorted((one.width * one.height, one.width, one.height) for one in readable)
        first, last = areas[0], areas[-1]
        shapes = {(one.width, one.height) for one in readable}
        sizes = f"{first[1]}×{first[2]} to {last[1]}×{last[2]}, median {look.median[0]}×{look.median[1]}"
        sizes = f"all {first[1]}×{first[2]}" if len(shapes) == 1 else sizes
        some = f" (of {len(look.seen):,} looked at)" if len(look.seen) < len(listing) else ""
        lines.append(f"sizes          {sizes}{some}")
        for name, values in (
            ("formats", Counter(one.format for one in readable)),
            ("modes", Counter(one.mode for one in readable)),
        ):
            lines.append(f"{name:14} " + ", ".join(f"{value} {count:,}" for value, count in values.most_common()))
    if same := look.copies() if len(look.seen) == len(listing) else []:
        more = sum(map(len, same)) - len(same)
        names = " = ".join(f"'{shown(listing.names[place])}'" for place in same[0][:3])
        lines.append(f"copies         {more:,} of other images, such as {names}")
    if bad := look.unreadable:
        lines.append(f"unreadable     {len(bad):,}: " + "; ".join(bad[:20]) + " …" * (len(bad) > 20))
    return [*lines, *(f"note           {note}" for note in listing.notes)]


def contact_sheet(look: Survey) -> Image.Image | None:
    """Some pictures of each class or attribute, whole, in columns."""
    listing, cells, columns = look.listing, [], []
    preprocessing = Preprocessing(64, 64, 3, "pad")
    good = {place for place, one in zip(look.places.tolist(), look.seen, strict=True) if not one.bad}
    labels = listing.labels.by_class() or listing.labels
    field = labels.spec.fields[0]
    for value in spread(len(field.values), 40):
        places = [place for place in labels.having(0, value).tolist() if place in good]
        if places:
            some = [places[number] for number in spread(len(places), 8)]
            columns.append(field.values[value])
            read = [pixels(listing.read(place), preprocessing) for place in some]
            blank = np.full_like(read[0], 255)
            cells.append(read + [blank] * (8 - len(read)))
    if not cells:
        return None
    return sheet(torch.from_numpy(np.stack([image for row in zip(*cells, strict=True) for image in row])), columns)


def as_mapping(look: Survey) -> dict[str, Any]:
    """The same as `describe_survey` and `warnings` say, for programs."""
    listing = look.listing
    labels = listing.labels.by_class() or listing.labels
    train, rest = labels.at(slice(0, listing.train)), labels.at(slice(listing.train, None))
    counts = zip(labels.spec.classes, train.counts().tolist(), rest.counts().tolist(), strict=True)
    return {
        "images": len(listing),
        "train": listing.train,
        "held_out": len(listing) - listing.train,
        "number": None if (scale := listing.labels.spec.range) is None else [scale.low, scale.high],
        "unlabeled": int((~listing.labels.known.any(1)).sum()),
        "exclusive": listing.labels.spec.fields[0].exclusive,
        "counts": {name: {"train": train, "held_out": held_out} for name, train, held_out in counts},
        "median": look.median,
        "modes": dict(Counter(one.mode for one in look.readable)),
        "formats": dict(Counter(one.format for one in look.readable)),
        "copies": [[listing.names[place] for place in places] for places in look.copies()],
        "unreadable": look.unreadable,
        "notes": list(listing.notes),
        "warnings": warnings(look),
    }
