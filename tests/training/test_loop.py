"""The loop: accumulation, steps per iteration, resuming."""

import copy
import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from condgan import build, estimate, training_steps
from condgan.data.open import read
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.losses import OBJECTIVES, Objective, Term, weighted_sum
from condgan.networks.spectral_norm import Spectral, TrainedNorms, spectral_normalize, spectral_norms
from condgan.recipes.load import load
from condgan.training.ema import EMA
from condgan.training.loop import mixes_batch, train
from condgan.training.mixed_precision import MixedPrecision
from condgan.training.state import State
from condgan.types import Batch, DiscriminatorOutput, Generator, Step, to_float
from condgan.utils.errors import UserError
from tests.contract import doubled

SPEC = LabelSpec.of_classes(["a", "b"])


class PlainGenerator(Generator):
    """No batch norm and no dropout, so that parts of a batch do not see each other."""

    latent_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 9), nn.Tanh())

    def forward(self, latent: torch.Tensor, labels: Labels) -> torch.Tensor:
        return self.layers(torch.cat([latent, labels.vector()], 1)).reshape(-1, 1, 3, 3)


class PlainDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, images: torch.Tensor, labels: Labels) -> DiscriminatorOutput:
        out = self.layers(images)
        return DiscriminatorOutput(out[:, 0], None, {"logits": out[:, 1:]})


def plain_state() -> State:
    torch.manual_seed(0)
    generator, discriminator = PlainGenerator().double(), PlainDiscriminator().double()
    optimizers = [torch.optim.Adam(network.parameters(), 1e-2) for network in (generator, discriminator)]
    return State(generator, discriminator, {"ema": EMA(generator, 0.9)}, *optimizers, seed=5)


