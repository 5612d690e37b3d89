import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from condgan.data.open import read
from condgan.evaluation import cache, catalog
from condgan.evaluation.cache import cached_statistics
from condgan.evaluation.catalog import select_metrics
from condgan.evaluation.compare import Reference, compare_images
from condgan.evaluation.extractors import Extractor
from condgan.evaluation.images import Real, stored
from condgan.evaluation.metrics.distances import frechet
from condgan.evaluation.metrics.diversity import class_pairs
from condgan.evaluation.statistics import collect_statistics
from condgan.labels import LabelSpec, LabelTable
from condgan.runs.evaluate import EvaluationOptions, evaluate
from condgan.sampling.options import Sampling
from tests.conftest import TINY, write_image
from tests.helpers import condgan, refused

SPEC = LabelSpec.of_classes(["a", "b"])
EVERYTHING = frozenset({"moments", "scores", "features", "predictions", "perceptual", "ms_ssim", "contrasts"})


class Colors(nn.Module):
    """Three features and three logits of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3)[..., None, None])
            self.conv.bias.zero_()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.conv(images.float() / 255)
        features = torch.cat([maps.mean((2, 3)), maps.std((2, 3))], 1)
        return features, 5 * features[:, :2]


EXTRACTOR = Extractor("colors", "00", "none", Colors())


class Drawn:
    """Images from a seed, in chunks of some size."""

    source, names = "drawn", ()

    def __init__(self, seed: int, count: int, size: int = 1000, labeled: bool = True) -> None:
        self.images = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed)).byte()
        self.chunk_size = size
        self.labels = LabelTable.from_index(SPEC, torch.arange(count) % 2) if labeled else None
        self.strata = torch.arange(count) % 2

    def __len__(self) -> int:
        return len(self.images)

    def chunks(self, part: slice = slice(None)) -> Iterator[Tensor]:
        yield from self.images[part].split(self.chunk_size)

    def at(self, numbers: Tensor) -> Tensor:
        return self.images[numbers]


def test_four_chunks_are_one() -> None:
    whole, parts = (
        collect_statistics(Drawn(0, 200, size), EXTRACTOR, EVERYTHING, EXTRACTOR, grouped=True) for size in (200, 50)
    )
    assert torch.equal(whole.features, parts.features)
    torch.testing.assert_close(whole.moments.outer, parts.moments.outer)
    assert whole.scores.score() == pytest.approx(parts.scores.score())
    assert torch.equal(whole.confusion, parts.confusion)
    assert whole.agreement == parts.agreement
    assert torch.equal(whole.pairs.perceptual, parts.pairs.perceptual)
    assert torch.equal(whole.pairs.ms_ssim, parts.pairs.ms_ssim)


def test_statistics_are_those_of_the_images() -> None:
    drawn = Drawn(0, 60)
    seen = collect_statistics(drawn, EXTRACTOR, EVERYTHING, EXTRACTOR)
    features, logits = EXTRACTOR(drawn.images)
    torch.testing.assert_close(seen.normal.mean, features.double().mean(0))
    torch.testing.assert_close(seen.normal.covariance, features.double().T.cov())
    read, asked = logits.argmax(1), drawn.labels.index()
    assert seen.agreement == pytest.approx(float((read == asked).double().mean()))
    assert seen.confusion[0, 1] == ((asked == 0) & (read == 1)).sum()
    index = class_pairs(asked, 2)
    assert torch.equal(seen.pairs.index, asked[index[:, 0]])
    one = seen.of_class(1)
    assert one.count == 30
    assert torch.equal(one.features, features[asked == 1])
    assert one.agreement == pytest.approx(float((read == 1)[asked == 1].double().mean()))


def test_features_that_are_not_finite_are_named() -> None:
    class Divides(Colors):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            features, logits = super().forward(images)
            return features / images.amax((1, 2, 3))[:, None], logits

    drawn = Drawn(0, 20, 8)
    drawn.images[13] = 0
    drawn.names = [f"{number}.png" for number in range(20)]
    with pytest.raises(ValueError, match=r"features of extractor 'colors' for image 13 \('13.png'\) of 'drawn'"):
        collect_statistics(drawn, Extractor("colors", "00", "none", Divides()), frozenset({"moments"}))


def test_statistics_are_kept_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data = read("digits", 16, 3)
    images = stored(data, "digits", "held-out")
    colors = Extractor("colors", "01", "none", Colors())
    needs = frozenset({"moments", "scores", "features", "perceptual", "ms_ssim"})
    first = cached_statistics(images, "key", colors, None, needs)
    monkeypatch.setattr(cache, "collect_statistics", None)
    again = cached_statistics(images, "key", colors, None, needs)
    torch.testing.assert_close(again.normal.covariance, first.normal.covariance)
    assert again.scores.score() == first.scores.score()
    assert torch.equal(again.features, first.features)
    assert torch.equal(again.pairs.perceptual, first.pairs.perceptual)
    assert torch.equal(again.labels.codes, images.labels.codes)
    for other in (
        (images, "key", Extractor("colors", "02", "none", Colors()), None, needs),
        (images.evenly_spaced(100), "key", colors, None, needs),
        (images, "other", colors, None, needs),
    ):
        with pytest.raises(TypeError):
            cached_statistics(*other)


def reference_of(real: Drawn, asked: list[str] | None = None) -> Reference:
    metrics = select_metrics("colors", asked, {"copies": "there is no training"})
    seen = collect_statistics(real, EXTRACTOR, metrics.needs, EXTRACTOR)
    return Reference(EXTRACTOR, EXTRACTOR, metrics, seen, None, None, None)


def test_real_images_against_themselves_are_perfect() -> None:
    real = Drawn(0, 400)
    metrics = reference_of(real).compare(real).metrics()
    assert metrics["fd_colors"] == pytest.approx(0, abs=1e-9)
    assert metrics["precision"] == metrics["recall"] == metrics["coverage"] == 1
    for name, value in metrics["real"].items():
        assert metrics[name] == pytest.approx(value), name
    swapped = [reference_of(Drawn(a, 300), ["fd_colors"]).compare(Drawn(b, 300)).metrics() for a, b in ((0, 1), (1, 0))]
    assert swapped[0]["fd_colors"] == pytest.approx(swapped[1]["fd_colors"], abs=1e-12)


def test_only_what_is_asked_for_is_kept_in_memory() -> None:
    metrics = select_metrics("colors", ["fd_colors", "score_colors", "label_agreement"], {})
    seen = collect_statistics(Drawn(0, 100), EXTRACTOR, metrics.needs, EXTRACTOR)
    assert seen.features is None
    row = metrics.row(seen, seen, None)
    assert set(row) == {"label_agreement", "fd_colors", "score_colors_mean", "score_colors_std", "real"}


def test_names_are_those_of_the_extractor() -> None:
    def names(extractor: str, wanted: list[str] | None) -> set[str]:
        return {one for names in select_metrics(extractor, wanted, {}).names.values() for one in names if one}

    assert names("inception", ["fid", "is", "kid"]) == {"fid", "is_mean", "is_std", "kid_mean", "kid_std"}
    assert names("inception", ["is_mean", "precision"]) == {"is_mean", "precision"}
    assert names("dinov2", ["fd_dinov2", "kd_dinov2"]) == {"fd_dinov2", "kd_dinov2_mean", "kd_dinov2_std"}
    assert not {"fid", "is_mean", "kid_mean"} & names("classifier", None)
    with pytest.raises(ValueError, match="FID is a number of the Inception features alone: ask for fd_dinov2"):
        names("dinov2", ["fid"])
    with pytest.raises(ValueError, match="did you mean 'coverage'"):
        names("classifier", ["covrage"])
    with pytest.raises(ValueError, match="metric 'is_mean' asked for, but it tells no classes"):
        select_metrics("inception", ["is_mean"], {"is": "it tells no classes"})
    assert "is_mean" not in {
        one for names in select_metrics("inception", None, {"is": ""}).names.values() for one in names
    }


def test_every_number_is_found_by_its_full_name() -> None:
    for extractor in ("inception", "classifier", "mine:Mine"):
        for metric in catalog.METRICS.values():
            for number in metric.numbers:
                name = number.name.format(**catalog.vocabulary(extractor))
                found = catalog.find_number(name)
                assert found is not None
                assert found[1] is number
                assert found[2] == (None if extractor == "inception" or "{" not in number.name else extractor)
    assert catalog.describe("intra_fid").title == "FID within a class"
    assert catalog.describe("fd_dinov2").title == "Fréchet distance (dinov2)"
    assert catalog.describe("intra_class_diversity").title == "Diversity within a class"
    assert catalog.describe("fidelity") is None
    assert catalog.score_names("generator") == ("label_agreement", "fd_classifier", "density", "coverage")
    assert catalog.score_names("translator") == ("label_agreement", "fd_classifier", "reconstruction_l1", "identity_l1")


# whole runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Digits as folders of classes: real ones, others as fakes, and fakes of too few kinds."""
    root = tmp_path_factory.mktemp("folders")
    data = read("digits", 16, 1)
    whole = stored(data, "digits", "all")
    index = whole.labels.index()
    for name, chosen in (("real", torch.arange(0, 900)), ("fakes", torch.arange(900, 1500))):
        for number in chosen.tolist():
            path = root / name / str(int(index[number])) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(whole.at(torch.tensor([number]))[0, 0].numpy()).save(path)
    return SimpleNamespace(root=root, real=root / "real", fakes=root / "fakes")


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A user's extractor in the current folder."""
    (tmp_path / "mine.py").write_text(
        "import torch\n\n"
        "class Mine(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.project = torch.nn.Parameter(torch.randn(48, 6, generator=torch.Generator().manual_seed(0)))\n\n"
        "    def forward(self, images):\n"
        "        small = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 4).flatten(1)\n"
        "        return small @ self.project, small[:, :10]\n"
    )
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return "mine:Mine"


