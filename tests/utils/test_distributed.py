"""Several processes see together what one sees: as threads, whose collectives are a few lines, and as processes."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from condgan.data.open import read
from condgan.evaluation import cache
from condgan.evaluation.cache import cached_statistics
from condgan.evaluation.extractors import Extractor
from condgan.evaluation.images import stored
from condgan.evaluation.moments import Moments
from condgan.evaluation.statistics import FeatureStatistics, Images, collect_statistics
from condgan.labels import Field, LabelSpec, LabelTable
from condgan.recipes.load import load
from condgan.runs.evaluate import EvaluationOptions, evaluate
from condgan.runs.train import train_run
from condgan.sampling.model import Fakes
from condgan.utils import distributed
from condgan.utils.errors import UserError
from tests.conftest import TINY, TINY_TRANSLATOR
from tests.evaluation.test_evaluation import EVERYTHING, EXTRACTOR, Colors, Drawn
from tests.helpers import ABC, tiny


class Threads(threading.local):
    """As many threads as processes, which wait for each other where processes would."""

    rank: int | None = None

    def __init__(self, count: int, barrier: threading.Barrier, board: list[Any]) -> None:
        self.count, self.meet, self.board = count, barrier, board

    def everyones(self, value: Any) -> list[Any]:
        self.board[self.rank] = value
        self.meet.wait()
        found = [*self.board]
        self.meet.wait()
        return found

    def all_reduce(self, values: Tensor, op: Any = dist.ReduceOp.SUM) -> None:
        found = torch.stack(self.everyones(values.clone()))
        values.copy_(found.amax(0) if op == dist.ReduceOp.MAX else found.sum(0))

    def all_gather_into_tensor(self, into: Tensor, values: Tensor) -> None:
        into.copy_(torch.cat(self.everyones(values.clone())))


def together(patch: pytest.MonkeyPatch, count: int, work: Callable[[], Any]) -> list[Any]:
    """What each of so many processes returns, or the error that it raises."""
    threads = Threads(count, threading.Barrier(count, timeout=60), [None] * count)

    def one(rank: int) -> Any:
        threads.rank = rank
        try:
            return work()
        except (UserError, distributed.FailedElsewhere) as error:
            return error
        except BaseException:
            threads.meet.abort()
            raise

    with patch.context() as now:
        now.setattr(dist, "is_initialized", lambda: threads.rank is not None)
        now.setattr(dist, "get_world_size", lambda: threads.count)
        now.setattr(dist, "get_rank", lambda: threads.rank)
        now.setattr(dist, "all_reduce", threads.all_reduce)
        now.setattr(dist, "all_gather_into_tensor", threads.all_gather_into_tensor)
        with ThreadPoolExecutor(count) as pool:
            return [*pool.map(one, range(count))]


def assert_same(one: FeatureStatistics, other: FeatureStatistics) -> None:
    """Sums are of another order; all else is the same to the bit."""
    assert one.count == other.count
    assert one.agreement == (None if other.agreement is None else pytest.approx(other.agreement, rel=1e-12))
    for name in ("features", "confusion"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None and b is None) or torch.equal(a, b), name
    for name in ("normal", "moments", "scores", "contrasts"):
        a, b = getattr(one, name), getattr(other, name)
        assert type(a) is type(b)
        for part in () if a is None else a._fields if isinstance(a, tuple) else [field.name for field in fields(a)]:
            torch.testing.assert_close(getattr(a, part), getattr(b, part), rtol=1e-12, atol=1e-12)
    if one.pairs is not None or other.pairs is not None:
        for name in ("index", "perceptual", "ms_ssim"):
            assert torch.equal(getattr(one.pairs, name), getattr(other.pairs, name)), name


def attributes(count: int) -> LabelTable:
    """Labels of which an image may have several."""
    values = torch.arange(3 * count).view(count, 3) % 5 < 2
    return LabelTable.from_values(LabelSpec((Field("attributes", ("x", "y", "z"), False),)), values)


class Reads(Colors):
    """Reads attributes."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, _ = super().forward(images)
        return features, features[:, :3] - 0.5