def plain_batches(size: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(1)
    while True:
        labels = Labels.from_index(SPEC, torch.randint(2, (size,), generator=generator))
        yield Batch(torch.randn(size, 1, 3, 3, generator=generator).double(), labels)


PRIOR = LabelTable.from_index(SPEC, torch.tensor([0, 1, 1]))


def plain_run(iterations: int = 4, **settings: object) -> tuple[list[dict[str, float]], State]:
    state = plain_state()
    torch.set_default_dtype(torch.float64)
    try:
        steps = train(state, OBJECTIVES["acgan"](), plain_batches(8), PRIOR, until=10**9, **settings)
        losses = [{name: float(loss) for name, loss in one.items()} for one in itertools.islice(steps, iterations)]
    finally:
        torch.set_default_dtype(torch.float32)
    return losses, state


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_parts_are_the_whole_batch(parts: int, joint: bool) -> None:
    whole, state = plain_run(joint=joint)
    split, other = plain_run(accumulate=parts, joint=joint)
    for a, b in zip(whole, split, strict=True):
        assert a == pytest.approx(b, rel=1e-9)
    for a, b in zip(state.generator.parameters(), other.generator.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-7, atol=1e-9)


def test_a_penalty_on_weights_is_taken_once_a_step_however_many_parts() -> None:
    """And weighs as much: the runs are the same."""
    calls = {1: 0, 4: 0}
    runs = []
    for parts in calls:

        def penalty(step: Step, parts: int = parts) -> torch.Tensor:
            calls[parts] += 1
            return sum(p.square().sum() for p in step.discriminator.parameters())

        base = OBJECTIVES["acgan"]()
        discriminator = {**base.discriminator, "weights": Term(penalty, 0.1, of_weights=True)}
        state = plain_state()
        torch.set_default_dtype(torch.float64)
        try:
            objective = Objective(discriminator, base.generator)
            steps = train(state, objective, plain_batches(8), PRIOR, until=10**9, d_steps=2, accumulate=parts)
            runs.append([{k: float(v) for k, v in one.items()} for one in itertools.islice(steps, 3)])
        finally:
            torch.set_default_dtype(torch.float32)
    assert calls == {1: 6, 4: 6}
    for one, four in zip(*runs, strict=True):
        assert one == pytest.approx(four, rel=1e-9)


def test_one_pass_or_two_are_the_same_without_batch_norm() -> None:
    for a, b in zip(plain_run(joint=False)[0], plain_run(joint=True)[0], strict=True):
        assert a == pytest.approx(b, rel=1e-9)


class Counting(PlainDiscriminator):
    """Counts the images that it sees, with or without a batch norm that mixes them."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.layers.append(nn.BatchNorm1d(3) if norm else nn.Identity())
        self.seen: list[int] = []

    def forward(self, images: torch.Tensor, labels: Labels) -> DiscriminatorOutput:
        self.seen.append(len(images))
        return super().forward(images, labels)


@pytest.mark.parametrize(("norm", "seen"), [(True, [16, 16]), (False, [16, 8])])
def test_the_generators_step_looks_at_real_images_only_where_they_matter(norm: bool, seen: list[int]) -> None:
    state = plain_state()
    state.discriminator = Counting(norm).double()
    torch.set_default_dtype(torch.float64)
    try:
        next(train(state, OBJECTIVES["acgan"](), plain_batches(8), PRIOR, until=8, joint=True))
    finally:
        torch.set_default_dtype(torch.float32)
    assert state.discriminator.seen == seen


KINDS = {
    "digits-acgan": ["generator.width=4", "backbone.width=4"],
    "digits-biggan": ["generator.width=4", "backbone.width=4"],
    "digits-sagan": [],
    "digits-stargan": ["generator.width=4", "backbone.width=4", "generator.blocks=1", "objective.identity=1"],
    "biggan-deep-imagenet128": [
        "data.size=16", "generator.width=4", "backbone.width=4", "generator.attention=[8]", "backbone.attention=[8]",
        "generator.init=normal", "backbone.init=normal", "schedule.accumulate=1",
    ],
    "digits-projection": ["generator.width=4", "backbone.width=4", "objective.penalties={gradient_penalty: 10, r1: 1}"],
}  # fmt: skip
"""Tiny networks of every kind: by convolutions, with attention, with bottlenecks, differentiated twice."""


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", KINDS)
def test_activations_are_estimated_as_they_are_kept(name: str, kind: str) -> None:
    """The estimate against what a real step on the CPU keeps for its backward pass, in that precision."""
    recipe = load(name, [*KINDS[name], "schedule.batch=6", f"compute.precision={kind}"])
    labels = SPEC if name != "digits-stargan" else LabelSpec.of_classes(["a", "b", "c"])
    state, objective = build.build_state(recipe, labels), build.build_objective(recipe)
    generator, discriminator = (
        MixedPrecision(one, getattr(torch, kind)) for one in (state.generator, state.discriminator)
    )
    images = torch.randn(6, recipe.data.channels, 16, 16)
    claimed = Labels.from_index(labels, torch.arange(6) % labels.width)
    source = images if recipe.translates else torch.randn(6, state.generator.latent_dim)
    kept = []
    for player in estimate.PLAYERS:
        training = player == "generator"
        state.discriminator.requires_grad_(not training)
        joint = recipe.schedule.joint and (not training or mixes_batch(state.discriminator))
        with estimate._saved_bytes([*state.generator.parameters(), *state.discriminator.parameters()]) as saved:
            with torch.set_grad_enabled(training):
                fake = generator(source, claimed)
            step = Step(
                generator=generator,
                discriminator=discriminator,
                real=images,
                real_labels=claimed,
                fake=fake,
                fake_labels=claimed,
                joint=joint,
            )
            weighted_sum(getattr(objective, player), step, 0)
        kept.append(sum(saved.values()))
    assert estimate.estimate_memory(recipe, labels).activations == pytest.approx(max(kept), rel=0.05)


def test_steps_per_iteration_are_counted() -> None:
    _, state = plain_run(iterations=3, d_steps=5, g_steps=2)
    assert (state.images, state.iteration) == (3 * 5 * 8, 3)
    assert next(iter(state.d_optimizer.state.values()))["step"] == 15
    assert next(iter(state.g_optimizer.state.values()))["step"] == 6


def test_each_player_changes_only_itself() -> None:
    state = plain_state()
    before = [p.clone() for p in state.generator.parameters()]
    torch.set_default_dtype(torch.float64)
    try:
        next(train(state, OBJECTIVES["acgan"](), plain_batches(8), PRIOR, until=8, g_steps=0))
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(before, state.generator.parameters(), strict=True))
    assert all(p.grad is None for p in state.generator.parameters())
    assert all(p.grad is None for p in state.discriminator.parameters())


def test_spectral_vectors_move_once_per_optimizer_step(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load("digits-projection", ["generator.width=2", "backbone.width=2", "schedule.batch=8"])
    data = read("digits", 16, 1)
    state = build.build_state(recipe, data.spec)
    calls = {id(state.generator): 0, id(state.discriminator): 0}

    class Counted(TrainedNorms):
        def __init__(self, network: nn.Module, at_hand: bool = False) -> None:
            super().__init__(network, at_hand)
            self.network = network

        def iterate(self) -> None:
            calls[id(self.network)] = calls.get(id(self.network), 0) + 1
            before = [norm.v.clone() for norm in self.norms]
            super().iterate()
            assert not all(torch.equal(norm.v, old) for norm, old in zip(self.norms, before, strict=True))

    monkeypatch.setattr("condgan.training.loop.TrainedNorms", Counted)
    steps = train(
        state, build.build_objective(recipe), build.stream(data.train, 8, 0), data.train.labels, until=10**6,
        d_steps=3, g_steps=2, accumulate=2,
    )  # fmt: skip
    next(steps)
    assert calls == {id(state.generator): 2, id(state.discriminator): 3, id(state.ema.module): 1}


NORMALIZED = {
    "projection": ("digits-projection", []),
    "parts": ("digits-biggan", ["schedule.accumulate=2"]),
    "twice differentiated": ("digits-projection", ["objective.penalties.r1=1"]),
    "several values": ("digits-projection", ["backbone.spectral_norm={values: 2, iterations: 2}"]),
    "weights themselves": (
        "digits-biggan",
        ["objective.penalties.orthogonal_generator=0.1", "objective.penalties.orthogonal_discriminator=0.1"],
    ),
}


@pytest.mark.parametrize("case", NORMALIZED)
def test_normalized_weights_at_hand_train_as_those_of_each_pass(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their gradients, turned into the weights' own once a step, are what autograd makes of each division."""
    name, overrides = NORMALIZED[case]
    small = ["generator.width=4", "backbone.width=4", "schedule.batch=8", "compute.precision=float32"]
    recipe, data = load(name, [*small, *overrides]), read("digits", 16, 1)

    def trained() -> tuple[list[dict[str, float]], set[bool], dict[str, torch.Tensor]]:
        state = build.build_state(recipe, data.spec)
        steps = training_steps.build_steps(recipe, state, data.train)
        losses = [{key: float(value) for key, value in next(steps).items()} for _ in range(4)]
        norms = [*spectral_norms(state.generator), *spectral_norms(state.discriminator)]
        at_hand = {norm.at_hand is not None and norm.version == weight._version for _, norm, weight in norms}
        steps.close()
        assert all(norm.at_hand is None for _, norm, _ in spectral_norms(state.generator))
        return losses, at_hand, state.generator.state_dict() | state.discriminator.state_dict()

    monkeypatch.setattr("condgan.data.loader.to_float", lambda images: to_float(images).double())
    with doubled():
        losses, at_hand, weights = trained()
        monkeypatch.setattr("condgan.training.loop.TrainedNorms", lambda network, at_hand=False: TrainedNorms(network))
        own_losses, of_own, own_weights = trained()
    assert (at_hand, of_own) == ({True}, {False})
    for kept, own in zip(losses, own_losses, strict=True):
        assert kept == pytest.approx(own, rel=1e-9)
    for key, weight in own_weights.items():
        assert torch.allclose(weights[key], weight, rtol=1e-7, atol=1e-9), key


def test_copies_of_a_network_that_trains_divide_by_themselves() -> None:
    layer = nn.Sequential(nn.Linear(3, 4))
    spectral_normalize(layer, Spectral())
    norms = TrainedNorms(layer, at_hand=True)
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        copied[0].parametrizations.weight.original.mul_(2)
        layer[0].parametrizations.weight.original.mul_(2)
    assert torch.allclose(copied[0].weight, layer[0].weight)
    assert copied[0].parametrizations.weight[0].at_hand is None
    norms.close()
    assert layer[0].parametrizations.weight[0].at_hand is None


def test_the_average_has_singular_vectors_of_its_own() -> None:
    """The mean of two unit vectors is none: without power iterations of its own, the average's σ would be too small."""
    overrides = ["generator.width=2", "backbone.width=2", "schedule.batch=8", "ema.decay=0.5", "g_opt.lr=0.05"]
    recipe = load("digits-projection", overrides)
    data = read("digits", 16, 1)
    state = build.build_state(recipe, data.spec)
    list(itertools.islice(training_steps.build_steps(recipe, state, data.train), 10))
    for _, norm, _ in spectral_norms(state.ema.module):
        for vectors in (norm.u, norm.v):
            assert torch.allclose(vectors.norm(dim=1), torch.ones(1), atol=1e-5)


def test_penalties_on_single_images_refuse_a_discriminator_that_mixes_them() -> None:
    recipe = load("digits-acgan", ["objective.penalties.r1=1"])
    with pytest.raises(UserError, match="a gradient penalty given with backbone 'acgan', whose batch norm mixes"):
        build.build_discriminator(recipe, SPEC)


@pytest.mark.parametrize(("labels", "share"), [("data", 2 / 3), ("uniform", 1 / 2)])
def test_fakes_labels_come_from_the_data_or_every_class_alike(labels: str, share: float) -> None:
    prior = training_steps.fake_labels_of(load("digits-acgan", [f"schedule.fake_labels={labels}"]), PRIOR)
    assert (prior.labels.index() == 1).float().mean().item() == pytest.approx(share)


def test_fakes_are_labeled_like_the_data() -> None:
    seen = []

    class Watching(PlainGenerator):
        def forward(self, latent: torch.Tensor, labels: Labels) -> torch.Tensor:
            seen.append(labels.index())
            return super().forward(latent, labels)

    torch.manual_seed(0)
    generator, discriminator = Watching(), PlainDiscriminator()
    optimizers = [torch.optim.SGD(network.parameters(), 0.0) for network in (generator, discriminator)]
    state = State(generator, discriminator, {"ema": EMA(generator, 0.0)}, *optimizers, seed=0)
    batches = (Batch(batch.images.float(), batch.labels) for batch in plain_batches(500))
    list(train(state, OBJECTIVES["acgan"](), batches, PRIOR, until=5000))
    assert torch.cat(seen).float().mean().item() == pytest.approx(2 / 3, abs=0.03)


def test_ema_is_the_formula() -> None:
    network = nn.BatchNorm1d(2)
    average = EMA(network, decay=0.75, start=10)
    network.weight.data.fill_(3.0)
    network.running_mean.fill_(8.0)
    network.num_batches_tracked.fill_(5)
    average.update(network, images=9, iteration=0)
    assert average.module.weight.tolist() == [3, 3]
    network.weight.data.fill_(7.0)
    network.running_mean.fill_(0.0)
    average.update(network, images=10, iteration=1)
    assert average.module.weight.tolist() == [4, 4]
    assert average.module.running_mean.tolist() == [6, 6]
    assert average.module.num_batches_tracked == 5
    assert not average.module.training


@pytest.mark.parametrize(("iteration", "decay"), [(0, 0.1), (90, 0.91), (10_000, 0.95)])
def test_a_young_average_follows_faster(iteration: int, decay: float) -> None:
    network = nn.Linear(1, 1)
    average = EMA(network, decay=0.95, start=0)
    average.module.weight.fill_(0.0)
    network.weight.data.fill_(1.0)
    average.update(network, images=64, iteration=iteration)
    assert average.module.weight.item() == pytest.approx(1 - decay)