def test_a_folder_against_another(capsys: pytest.CaptureFixture[str], folders: SimpleNamespace, own: str) -> None:
    done = condgan(capsys, "evaluate", folders.fakes, "--data", folders.real, "--extractor", own, "--json")
    assert done.code == 0, done.err
    metrics = json.loads(done.out)
    about = metrics["about"]
    assert (about["fakes"], about["real"], about["split"]) == (600, 900, "all")
    assert about["extractor"] == own
    assert len(about["extractor_sha256"]) == 64
    assert about["size"] == "16×16"
    low, high = metrics["intervals"][f"fd_{own}"]
    assert low <= metrics[f"fd_{own}"] <= high
    assert metrics["label_agreement"] > 0.8, "digits read by a classifier of the other folder's"
    assert metrics["precision"] > 0.8
    assert "copies" not in metrics
    fewer = condgan(capsys, "evaluate", folders.fakes, "--data", folders.real, "--extractor", own, "--n", 100, "--json")
    assert json.loads(fewer.out)["about"]["fakes"] == 100


def test_images_of_an_npz_file_are_those_of_the_folder(
    capsys: pytest.CaptureFixture[str], folders: SimpleNamespace, own: str
) -> None:
    images = stored(read(str(folders.fakes), 16, 1), "fakes", "all")
    x = torch.cat([*images.chunks()])
    np.savez("fakes.npz", x=x.numpy(), y=images.labels.index().numpy(), classes=np.array(images.labels.spec.classes))
    np.savez("diffusion.npz", x.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy(), images.labels.index().numpy())
    wanted = ["--extractor", own, "--metrics", f"fd_{own},precision", "--json"]
    of_folder, of_npz, of_other = (
        json.loads(condgan(capsys, "evaluate", subject, "--data", folders.real, *wanted).out)
        for subject in (folders.fakes, "fakes.npz", "diffusion.npz")
    )
    for other in (of_npz, of_other):
        assert other[f"fd_{own}"] == pytest.approx(of_folder[f"fd_{own}"])
        assert other["precision"] == of_folder["precision"]


