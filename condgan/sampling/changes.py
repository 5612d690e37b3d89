"""Labels that are asked for: where they can be changed to, which changes go together, what they make of others.

Axes: b images, k label values over all fields.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from condgan.labels import Field, Labels, LabelSpec, Range
from condgan.utils.arguments import plain
from condgan.utils.errors import UserError, shown, unknown

Changes = Mapping[str, bool | int | str | float]
"""An attribute or a class, and whether an image shall have it; a field, and the class in it; a number's value."""


class Domain(NamedTuple):
    """Where images can be translated to: a value of a field; an attribute of no group changes to what it was not."""

    field: int
    value: int
    name: str
    """The value's, after its field's where another field has the same."""
    flips: bool


def domains(spec: LabelSpec) -> list[Domain]:
    """All of a vocabulary; a number has none."""
    every = [name for field in spec.fields for name in field.values]
    return [
        Domain(
            position,
            value,
            name if every.count(name) == 1 else f"{field.name}.{name}",
            flips=not field.exclusive and not any(name in group for group in field.groups),
        )
        for position, field in enumerate(spec.fields)
        for value, name in enumerate(field.values)
        if field.range is None
    ]


def changed(labels: Labels, field: int, value: int, on: Bool[Tensor, " b"]) -> Labels:
    """Labels of one known field, in which a value holds or not; where it does, others of its unit do not."""
    where = labels.spec.where(field)
    unit = next(unit for unit in labels.spec.fields[field].units() if value in unit)
    own = labels.values[:, where].clone()
    own[:, unit] = own[:, unit].masked_fill(on[:, None], 0)
    own[:, value] = on.to(own.dtype)
    values, known = torch.zeros_like(labels.values), torch.zeros_like(labels.known)
    values[:, where], known[:, field] = own, True
    return Labels(labels.spec, values, known)


def toward(labels: Labels, domain: Domain) -> Labels:
    """The labels of images translated to a domain."""
    has = labels.values[:, labels.spec.where(domain.field)][:, domain.value] > 0.5
    return changed(labels, domain.field, domain.value, ~has if domain.flips else torch.ones_like(has))


def plan_changes(spec: LabelSpec, changes: Changes) -> dict[int, dict[int, float]]:
    """Sort out what to change, by field and value: to 1 or 0, a number to its share of the range.

    Raises UserError for no change, for labels that are unknown or exclude each other, for none in the place of a class,
    and for numbers outside their range.
    """
    example = f"{spec.fields[0].values[0]}={1 if spec.range is None else format(spec.range.high, 'g')}"
    if not isinstance(changes, Mapping):
        raise UserError(f"changes {shown(repr(changes))} given: expected labels to change, such as {example}")
    if not changes:
        raise UserError(f"no label to change given: expected some such as {example}")
    wanted: dict[int, dict[int, float]] = {}
    for name, on in changes.items():
        position, value, share = _find(spec, name, on)
        field, values = spec.fields[position], wanted.setdefault(position, {})
        if not share and field.exclusive:
            raise UserError(
                f"{name}=0 given: an image is always of one of {', '.join(field.values)}; say of which, such as "
                f"{field.values[value - 1]}=1"
            )
        if values.setdefault(value, share) != share:
            raise UserError(f"{field.values[value]} given as 1 and as 0: expected one of them")
    for position, values in wanted.items():
        for unit in spec.fields[position].units():
            both = [spec.fields[position].values[value] for value in unit if values.get(value)]
            if len(both) > 1:
                raise UserError(f"{' and '.join(both)} given, which exclude each other: choose one of them")
    return wanted


def asked_for(labels: Labels, changes: Changes) -> Labels:
    """Labels of one field with what is asked for; the rest as it was. Raises UserError as `plan_changes` does."""
    for position, values in plan_changes(labels.spec, changes).items():
        field = labels.spec.fields[position]
        for value, share in sorted(values.items(), key=lambda item: item[1]):  # what is switched off, first
            if field.range is not None:
                labels = Labels(labels.spec, torch.full_like(labels.values, share), torch.ones_like(labels.known))
            else:
                labels = changed(labels, position, value, torch.full((len(labels),), share > 0))
    return labels


def _find(spec: LabelSpec, name: str, on: bool | int | str | float) -> tuple[int, int, float]:
    """The field and value that a name means, VALUE, FIELD.VALUE or FIELD with a value; and what it shall be."""
    name, on = str(plain(name)), plain(on)
    for position, field in enumerate(spec.fields):
        if field.range is not None and name == field.name:
            return position, 0, _share(field, on)
    of_field = [field.name for field in spec.fields]
    if spec.range is not None:
        raise unknown("number", name, of_field)
    if isinstance(on, str) and name in of_field:
        name, on = f"{name}.{on}", True
    if not isinstance(on, str | int | float) or on not in ("0", "1", 0, 1):
        fields = f", or one of the fields {', '.join(of_field)}"
        alone = len(of_field) == 1 and not spec.fields[0].exclusive
        raise UserError(f"{shown(name)}={shown(on)} given: expected 1 or 0{'' if alone else fields}")
    known: dict[str, list[tuple[int, int]]] = {}
    for position, field in enumerate(spec.fields):
        for value, one in enumerate(field.values):
            known.setdefault(one, []).append((position, value))
            known.setdefault(f"{field.name}.{one}", []).append((position, value))
    if name not in known:
        raise unknown("label", name, [domain.name for domain in domains(spec)] or of_field)
    if len(known[name]) > 1:
        fields = [spec.fields[position].name for position, _ in known[name]]
        raise UserError(f"label '{name}' stands in {' and '.join(fields)}: write {fields[0]}.{name}")
    return *known[name][0], float(on)


def _share(field: Field, on: bool | int | str | float) -> float:
    """Where a number lies in its range. Raises UserError for one outside of it."""
    assert field.range is not None
    try:
        number = float(on) if isinstance(on, str | int | float) and not isinstance(on, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    low, high = field.range.low, field.range.high
    share = field.range.share(number)
    if not -1e-6 <= share <= 1 + 1e-6:
        raise UserError(
            f"{field.name}={shown(on)} given: expected a number from {field.range.text(low)} to "
            f"{field.range.text(high)}, as the training images have"
        )
    return min(1.0, max(0.0, share))


def settled(spec: LabelSpec, changes: Changes) -> dict[str, bool | float]:
    """What is asked for of a vocabulary of one field, by its own names; numbers as such, all else as True or False."""
    field = spec.fields[0]
    return {
        field.values[value]: bool(share) if field.range is None else _rounded(field.range, share)
        for value, share in plan_changes(spec, changes)[0].items()
    }


def _rounded(range: Range, share: float) -> float:
    """The number at a share of a range, but for what arithmetic has added."""
    return round(range.number(share), 9 - math.floor(math.log10(range.high - range.low)))


def setting_name(spec: LabelSpec, setting: Mapping[str, bool | float]) -> str:
    """What is asked for, in words: Hat, or no Beard, or age=37."""
    if (range := spec.range) is not None:
        return ", ".join(f"{name}={range.text(value)}" for name, value in setting.items())
    return ", ".join(name if value else f"no {name}" for name, value in setting.items())
