"""Selecting a run's images: which are kept, and what is told of them."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condgan.data.dataset import Split
from condgan.evaluation import classifier
from condgan.evaluation.judges import CrossFitted, joint_logits
from condgan.labels import LabelSpec, LabelTable
from condgan.runs import select as selecting
from condgan.runs.models import load_model
from condgan.runs.select import CRITERIA, select
from condgan.types import DiscriminatorOutput
from condgan.utils.errors import UserError
from tests.helpers import condgan, refused


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "ENOUGH", 0)


def shaded(count: int, seed: int) -> Split:
    """Dark images, bright ones, and noise on both."""
    drawing = torch.Generator().manual_seed(seed)
    index = torch.arange(count) % 2
    images = 60 + 120 * index[:, None, None, None] + torch.randint(60, (count, 1, 16, 16), generator=drawing)
    return Split(images.to(torch.uint8), LabelTable.from_index(LabelSpec.of_classes(["dark", "bright"]), index))


def test_judges_rank_fakes_among_images_they_have_not_learned_from() -> None:
    judges, fakes = CrossFitted.of(shaded(300, 0), "shaded"), shaded(200, 1)
    for rank in (judges.agreement, judges.centroid):
        found = rank(fakes.images, fakes.labels)
        assert 0.35 < float(found.mean()) < 0.65
        assert float((found < 0.1).double().mean()) < 0.25
        swapped = LabelTable.from_index(fakes.labels.spec, 1 - fakes.labels.index())
        assert float(rank(fakes.images, swapped).max()) < 0.05
    assert sum(len(judge.classes) for judge in judges.judges) == 300, "each real image is held back once"


def test_joint_logits_know_image_and_class() -> None:
    classes, drawing = torch.tensor([2, 0]), torch.Generator().manual_seed(0)
    score, p, q = torch.tensor([0.5, -1.0]), torch.randn(2, 3, generator=drawing), torch.randn(2, 3, generator=drawing)
    assert joint_logits(DiscriminatorOutput(score), classes) is score
    twin = joint_logits(DiscriminatorOutput(score, None, {"logits": p, "twin": q}), classes)
    expected = [
        float(score[i] + (p[i, y].exp() / p[i].exp().sum()).log() - (q[i, y].exp() / q[i].exp().sum()).log())
        for i, y in enumerate([2, 0])
    ]
    assert twin.tolist() == pytest.approx(expected, abs=1e-6)
    both = joint_logits(DiscriminatorOutput(score, None, {"adc": torch.stack([p, q], 1)}), classes)
    assert torch.equal(both, (p - q)[[0, 1], classes])


@pytest.mark.parametrize("name", CRITERIA)
def test_what_is_kept_is_what_the_model_samples(
    name: str, digits_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selecting, "AGREES", 0.0)  # of a generator that has hardly learned
    monkeypatch.setattr(selecting, "CENTRAL", 0.0)
    run = digits_run()
    model = load_model(run)
    found = select(run, model, [name], ["3", "8"], 2, seed=5)
    assert found.classes == ["3", "3", "8", "8"]
    every = model.sample(["3", "8"], 1 + max(found.numbers), 5).reshape(2, -1, 16, 16)
    for i, (image, number) in enumerate(zip(found.images, found.numbers, strict=True)):
        assert np.array_equal(image, every[i // 2, number])
    assert set(found.accepted) == {"3", "8"}
    assert all(0 < rate <= 1 for rate in found.accepted.values())
    again = select(run, model, [name], ["3", "8"], 2, seed=5)
    assert again.numbers == found.numbers


def test_an_image_must_please_all(digits_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """More images are made until enough are accepted; each keeps its scores."""
    run = digits_run()
    model = load_model(run)

    def every_third(*_: object) -> selecting.Judged:
        return selecting.Judged(
            lambda images, labels: torch.arange(len(images)).double(), lambda scores, _: scores % 3 == 0
        )

    def bright(*_: object) -> selecting.Judged:
        return selecting.Judged(
            lambda images, labels: images.double().mean((1, 2, 3)), lambda scores, _: scores > scores.median()
        )

    monkeypatch.setattr(selecting, "CRITERIA", {"agreement": every_third, "centroid": bright})
    found = select(run, model, ["agreement", "centroid"], ["1"], 5)
    assert len(found.numbers) == 5
    assert all(score % 3 == 0 for score in found.scores["agreement"])
    every = model.sample("1", 200).astype(float).mean((1, 2))
    assert found.scores["centroid"] == pytest.approx(every[found.numbers].tolist(), abs=1e-6)


def test_too_few_that_please_are_told(digits_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run = digits_run()
    monkeypatch.setattr(selecting, "CRITERIA", {"copies": lambda *_: selecting.Judged(
        lambda images, labels: torch.zeros(len(images)), lambda scores, classes: classes == 3
    )})  # fmt: skip
    told = "^copies accepted 0 of 64 images of class '8': expected 2; ask for fewer, or by less$"
    with pytest.raises(UserError, match=told):
        select(run, load_model(run), ["copies"], ["3", "8"], 2)


def test_the_command_tells_shares_and_writes_a_table(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path]
) -> None:
    run = digits_run()
    done = condgan(
        capsys, "sample", run, "--select", "discriminator", "--per-class", 3, "--classes", "3,8", "--out", "o"
    )
    assert done.code == 0, done.err
    assert done.out.startswith("accepted ")
    assert "selection.csv" in done.out
    rows = list(csv.DictReader(Path("o/selection.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == [f"{name}/{i}.png" for name in "38" for i in range(3)]
    model = load_model(run)
    for row in rows:
        image = model.sample(row["class"], 1 + int(row["number"]), int(row["seed"]))[-1]
        assert np.array_equal(np.asarray(Image.open(Path("o") / row["file"])), image)
        assert row["checkpoint"] == "best"
        float(row["discriminator"])
    assert condgan(capsys, "sample", run, "--per-class", 3, "--classes", "3,8", "--out", "o").code == 0
    assert not Path("o/selection.csv").exists(), "it would tell of images that are there no more"


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--select", "beauty"], "unknown criterion 'beauty': "),
        (["--select", "copies", "--mixture", "3=0.5,8=0.5"], "images of classes are selected, into a folder"),
        (["--select", "copies", "--out", "o.npz"], "images of classes are selected, into a folder"),
    ],
)
def test_what_cannot_be_selected_is_told(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path], options: list[str], part: str
) -> None:
    refused(condgan(capsys, "sample", digits_run(), "--out", "o", *options), part)