def test_statistics_stand_for_images(capsys: pytest.CaptureFixture[str], folders: SimpleNamespace, own: str) -> None:
    options = ["--extractor", own]
    assert condgan(capsys, "statistics", folders.real, "real.npz", *options).code == 0
    wanted = [*options, "--metrics", f"fd_{own},score_{own}", "--json"]
    direct, kept = (
        json.loads(condgan(capsys, "evaluate", folders.fakes, "--data", data, *wanted).out)
        for data in (folders.real, "real.npz")
    )
    assert kept[f"fd_{own}"] == pytest.approx(direct[f"fd_{own}"])
    assert kept[f"score_{own}_mean"] == direct[f"score_{own}_mean"]
    refused(
        condgan(capsys, "evaluate", folders.fakes, "--data", "real.npz", *wanted, "--size", 12),
        "are of images of 16×16",
    )
    with np.load("real.npz") as file:
        np.savez("theirs.npz", mu=file["mu"], sigma=file["sigma"])
        np.savez("wide.npz", mu=np.zeros(7), sigma=np.eye(7))
        np.savez("odd.npz", mu=file["mu"], sigma=file["sigma"], about=np.array('{"by": "another tool"}'))
        np.savez("nan.npz", mu=np.full(6, np.nan), sigma=np.eye(6))
    assert condgan(capsys, "evaluate", folders.fakes, "--data", "odd.npz", *wanted).code == 0
    refused(condgan(capsys, "evaluate", folders.fakes, "--data", "nan.npz", *wanted), "expected finite ones")
    theirs = json.loads(condgan(capsys, "evaluate", folders.fakes, "--data", "theirs.npz", *wanted).out)
    assert theirs[f"fd_{own}"] == kept[f"fd_{own}"]
    assert "does not tell" in theirs["about"]["warnings"][0]
    images = np.zeros((8, 16, 16, 3), np.uint8)
    with np.load("real.npz") as file:  # as guided diffusion's reference batches
        np.savez("both.npz", images, mu=file["mu"], sigma=file["sigma"])
    both = json.loads(condgan(capsys, "evaluate", folders.fakes, "--data", "both.npz", *wanted).out)
    assert both[f"fd_{own}"] == kept[f"fd_{own}"]
    looked = [*options, "--metrics", f"fd_{own},precision", "--json"]
    both = json.loads(condgan(capsys, "evaluate", folders.fakes, "--data", "both.npz", *looked).out)
    assert (both["about"]["real"], both["precision"]) == (8, 0.0)
    refused(condgan(capsys, "evaluate", folders.fakes, "--data", "wide.npz", *wanted), "7 dimensions", "has 6")
    Path("mine.py").write_text(Path("mine.py").read_text().replace("manual_seed(0)", "manual_seed(1)"))
    sys.modules.pop("mine")
    refused(condgan(capsys, "evaluate", folders.fakes, "--data", "real.npz", *wanted), "are of extractor 'mine:Mine'")
    refused(
        condgan(capsys, "evaluate", folders.fakes, "--data", "real.npz", *options, "--metrics", "precision"),
        "metric 'precision' asked for, but --data is a file of statistics",
    )
    refused(condgan(capsys, "evaluate", folders.fakes, "--data", "real.npz"), "given without --extractor")


