"""What every method keeps, whatever its losses: `contract` runs a recipe of it, and says what it breaks."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from condgan import build, estimate, training_steps
from condgan.data.dataset import Split
from condgan.data.open import read
from condgan.labels import Labels, LabelSpec
from condgan.losses import weighted_sum
from condgan.recipes.load import as_tree, dump, from_tree, load
from condgan.recipes.schema import Recipe
from condgan.runs.checkpoint import load_checkpoint, restore, save_checkpoint
from condgan.sampling.model import Model
from condgan.training.loop import mixes_batch
from condgan.training.state import State
from condgan.types import Batch, Step, Tracker
from condgan.utils.errors import UserError

Losses = list[dict[str, float]]


def contract(recipe: Recipe, folder: Path, unread: frozenset[str] = frozenset()) -> None:
    """Hold a method, as a small recipe has it, to what all of them keep; `folder` is for files.

    `unread`: the parameters of the discriminator that no loss reads.
    """
    split = read(recipe.data.source, recipe.data.size, recipe.data.channels).train
    is_read_as_written(recipe, folder / "written.yaml")
    refuses_unknown_options(folder / "written.yaml", recipe)
    moves_all_parameters(recipe, split.labels.spec, unread)
    reports_finite_losses(recipe, split)
    resumes_to_the_bit(recipe, split, folder / "checkpoints")
    takes_a_batch_in_parts(recipe, split)
    is_sampled_from(recipe, split, folder / "checkpoints")


def is_read_as_written(recipe: Recipe, path: Path) -> None:
    path.write_text(dump(recipe), encoding="utf-8")
    assert load(path) == recipe, "the recipe is another one when it is read from its dump"


def refuses_unknown_options(path: Path, recipe: Recipe) -> None:
    for part in ("generator", "backbone", "head", "objective"):
        for option in [*getattr(recipe, part).options][:1]:
            with pytest.raises(UserError, match="did you mean") as refused:
                load(path, [f"{part}.{option}x=1"])
            assert "\n" not in str(refused.value)


def reports_finite_losses(recipe: Recipe, split: Split) -> None:
    objective = build.build_objective(recipe)
    named = {f"D/{name}" for name in objective.discriminator} | {f"G/{name}" for name in objective.generator}
    named |= objective.watched.keys()
    modules = build.build_modules(recipe).items()
    named |= {f"{name}/{one}" for name, module in modules if isinstance(module, Tracker) for one in module.watched()}
    for losses in run(recipe, split, 2)[0]:
        assert losses.keys() == named, "losses are not those that the objective names"
        for name, loss in losses.items():
            assert abs(loss) < float("inf"), f"{name} is not finite"


def moves_all_parameters(recipe: Recipe, spec: LabelSpec, unread: frozenset[str]) -> None:
    for player, found in gradients(recipe, spec).items():
        idle = {name for name, gradient in found.items() if gradient is None}
        expected = unread if player == "discriminator" else frozenset()
        assert idle == expected, f"the {player}'s parameters without a gradient are not those expected"
        for name, gradient in found.items():
            assert gradient is None or gradient.isfinite().all(), f"the gradient of the {player}'s {name} is not finite"


def takes_a_batch_in_parts(recipe: Recipe, split: Split) -> None:
    """But where a batch norm or a loss sees the parts, or something is drawn for each of them."""
    state = build.build_state(recipe, split.labels.spec)
    drawing = ("gradient_penalty", "approximate_r1", "approximate_r2", "consistency", "consistency_fake")
    drawn = recipe.augment.name != "none" or any(getattr(recipe.penalties, name) for name in drawing)
    if mixes_batch(state.generator) or mixes_batch(state.discriminator) or drawn:
        return
    if build.build_objective(recipe).of_batch:
        with pytest.raises(UserError, match="which compares the images of a batch with each other: expected 1"):
            changed(recipe, accumulate=2)
        return
    with doubled():
        whole, parts = (run(changed(recipe, accumulate=count), split, 2, double=True)[0] for count in (1, 2))
    for one, other in zip(whole, parts, strict=True):
        assert one == pytest.approx(other, rel=1e-8, abs=1e-10), "a batch in two parts is another one"


def resumes_to_the_bit(recipe: Recipe, split: Split, folder: Path) -> None:
    losses, whole = run(recipe, split, 3)
    _, state = run(recipe, split, 2)
    path = save_checkpoint(folder, state, recipe, split.labels.spec, {})
    resumed = build.build_state(recipe, split.labels.spec)
    restore(path, resumed, recipe)
    again = {name: float(loss) for name, loss in next(training_steps.build_steps(recipe, resumed, split)).items()}
    assert again == losses[2], "a resumed run has other losses"
    for name in whole.networks:
        pairs = zip(*(one.networks[name].state_dict().values() for one in (whole, resumed)), strict=True)
        assert all(torch.equal(*pair) for pair in pairs), f"a resumed run has another {name}"


def is_sampled_from(recipe: Recipe, split: Split, folder: Path) -> None:
    (path,) = folder.iterdir()
    model = load_checkpoint(path)
    size = recipe.data.size
    if isinstance(model, Model):
        images = model.sample(per_class=2, seed=1)
        assert images.shape[:3] == (2 * split.labels.spec.width, size, size)
    else:
        (made,) = model.every_domain([Image.new("RGB", (20, 20), "red")])
        assert len(made) == len(model.domains)
        assert {picture.size for picture in made.values()} == {(size, size)}


def gradients(recipe: Recipe, spec: LabelSpec) -> dict[str, dict[str, Tensor | None]]:
    """Those of every parameter of each player after one step of it, by player and name."""
    state, objective = build.build_state(recipe, spec), build.build_objective(recipe)
    values = torch.eye(spec.width)[torch.arange(6) % spec.width]
    labels = Labels(spec, values, torch.ones(6, len(spec.fields), dtype=torch.bool))
    size = recipe.data.size
    assert isinstance(size, int)
    batch = Batch(torch.rand(6, recipe.data.channels, size, size) * 2 - 1, labels)
    source = batch.images if recipe.translates else torch.randn(6, state.generator.latent_dim or 0)
    found = {}
    for player in estimate.PLAYERS:
        state.discriminator.requires_grad_(player == "discriminator")
        with torch.set_grad_enabled(player == "generator"):
            fake = state.generator(source, labels)
        step = Step(
            generator=state.generator, discriminator=state.discriminator, real=batch.images, real_labels=batch.labels,
            fake=fake, fake_labels=labels, modules=state.modules,
        )  # fmt: skip
        total, means = weighted_sum(getattr(objective, player), step, 0)
        for name, mean in means.items():
            assert mean.isfinite(), f"{player[0].upper()}/{name} is not finite"
        assert total.requires_grad, f"the {player}'s loss does not depend on it"
        total.backward()
        found[player] = {name: one.grad for name, one in getattr(state, player).named_parameters()}
    return found


def run(recipe: Recipe, split: Split, iterations: int, double: bool = False) -> tuple[Losses, State]:
    """So many iterations' losses from the start, and where they lead."""
    state = build.build_state(recipe, split.labels.spec)
    batches = build.build_stream(recipe, split)
    if double:
        batches = (
            Batch(b.images.double(), Labels(b.labels.spec, b.labels.values.double(), b.labels.known)) for b in batches
        )
    steps = training_steps.build_steps(recipe, state, split, batches)
    return [{k: float(v) for k, v in one.items()} for one in itertools.islice(steps, iterations)], state


def changed(recipe: Recipe, **schedule: object) -> Recipe:
    tree = as_tree(recipe)
    return from_tree(tree | {"schedule": tree["schedule"] | schedule})


@contextmanager
def doubled() -> Iterator[None]:
    """Double precision meanwhile."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
