"""Starting from another run: what is taken, by name, shape and label; what is frozen; what is refused."""

import json
import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from condgan.build import build_discriminator, build_state
from condgan.data.open import read
from condgan.estimate import count_parameters, estimate_memory
from condgan.labels import Field, Labels, LabelSpec
from condgan.networks import BACKBONES
from condgan.networks.frozen import freeze_lowest
from condgan.networks.spectral_norm import spectral_norms
from condgan.networks.transition import bare
from condgan.recipes.load import dump, load
from condgan.recipes.schema import Recipe
from condgan.runs import checkpoint, transfer
from condgan.training.state import State
from condgan.training_steps import build_steps
from condgan.types import ImageShape
from condgan.utils.errors import UserError
from tests.conftest import TINY
from tests.helpers import ABC, condgan, refused, weights
from tests.runs.test_checkpoint import sign

SMALL = ["generator.width=4", "backbone.width=4", "schedule.batch=8", "schedule.images=800", "compute.compile=false"]
CAB = LabelSpec.of_classes(["cherry", "damson", "apple"])
"""Other fruit: one is new, one is gone."""


def recipe_of(name: str, *overrides: str, start: str | None = None) -> Recipe:
    return load(name, [*SMALL, *overrides, *([f"transfer.run={start}"] if start else [])])


def source_of(recipe: Recipe, labels: LabelSpec, run: Path = Path("source")) -> State:
    """A run directory with one checkpoint, in which no tensor is what any recipe begins with."""
    state = build_state(recipe, labels)
    torch.manual_seed(7)
    for network in state.networks.values():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.add_(0.3 * torch.rand_like(value) - 0.15)
    state.images = 16
    checkpoint.save_checkpoint(run / "checkpoints", state, recipe, labels, {"fd_classifier": 1.0})
    (run / "recipe.yaml").write_text(dump(recipe))
    return state


def started(recipe: Recipe, labels: LabelSpec) -> tuple[State, transfer.Plan]:
    """A state that begins with the weights of the recipe's run."""
    assert recipe.transfer.run is not None
    source, state = transfer.open_source(recipe.transfer.run), build_state(recipe, labels)
    plan = transfer.plan(recipe, labels, source)
    transfer.take(plan, source, state)
    return state, plan


def tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(own: nn.Module, theirs: nn.Module) -> bool:
    pairs = zip(own.state_dict().items(), theirs.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.mark.parametrize("name", ["digits-acgan", "digits-biggan", "digits-sagan", "digits-adcgan"])
def test_an_equal_recipe_begins_with_the_same_weights(name: str) -> None:
    source = source_of(recipe_of(name), ABC)
    state, plan = started(recipe_of(name, "averages.slow.half_life=1000", start="source"), ABC)
    assert same(state.generator, source.generator)
    assert same(state.discriminator, source.discriminator)
    assert same(state.ema.module, source.ema.module)
    assert same(state.averages["slow"].module, source.ema.module)
    assert not same(state.ema.module, source.generator)
    assert [line.partition(":")[2][:5] for line in plan.lines] == [" all "] * 2


@pytest.mark.parametrize(
    "change", [["data.size=32"], ["data.channels=3"], ["backbone.width=6", "generator.width=8"], ["head.name=plain"]]
)
def test_what_agrees_is_taken_and_the_rest_begins_freshly(change: list[str]) -> None:
    source = source_of(recipe_of("digits-projection"), ABC)
    recipe = recipe_of("digits-projection", *change, start="source")
    fresh, (state, plan) = build_state(recipe, ABC), started(recipe, ABC)
    vectors = {name for network in state.networks.values() for name in network.state_dict() if name[-4:-1] == ".0."}
    for player, fit in (("generator", plan.generator), ("discriminator", plan.discriminator)):
        own, first, theirs = (tensors(getattr(one, player)) for one in (state, fresh, source))
        fits = {name for name in own if name in theirs and own[name].shape == theirs[name].shape}
        assert fit.whole == fits
        assert fit.left == own.keys() - fits
        for name in own.keys() - vectors:
            assert torch.equal(own[name], (theirs if name in fits else first)[name]), name
        taken, left = (len({name for name in part if own[name].is_floating_point()} - vectors) for part in fit[::2])
        (line,) = [line for line in plan.lines if f"{player}: " in line]
        assert f"{player}: {f'{taken} of {taken + left}' if left else f'all {taken}'} tensors" in line
        for _, norm, weight in spectral_norms(getattr(state, player)):
            matrix = norm.matrix(weight)
            if not any(weight is value for name, value in getattr(state, player).named_parameters() if name in fits):
                exact = torch.linalg.svdvals(matrix.detach())[0]
                assert norm.singular_values(weight)[0] == pytest.approx(float(exact), rel=1e-4)


CONDITIONS = {
    "a table of each norm": ["digits-projection"],
    "a shared embedding": ["digits-biggan"],
    "added": ["digits-acgan"],
    "concatenated": ["digits-acgan", "generator.conditioning=concatenate"],
    "multiplied": ["digits-acgan", "generator.conditioning=multiply"],
    "planes": ["digits-stargan", "generator.blocks=1", "schedule.decay=0"],
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_a_class_of_the_same_name_looks_as_it_did(case: str) -> None:
    labels = [ABC, CAB]
    if case == "planes":
        labels = [LabelSpec((Field("attributes", one.classes, exclusive=False),)) for one in labels]
    source = source_of(recipe_of(*CONDITIONS[case]), labels[0])
    state, plan = started(recipe_of(*CONDITIONS[case], start="source"), labels[1])
    torch.manual_seed(0)
    latents = torch.randn(2, state.generator.latent_dim) if state.generator.latent_dim else torch.randn(2, 3, 16, 16)
    for theirs, own in ((source.generator, state.generator), (source.ema.module, state.ema.module)):

        def images(network: nn.Module, spec: LabelSpec, *share: float) -> Tensor:
            with torch.no_grad():
                return network.eval()(latents, Labels(spec, torch.tensor([share] * 2), torch.ones(2, 1) > 0))

        before = [images(theirs, labels[0], *one) for one in ((1.0, 0, 0), (0.0, 0, 1), (1 / 3, 1 / 3, 1 / 3))]
        after = [images(own, labels[1], *one) for one in ((0.0, 0, 1), (1.0, 0, 0), (0.0, 1, 0))]
        for one, other in zip(before, after, strict=True):
            assert torch.allclose(one, other, atol=1e-5)
        assert not torch.allclose(before[0], before[1], atol=1e-3)
    assert plan.lines[-1] == "labels: 2 of 3 by their names; as the mean of the 3 there: damson"


@pytest.mark.parametrize("head", ["projection", "classifier", "twin", "adc"])
def test_a_head_knows_the_classes_that_it_knew(head: str) -> None:
    objective = {"projection": "gan", "classifier": "acgan", "twin": "tacgan", "adc": "adcgan"}[head]
    parts = ["digits-projection", f"head={{name: {head}, spectral_norm: null}}", f"objective.name={objective}"]
    source = source_of(recipe_of(*parts), ABC)
    state, plan = started(recipe_of(*parts, start="source"), CAB)
    images = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        theirs, own = (
            network(images, Labels.from_index(spec, torch.tensor(index)))
            for network, spec, index in ((source.discriminator, ABC, [0, 2]), (state.discriminator, CAB, [2, 0]))
        )
    assert torch.allclose(theirs.score, own.score, atol=1e-4)
    for name in {"logits", "twin", "adc"} & theirs.named.keys():
        assert torch.allclose(theirs.named[name][..., [0, 2]], own.named[name][..., [2, 0]], atol=1e-4)
    assert not plan.discriminator.left


def test_norms_of_embeddings_with_other_rows_begin_anew() -> None:
    source_of(recipe_of("digits-projection"), ABC)
    state, _ = started(recipe_of("digits-projection", start="source"), CAB)
    (norm, weight), *_ = [(norm, weight) for name, norm, weight in spectral_norms(state.discriminator) if "emb" in name]
    exact = torch.linalg.svdvals(weight.detach())[0]
    assert float(norm.singular_values(weight)[0]) == pytest.approx(float(exact), rel=1e-5)


def test_labels_of_several_data_sets_are_taken_if_they_are_the_same() -> None:
    def labels(*names: str) -> LabelSpec:
        return LabelSpec((Field("one", names, exclusive=False), Field("other", ("x", "y"))))

    parts = ["digits-stargan", "generator.blocks=1", "data.source=[a, b]", "schedule.decay=0"]
    source = source_of(recipe_of(*parts), labels("p", "q"))
    state, _ = started(recipe_of(*parts, start="source"), labels("p", "q"))
    assert same(state.generator, source.generator)
    _, plan = started(recipe_of(*parts, start="source"), labels("q", "p"))
    assert {name for name in plan.generator.left if "weight" in name} == {"first.0.weight"}


def test_every_backbone_has_stages_that_are_all_its_weights() -> None:
    for name, make in BACKBONES.items():
        for options in ({}, {"attention": (16,)}):
            if options and "attention" not in make.__init__.__annotations__:
                continue
            backbone = make(ImageShape(1, 32, 32), width=4, **options)
            before, count = tensors(backbone), sum(1 for _ in backbone.parameters())
            stages = backbone.stages()
            assert sum(len([*stage.parameters()]) for stage in stages) == count, name
            places = [next(iter(stage.parameters())) for stage in stages]
            image = torch.rand(1, 1, 32, 32)
            with torch.no_grad():
                said = backbone.eval()(image)
                freeze_lowest(backbone, len(stages) - 1)
                assert torch.equal(backbone(image), said)
            assert [*backbone.parameters()] == [*stages[-1].parameters()]
            assert places[-1] is next(backbone.parameters())
            assert tensors(backbone).keys() == before.keys()
            with pytest.raises(UserError, match=f"transfer.frozen 99 given: this backbone has {len(stages)} stages"):
                freeze_lowest(backbone, 99)


@pytest.mark.parametrize("name", ["digits-projection", "digits-sagan", "digits-acgan"])
def test_frozen_weights_stay_and_the_others_move(name: str) -> None:
    overrides = ["objective.penalties={orthogonal_discriminator: 1e-4, r1: 1}"] * (name == "digits-projection")
    source = source_of(recipe_of(name, *overrides), LabelSpec.of_classes([*"0123456789"]))
    recipe = recipe_of(name, *overrides, "transfer.frozen=2", start="source")
    split = read("digits", 16, 1).train
    state, _ = started(recipe, split.labels.spec)
    weight_names = {key for key, _ in source.discriminator.named_parameters()}
    stages = build_discriminator(recipe_of(name), split.labels.spec).backbone.stages()[:2]
    frozen = weight_names - {key for key, _ in state.discriminator.named_parameters()}
    assert len(frozen) == sum(len([*stage.parameters()]) for stage in stages) > 0
    list(islice(build_steps(recipe, state, split), 3))
    before, after = tensors(source.discriminator), tensors(state.discriminator)
    for key in weight_names:
        assert torch.equal(before[key], after[key]) == (key in frozen), key
        assert torch.equal(before[key], after[key]) or key not in frozen
    for key in frozen:
        if key.endswith("original"):
            for vector in "uv":
                beside = f"{key.removesuffix('original')}0.{vector}"
                assert torch.equal(before[beside], after[beside]), beside
    moments = {id(parameter) for parameter in state.d_optimizer.state}
    assert moments == {id(parameter) for parameter in state.discriminator.parameters()}
    assert not same(state.generator, source.generator)


def test_frozen_weights_need_neither_gradients_nor_moments() -> None:
    free = recipe_of("digits-projection")
    frozen = recipe_of("digits-projection", "transfer.frozen=3", start="anywhere")
    saved = count_parameters(free, ABC)[1] - count_parameters(frozen, ABC)[1]
    stages = build_discriminator(free, ABC).backbone.stages()[:3]
    assert saved == sum(weight.numel() for stage in stages for weight in stage.parameters())
    before, after = estimate_memory(free, ABC), estimate_memory(frozen, ABC)
    vectors = sum(value.nbytes for stage in stages for value in stage.buffers())
    assert before.kept - after.kept == 3 * 4 * saved - vectors
    assert 0 < after.activations <= before.activations


def test_resumed_is_uninterrupted_without_the_run_that_it_began_with(
    capsys: pytest.CaptureFixture[str], digits_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = digits_run("first")
    best = json.loads((first / "metrics.json").read_text())["about"]["checkpoint"]
    told = json.loads((first / "checkpoints" / best / "state.json").read_text())["sha256"]
    new = ["train", "digits-acgan", *TINY, "--from", "first", "seed=3", "transfer.frozen=2"]
    assert condgan(capsys, *new, "schedule.images=128", "--out", "parts").code == 0
    whole = condgan(capsys, *new, "--out", "whole")
    assert whole.code == 0
    assert f"from '{Path.cwd() / 'first'}' after {int(best):,} images, generator: all" in whole.err
    shutil.rmtree(first)
    resumed = condgan(capsys, *new, "--out", "parts")
    assert resumed.code == 0
    assert "resuming parts at 128 images" in resumed.err
    assert " all " not in resumed.err
    assert weights(Path("parts")) == weights(Path("whole"))
    for run in ("parts", "whole"):
        record = json.loads((Path(run) / "environment.json").read_text())["transfer"]
        assert record["run"] == str(Path.cwd() / "first")
        assert record["checkpoint"] == best
        names = ("generator", "discriminator", "ema")
        assert record["sha256"] == {name: told[f"{name}.safetensors"] for name in names}
    refused(condgan(capsys, *new, "transfer.frozen=1", "--out", "parts"), "other settings, transfer.frozen 2 there")
    refused(condgan(capsys, *new, "--out", "new"), "'", "is no run directory")
    assert not Path("new").exists()


def test_without_a_recipe_the_run_has_one(capsys: pytest.CaptureFixture[str], digits_run, photos: Path) -> None:
    digits_run("first")
    done = condgan(
        capsys, "train", "--data", "photos", "--from", "first/checkpoints/latest", "--dry-run", "--full", "seed=5"
    )
    assert done.code == 0, done.err
    assert "\nrun directory  runs/photos\n" in done.out
    recipe = load(_written(done.out.partition("\ndata   ")[0]))
    own = load(Path("first/recipe.yaml"))
    assert (recipe.name, recipe.seed, recipe.data.source) == ("photos", 5, str(photos))
    assert (recipe.generator, recipe.backbone, recipe.schedule) == (own.generator, own.backbone, own.schedule)
    assert recipe.transfer.run == str(Path("first/checkpoints/latest").resolve())
    assert f"from '{Path.cwd() / 'first'}' after 320 images, generator: all " in done.out
    assert "labels: 0 of 3 by their names; as the mean of the 10 there: apple, banana, cherry" in done.out
    assert not Path("runs").exists()


def test_without_a_recipe_it_goes_on_without_the_run_that_it_began_with(
    capsys: pytest.CaptureFixture[str], digits_run, photos: Path
) -> None:
    first = digits_run("first")
    again = ["train", "--data", "photos", "--from", "first", "data.held_out=0.4"]
    assert condgan(capsys, *again, "schedule.images=64").code == 0
    shutil.rmtree(first)
    done = condgan(capsys, *again, "schedule.images=128")
    assert done.code == 0, done.err
    assert "resuming runs/photos at 64 images" in done.err
    assert "chose          the recipe of run 'runs/photos', since it is there; --fresh chooses anew" in done.out
    refused(condgan(capsys, *again, "--fresh"), "'first' is no run directory")


@pytest.mark.parametrize(("before", "after"), [([], [True]), ([True], [])])
def test_labels_may_come_in_by_and_by_after_another_run(before: list[bool], after: list[bool]) -> None:
    ramp = "objective.transition={start: 0, end: 1, images: 400}"
    source = source_of(recipe_of("digits-projection", *(ramp for _ in before)), ABC)
    state, plan = started(recipe_of("digits-projection", *(ramp for _ in after), start="source"), ABC)
    assert not plan.generator.left
    assert same(bare(state.generator), bare(source.generator))


def _written(text: str) -> Path:
    path = Path("printed.yaml")
    path.write_text(text)
    return path


def test_a_start_that_was_killed_before_its_first_checkpoint_starts_again(
    capsys: pytest.CaptureFixture[str], digits_run
) -> None:
    digits_run("first")
    new = ["train", "digits-acgan", *TINY, "--from", "first", "schedule.images=64"]
    assert condgan(capsys, *new, "--out", "whole").code == 0
    shutil.copytree("whole", "killed")
    shutil.rmtree("killed/checkpoints")
    assert condgan(capsys, *new, "--out", "killed").code == 0
    assert weights(Path("killed")) == weights(Path("whole"))


def test_what_cannot_be_started_from_is_told_in_a_line(capsys: pytest.CaptureFixture[str], digits_run) -> None:
    run = digits_run("first")

    def told(arguments: str, *said: str) -> None:
        refused(condgan(capsys, "train", *arguments.split()), *said)
        assert not Path("runs").exists()

    acgan = " ".join(["digits-acgan", *TINY])
    told("--from nowhere --data digits", "'nowhere' is no run directory")
    told("digits-acgan --from nowhere", "nowhere' is no run directory")
    told(f"{acgan} --from first/checkpoints/999", "has no checkpoint 999")
    told("digits-acgan transfer.frozen=2", "transfer.frozen 2 given without a run", "add --from RUN")
    told("digits-acgan --from first transfer.froze=2", "unknown option 'transfer.froze'")
    told(f"{acgan} --from first transfer.frozen=50", "this backbone has 7 stages")
    told(f"{acgan} --from first transfer.frozen=3 backbone.width=6", "fitting backbone.layers.0.bias", "frozen=0")
    told("digits-stargan --from first", "nothing of the generator", "fits the generator of recipe 'digits-stargan'")
    last = run / "checkpoints" / "320"
    content = checkpoint.load_networks(last, "").networks["discriminator"].state_dict()
    content["head.score.bias"] = torch.full_like(content["head.score.bias"], float("nan"))
    sign(last, "discriminator.safetensors", save({key: value.contiguous() for key, value in content.items()}))
    told(f"{acgan} --from {last}", "not finite, such as head.score.bias: start from another one")
    sign(last, "discriminator.safetensors", save({"a": torch.zeros(3)}))
    told(f"{acgan} --from {last}", "discriminator.safetensors' cannot be read (it is of another network")
    (last / "ema.safetensors").write_bytes(b"")
    told(f"{acgan} --from {last}", "is damaged (ema.safetensors", "first/checkpoints/")