@pytest.mark.parametrize("count", [2, 3, 6])
def test_processes_see_together_what_one_sees(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Of five chunks, the last a short one, which six processes cannot share."""

    def look() -> FeatureStatistics:
        extractor = deepcopy(EXTRACTOR)
        return collect_statistics(Drawn(0, 230, 50), extractor, EVERYTHING, extractor, grouped=True)

    whole = look()
    assert len(whole.moments.count) > 1
    for found in together(monkeypatch, count, look):
        assert_same(found, whole)


def test_images_with_attributes_and_images_without_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, reader = Drawn(0, 100, 16), Extractor("reads", "00", "none", Reads())
    drawn.labels = attributes(100)
    unlabeled = Drawn(0, 100, 16, labeled=False)
    for look in (
        lambda: collect_statistics(drawn, reader, frozenset({"moments", "predictions"}), reader),
        lambda: collect_statistics(unlabeled, reader, frozenset({"scores", "features"})),
    ):
        whole = look()
        for found in together(monkeypatch, 3, look):
            assert_same(found, whole)


@pytest.mark.parametrize("batch", [None, 40])
def test_fakes_are_made_once_by_who_looks_at_them(monkeypatch: pytest.MonkeyPatch, batch: int | None) -> None:
    model = tiny(channels=3) if batch is None else tiny(channels=3).with_batch_statistics()
    count, chunk = (600, 256) if batch is None else (150, 40)
    fakes = Fakes(model, LabelTable.from_index(ABC, torch.arange(count) % 3), 0, batch)
    made: list[slice] = []
    making = Fakes._made

    def counted(self: Fakes, place: slice, latents: Tensor) -> Tensor:
        made.append(place)
        return making(self, place, latents)

    def look() -> FeatureStatistics:
        return collect_statistics(fakes, EXTRACTOR, frozenset({"moments", "features"}))

    monkeypatch.setattr(Fakes, "_made", counted)
    whole = look()
    assert [place.start for place in made] == [*range(0, count, chunk)]
    made.clear()
    for found in together(monkeypatch, 2, look):
        assert_same(found, whole)
    assert sorted(place.start for place in made) == [*range(0, count, chunk)]


def test_parts_of_images_are_all_of_them() -> None:
    digits = stored(read("digits", 16, 1), "digits", "all")
    fakes = Fakes(tiny(), LabelTable.from_index(ABC, torch.arange(600) % 3), 0)
    for images in (digits, fakes):
        assert isinstance(images, Images)
        middle = 2 * images.chunk_size
        parts = [images.chunks(slice(0, middle)), images.chunks(slice(middle, len(images)))]
        assert torch.equal(torch.cat([chunk for part in parts for chunk in part]), torch.cat([*images.chunks()]))


def test_sums_of_several_are_added_in_any_grouping() -> None:
    a, b, c = (Moments.of(torch.randn(20, 3)) for _ in range(3))
    left, right = (a + b) + c, a + (b + c)
    torch.testing.assert_close(left.outer, right.outer, rtol=1e-12, atol=1e-12)
    assert left.count.item() == 60


def test_what_one_cannot_see_stops_all(monkeypatch: pytest.MonkeyPatch) -> None:
    class Divides(Colors):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            features, logits = super().forward(images)
            return features / images.amax((1, 2, 3))[:, None], logits

    drawn = Drawn(0, 100, 16)
    drawn.images[[61, 93]] = 0
    drawn.names = [f"ä{number}.png" for number in range(100)]
    divides = Extractor("divides", "00", "none", Divides())
    errors = together(monkeypatch, 3, lambda: collect_statistics(drawn, divides, frozenset({"moments"})))
    with pytest.raises(UserError) as alone:
        collect_statistics(drawn, divides, frozenset({"moments"}))
    assert isinstance(errors[0], distributed.FailedElsewhere)
    assert str(errors[1]) == str(alone.value)
    assert "'ä93.png'" in str(errors[2])
    assert "'ä61.png'" in str(alone.value)


def test_what_one_process_lacks_all_look_for(monkeypatch: pytest.MonkeyPatch) -> None:
    images = stored(read("digits", 16, 3), "digits", "held-out")
    kept, looked = [], []
    keep, recall, see = cache._keep, cache._load, cache.collect_statistics

    def forgetful(*arguments: Any) -> FeatureStatistics | None:
        return None if dist.get_rank() == 1 else recall(*arguments)

    def noted(*arguments: Any) -> FeatureStatistics:
        looked.append(dist.get_rank())
        return see(*arguments)

    def keeps(path: Path, statistics: FeatureStatistics) -> None:
        kept.append(dist.get_rank())
        keep(path, statistics)

    def look() -> FeatureStatistics:
        return cached_statistics(images, "sharded", deepcopy(EXTRACTOR), None, frozenset({"moments", "features"}))

    monkeypatch.setattr(cache, "collect_statistics", noted)
    monkeypatch.setattr(cache, "_keep", keeps)
    first = together(monkeypatch, 2, look)
    assert (kept, sorted(looked)) == ([0], [0, 1]), "the leader writes"
    again = together(monkeypatch, 2, look)
    assert len(looked) == 2, "both found it"
    monkeypatch.setattr(cache, "_load", forgetful)
    once_more = together(monkeypatch, 2, look)
    assert (kept, sorted(looked)) == ([0, 0], [0, 0, 1, 1])
    for found in (*again, *once_more):
        assert_same(found, first[0])


SCRIPT = """
import json, sys
from pathlib import Path
from condgan.utils import distributed
from condgan.utils.errors import UserError
from condgan.runs.evaluate import EvaluationOptions, evaluate
from condgan.evaluation import classifier as features

features.ENOUGH = features.ENOUGH_OF_ATTRIBUTES = 6_400
subject, data, out, *options = sys.argv[1:]
with distributed.joined():
    assert distributed.size() == 2
    try:
        found = evaluate(subject, data or None, EvaluationOptions(**json.loads(options[0])))
    except (UserError, distributed.FailedElsewhere) as error:
        found = str(error) or "elsewhere"
    Path(f"{out}-{distributed.rank()}.json").write_text(json.dumps(found))
"""


def two_processes(subject: Path, data: str | Path, options: dict[str, Any], out: str) -> list[Any]:
    """What two processes of torchrun return, or say."""
    Path("script.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "script.py"]
    path = os.pathsep.join([str(Path(cache.__file__).parents[2]), os.getcwd()])
    done = subprocess.run(
        [*launch, str(subject), str(data), out, json.dumps(options)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(Path(f"{out}-{rank}.json").read_text()) for rank in range(2)]


def close(one: Any, other: Any) -> None:
    """The same but for rounding."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            close(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            close(*pair)
    else:
        assert one == (pytest.approx(other, rel=1e-6, abs=1e-6) if isinstance(one, float) else other)


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "overrides"), [("digits-acgan", TINY), ("digits-stargan", TINY_TRANSLATOR)])
def test_two_processes_evaluate_a_run_as_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipe: str, overrides: list[str]
) -> None:
    run = tmp_path / "run"
    monkeypatch.setenv("CONDGAN_CACHE", str(tmp_path / "own"))
    train_run(load(recipe, overrides), run)
    alone = json.loads((run / "metrics.json").read_text())
    pictures = {path: path.read_bytes() for path in run.glob("*.png")}
    assert pictures
    monkeypatch.setenv("CONDGAN_CACHE", str(tmp_path / "fresh"))
    for _ in range(2):  # with nothing in the cache, then with all of it
        for path in (run / "metrics.json", *pictures):
            path.unlink()
        both = two_processes(run, "", {}, "found")
        close(both[0], alone)
        assert both[0] == both[1] == json.loads((run / "metrics.json").read_text())
        assert {path: path.read_bytes() for path in pictures} == pictures
    some = {"metrics": ["fd_classifier", "precision"], "n": 300}
    close(two_processes(run, "", some, "some")[1], evaluate(run, options=EvaluationOptions(**some)))


@pytest.mark.slow
def test_an_image_that_one_process_cannot_see_stops_both(photos: Path) -> None:
    Path("mine.py").write_text(
        "import torch\n\nclass Mine(torch.nn.Module):\n    def forward(self, images):\n"
        "        small = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)\n"
        "        return torch.where(small.mean(1, keepdim=True) > 0.6, torch.nan, small)\n"
    )
    said = two_processes(photos, photos, {"extractor": "mine:Mine", "size": 16}, "said")
    assert sum("are not finite" in text for text in said) >= 1
    assert all("are not finite" in text or text == "elsewhere" for text in said)