@pytest.fixture(scope="module")
def run(trained_digits: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a run of a second, which is compared by the classifier's features."""
    return Path(shutil.copytree(trained_digits(320), tmp_path_factory.mktemp("runs") / "tiny"))


def test_a_runs_numbers_say_where_they_come_from(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    about = metrics["about"]
    assert about.keys() >= {
        "checkpoint", "fakes", "real", "split", "extractor", "extractor_sha256", "resize", "batch_norm", "truncation",
        "seed", "warnings", "extractor_accuracy",
    }  # fmt: skip
    assert about["split"] == "held-out"
    numbers = {name for name, value in metrics.items() if not isinstance(value, dict | list)}
    assert metrics["real"].keys() == numbers - {"copies"}, "every number but copies has its ceiling"
    assert metrics["real"]["coverage"] > 0.8
    rows = metrics["per_class"].values()
    assert metrics["intra_fd_classifier"] == pytest.approx(np.mean([row["fd_classifier"] for row in rows]))
    labels = read("digits", 16, 1).held_out.labels
    counts = dict(zip(labels.spec.classes, labels.counts().tolist(), strict=True))
    for name, row in metrics["per_class"].items():
        assert sum(row["judged"].values()) == counts[name]
        assert row["label_agreement"] == pytest.approx(row["judged"].get(name, 0) / sum(row["judged"].values()))
    assert Image.open(run / "neighbors.png").size[0] > 300
    assert Image.open(run / "directions.png").size[0] > 300
    assert Image.open(run / "tree.png").size[0] > 900, "three trees, real images' among them"


def test_a_generator_without_labels_has_no_tree(capsys: pytest.CaptureFixture[str]) -> None:
    done = condgan(capsys, "train", "digits-projection", *TINY, "generator.conditioning=none", "head.name=plain",
                   "--out", "plain")  # fmt: skip
    assert done.code == 0, done.err
    assert Path("plain/directions.png").exists()
    assert not Path("plain/tree.png").exists()
    refused(condgan(capsys, "tree", "plain", "--out", "x"), "has a generator that sees no label")


def test_more_fakes_their_latents_and_their_batch_norms(run: Path) -> None:
    before = (run / "metrics.json").read_text()
    asked = EvaluationOptions(metrics=["fd_classifier", "label_agreement"], n=500)
    plain, again, other, cut, batch, large = (
        evaluate(run, options=asked, sampling=sampling)
        for sampling in (
            Sampling(), Sampling(), Sampling(seed=1), Sampling(truncation=0.1), Sampling(batch=50), Sampling(batch=500),
        )
    )  # fmt: skip
    assert plain == again
    assert plain["about"]["fakes"] == 500
    numbers = [one["fd_classifier"] for one in (plain, other, cut, batch, large)]
    assert len(set(numbers)) == 5
    assert cut["about"]["truncation"] == 0.1
    assert batch["about"]["batch_norm"] == "statistics of each batch of 50"
    assert (run / "metrics.json").read_text() == before, "what is not a whole evaluation is not kept"


def test_a_run_against_a_folder_and_in_the_training_split(run: Path, folders: SimpleNamespace) -> None:
    against = evaluate(run, folders.real, EvaluationOptions(metrics=["fd_classifier", "label_agreement"], split="all"))
    assert against["about"]["real"] == 900
    assert against["about"]["reference"] == str(folders.real)
    training = evaluate(run, options=EvaluationOptions(metrics=["fd_classifier"], split="train", n=100))
    assert training["about"]["split"] == "train"
    assert training["about"]["real"] == 1438
    assert training["about"]["ceilings"] == 100
    many = evaluate(run, options=EvaluationOptions(metrics=["fd_classifier"], n=3000))
    assert "real images' numbers are of" in many["about"]["warnings"][0]
    with pytest.raises(ValueError, match="'copies' asked for, but it needs the training images"):
        evaluate(run, options=EvaluationOptions(metrics=["copies"], split="train"))


def test_copies_are_found(run: Path) -> None:
    data = read("digits", 16, 1)
    side = Real("digits", "held-out", data, stored(data, "digits", "train"))
    asked = EvaluationOptions(metrics=["copies"])
    subsets = (stored(data, "digits", which).evenly_spaced(300) for which in ("train", "held-out"))
    copied, drawn = (compare_images(images, side, asked, {})[0].metrics()["copies"] for images in subsets)
    assert copied > 0.9
    assert drawn < 0.05


def test_a_report_of_a_run(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    assert condgan(capsys, "report", run, "--out", "page.html").out == "look at        page.html\n"
    assert "Label agreement" in Path("page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["fakes"], ["'fakes' is no run directory", "of images --data is needed"]),
        (["nowhere", "--data", "real"], ["'nowhere' does not exist", "a run directory, a folder of images"]),
        (["fakes", "--data", "nowhere"], ["nowhere"]),
        (["empty", "--data", "real"], ["empty"]),
        (["fakes", "--data", "empty"], ["empty"]),
        (["large", "--data", "real"], ["'large' are 20×20 and those of 'real' 16×16", "--size 20x20"]),
        (["mixed", "--data", "real"], ["'mixed' have different sizes, from 16×16 to 20×20"]),
        (["fakes", "--data", "real", "--n", "1000"], ["--n 1000 given, but there are 600 images in 'fakes'"]),
        (["fakes", "--data", "real", "--n", "0"], ["--n 0 given: expected 1 or more"]),
        (["fakes", "--data", "real", "--split", "test"], ["unknown split 'test'", "held-out"]),
        (["fakes", "--data", "real", "--metrics", "fid"], ["FID is a number of the Inception features alone"]),
        (["fakes", "--data", "real", "--extractor", "inceptoin"], ["unknown extractor", "did you mean 'inception'"]),
        (["fakes", "--data", "real", "--weights", "x.pth"], ["--weights x.pth given with the classifier"]),
        (["fakes", "--data", "real", "--extractor", "inception", "--weights", "x.pth"], ["x.pth", "cannot be read"]),
        (["fakes", "--data", "real", "--truncation", "1"], ["options of a run's sampling given with images"]),
        (["single", "--data", "real"], ["class '1' has 1 readable image"]),
        (["flat", "--data", "real", "--metrics", "score_classifier"], ["of 8 fakes: expected 10 or more"]),
        (["flat", "--data", "real", "--per-class"], ["--per-class given, which needs classes that both sides share"]),
        (["flat", "--data", "real", "--metrics", "label_agreement"], ["needs labels that both sides share"]),
        (["unread", "--data", "real"], ["none of the images of 'unread' can be read"]),
        (["nan.npz", "--data", "real"], ["x of float32", "uint8"]),
        (["text.npz", "--data", "real"], ["holds the arrays words"]),
        (["broken.npz", "--data", "real"], ["'broken.npz' cannot be read", "expected an npz file"]),
        (["fakes", "--data", "real", "--extractor", "narrow:Narrow"], ["image 0 ('0/0.png') of 'real' are not finite"]),
    ],
)
def test_bad_input_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str],
    folders: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    parts: list[str],
) -> None:
    for name in ("real", "fakes"):
        (tmp_path / name).symlink_to(folders.root / name)
    (tmp_path / "empty").mkdir()
    for name, sizes in {"large": [20, 20], "mixed": [16, 20], "flat": [16] * 8}.items():
        for number, size in enumerate(sizes):
            write_image(tmp_path / name / f"{number}.png", size=(size, size))
    for name in ("0/0", "0/1", "1/2"):
        write_image(tmp_path / f"single/{name}.png", size=(16, 16))
    (tmp_path / "unread").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"unread/{name}.png").write_bytes(b"no picture")
    np.savez("nan.npz", x=np.full((4, 1, 16, 16), np.nan, np.float32))
    np.savez("text.npz", words=np.zeros(3))
    Path("broken.npz").write_bytes(b"PK nothing")
    Path("narrow.py").write_text(
        "import torch\n\nclass Narrow(torch.nn.Module):\n    def forward(self, images):\n"
        "        return torch.full((len(images), 2), float('nan'))\n"
    )
    monkeypatch.setattr("condgan.evaluation.classifier.ENOUGH", 640)
    refused(condgan(capsys, "evaluate", *arguments), *parts)


def test_bad_input_about_runs_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], run: Path, folders: SimpleNamespace
) -> None:
    refused(condgan(capsys, "evaluate", run, "--standing", 2, "--batch-statistics", 50), "expected one of them")
    refused(condgan(capsys, "evaluate", run, "--size", 32), "--size 32 given with run")
    refused(condgan(capsys, "evaluate", run, "--batch-statistics", 1), "batch")
    refused(condgan(capsys, "statistics", folders.real, "x.npz", "--extractor", "classifier"), "give --extractor")
    refused(condgan(capsys, "report", folders.real), "is no run directory")


def test_torch_fidelity_says_the_same(
    capsys: pytest.CaptureFixture[str], folders: SimpleNamespace, fidelity: tuple[nn.Module, Path]
) -> None:
    for name in ("real", "fakes"):
        for number, path in enumerate(sorted((folders.root / name).rglob("*.png"))[:: 600 // 16][:16]):
            Path(name).mkdir(exist_ok=True)
            picture = Image.open(path)
            (ImageOps.invert(picture) if name == "fakes" else picture).save(f"{name}/{number:03}.png")
    options = ["--extractor", "inception", "--weights", fidelity[1], "--metrics", "is,kid", "--json"]
    ours = json.loads(condgan(capsys, "evaluate", "fakes", "--data", "real", *options).out)
    theirs = torch_fidelity.calculate_metrics(
        input1="fakes", input2="real", isc=True, kid=True, cuda=False, verbose=False, kid_subset_size=16,
        feature_extractor_weights_path=str(fidelity[1]), cache=False, save_cpu_ram=True,
    )  # fmt: skip
    assert ours["is_mean"] == pytest.approx(theirs["inception_score_mean"], rel=1e-4)
    assert ours["is_std"] == pytest.approx(theirs["inception_score_std"], rel=1e-3, abs=1e-6)
    assert ours["kid_mean"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert "not the weights" in ours["about"]["warnings"][-1]


def test_frechet_is_that_of_torch_fidelity() -> None:
    a, b = (torch.randn(200, 12) @ torch.randn(12, 12) for _ in range(2))
    statistics = [fid_features_to_statistics(features) for features in (a, b)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet(a, b) == pytest.approx(theirs, rel=1e-5)


def test_an_extractor_is_another_one_when_its_code_changes(
    capsys: pytest.CaptureFixture[str], folders: SimpleNamespace, own: str
) -> None:
    wanted = ["evaluate", folders.fakes, "--data", folders.real, "--extractor", own, "--metrics", f"fd_{own}", "--json"]
    first = json.loads(condgan(capsys, *wanted).out)
    Path("mine.py").write_text(Path("mine.py").read_text().replace("/ 255", "/ 127"))
    sys.modules.pop("mine")
    again = json.loads(condgan(capsys, *wanted).out)
    assert again["about"]["extractor_sha256"] != first["about"]["extractor_sha256"]
    assert again[f"fd_{own}"] == pytest.approx(first[f"fd_{own}"] * (255 / 127) ** 2, rel=1e-4)


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("def Mine(:", "cannot be imported ("),
        (
            "def Mine():\n    raise RuntimeError('weights are missing')",
            "cannot be made (weights are missing)",
        ),
        (
            "import torch\n\ndef Mine():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5, 2))",
            "fails on images of 1 × 3 × 16 × 16",
        ),
    ],
)
def test_mistakes_in_ones_own_extractor_are_told(
    capsys: pytest.CaptureFixture[str], folders: SimpleNamespace, own: str, code: str, part: str
) -> None:
    Path("mine.py").write_text(code)
    refused(condgan(capsys, "evaluate", folders.fakes, "--data", folders.real, "--extractor", own), part)


def test_classes_that_are_missing_or_others_are_told(
    capsys: pytest.CaptureFixture[str], folders: SimpleNamespace, own: str
) -> None:
    for digit in "345":
        shutil.copytree(folders.fakes / digit, f"three/{digit}")
        shutil.copytree(folders.fakes / digit, f"other/digit_{digit}")
    options = ["--data", folders.real, "--extractor", own, "--metrics", f"fd_{own}", "--json"]
    three, other = (json.loads(condgan(capsys, "evaluate", name, *options).out) for name in ("three", "other"))
    assert "7 of 10 classes have no fakes, such as '0'" in three["about"]["warnings"]
    assert any("are not those of" in one for one in other["about"]["warnings"])


def test_the_embedded_digits_are_a_reference_too(capsys: pytest.CaptureFixture[str], own: str) -> None:
    assert condgan(capsys, "statistics", "digits", "digits.npz", "--extractor", own, "--size", 16).code == 0
    with np.load("digits.npz") as file:
        assert json.loads(str(file["about"]))["real"] == 1797


def test_numbers_of_classes_in_another_order_are_told(capsys: pytest.CaptureFixture[str], own: str) -> None:
    rng = np.random.default_rng(0)
    shades = rng.permutation(np.arange(11)) * 23
    images = (shades[:, None, None, None] + rng.integers(0, 9, (11, 20, 16, 16))).astype(np.uint8)
    for number in range(11):
        for i, image in enumerate(images[number, :10]):
            path = Path("real", str(number), f"{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    by_text = [int(name) for name in sorted(map(str, range(11)))]
    x = images[by_text, 10:].reshape(-1, 1, 16, 16)
    np.savez("fakes.npz", x=x, y=np.repeat(np.arange(11), 10))
    wanted = ["--metrics", "label_agreement", "--json"]
    said = json.loads(condgan(capsys, "evaluate", "fakes.npz", "--data", "real", *wanted).out)["about"]["warnings"]
    assert any("read as the names: 2 is class '2'." in one and "it is class '10'" in one for one in said)
    assert any("counted from 0: if that is meant, give the classes their names" in one for one in said)
    np.savez("fakes.npz", x=x, y=np.repeat(np.arange(11), 10), classes=np.array(by_text).astype(str))
    found = json.loads(condgan(capsys, "evaluate", "fakes.npz", "--data", "real", *wanted).out)
    assert found["label_agreement"] > 0.5
    assert not any("names" in one for one in found["about"]["warnings"])


def test_real_images_that_are_copies_are_told(capsys: pytest.CaptureFixture[str], own: str) -> None:
    rng = np.random.default_rng(0)
    real, fakes = (rng.integers(0, 255, (40, 1, 16, 16)).astype(np.uint8) for _ in range(2))
    np.savez("fakes.npz", x=fakes)
    wanted = ["--extractor", own, "--metrics", "precision,density,coverage", "--json"]
    for copies in (6, 5):
        some = np.concatenate([real[:1].repeat(copies, 0), real[copies:]])
        np.savez("real.npz", x=some)
        found = json.loads(condgan(capsys, "evaluate", "fakes.npz", "--data", "real.npz", *wanted).out)
        told = [one for one in found["about"]["warnings"] if "real images are the same as 5 others" in one]
        assert len(told) == (copies == 6)


@pytest.mark.parametrize("metrics", ["nope", "fd_classifier,nope", ",", "fid"])
def test_metrics_that_there_are_not_are_told_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], metrics: str
) -> None:
    refused(condgan(capsys, "evaluate", "nowhere", "--data", "nowhere", "--metrics", metrics), "metric '")


def test_utility_of_nothing_says_that_there_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    refused(condgan(capsys, "utility", "runs/nope"), "'runs/nope' does not exist: give a run directory")
