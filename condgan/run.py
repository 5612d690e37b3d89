"""The life of a run directory: begin, train, log, save, resume, evaluate, sample.

It holds recipe.yaml, environment.json, log.jsonl, tensorboard/, samples/, checkpoints/ and metrics.json.
"""

import csv
import io
import itertools
import json
import math
import platform
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from condgan import checkpoint
from condgan.build import build_state, build_steps, count_parameters, device
from condgan.checkpoint import NonFinite
from condgan.data.sources import Dataset, Split, read
from condgan.data.stream import stream
from condgan.errors import UserError
from condgan.files import TEMPORARY, remove_temporaries, write
from condgan.interfaces import Generator
from condgan.labels import Labels, LabelSpec
from condgan.log import SINGULAR, Log
from condgan.metrics.conditional import agreement, compare, score
from condgan.metrics.features import Judge, Judged, trained_judge
from condgan.nn.spectral import singular_values
from condgan.recipe import Recipe, differences, dump, load
from condgan.sample import Law, Model, draw_latents, generate, latent_law, normal, progress_sheet
from condgan.sheets import curves, png, sheet, spread
from condgan.train import State, pretrain_classifier

EVALUATION_SEED = 0
SCORED_IMAGES = 1_000
"""At most so many fakes score a checkpoint during training."""
FREE = {
    "name",
    "description",
    "data.source",
    "schedule.images",
    "schedule.log",
    "schedule.sample",
    "schedule.save",
    "schedule.keep_last",
    "schedule.keep_best",
    "schedule.best_by",
    "data.classes",
}
"""Options that may change when a run is resumed."""


class Interrupted(Exception):
    """Training was told to stop by a signal; what can be saved is."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class Diverged(Exception):
    """Training met a loss or weight that is infinite or not a number."""


class _Signals:
    """SIGINT and SIGTERM: at once Interrupted, but while deferred only noted, until a second one comes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.received: list[int] = []
        self.waiting = False

    def __enter__(self) -> "_Signals":
        main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
        self.previous = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[list[int]]:
        """The numbers received meanwhile."""
        self.waiting = True
        try:
            yield self.received
        finally:
            self.waiting = False

    def interruption(self) -> Interrupted:
        """What to raise once everything is saved."""
        saved = checkpoint.checkpoints(self.directory / "checkpoints")
        what = f"stopped and saved in {self.directory} at {int(saved[-1].name):,} images" if saved else "stopped"
        known = (self.directory / "recipe.yaml").is_file()
        how = resume_command(self.directory) if known else "the same command"
        return Interrupted(self.received[0], f"{what}; to go on: {how}")

    def _note(self, signum: int, _frame: object) -> None:
        self.received.append(signum)
        if not self.waiting or len(self.received) > 1:
            raise self.interruption()
        _say("stopping after this iteration")


def resume_command(directory: Path) -> str:
    """The command that goes on with a run, whatever settings it began with."""
    return shlex.join(["condgan", "train", str(directory / "recipe.yaml"), "--out", str(directory)])


def choose_directory(recipe: Recipe, out: Path | None, fresh: bool) -> Path:
    """Where a run lives: `out`, else runs/<recipe>, or the newest of the fresh starts numbered after it.

    `fresh`: the first number after those that exist.
    """
    if out and not fresh:
        return out
    base = out.absolute() if out else Path("runs") / recipe.name
    numbered = itertools.chain([base], (base.with_name(f"{base.name}-{n}") for n in itertools.count(2)))
    existing = list(itertools.takewhile(lambda path: path.exists(), numbered))
    if fresh:
        return base.with_name(f"{base.name}-{len(existing) + 1}") if existing else base
    return existing[-1] if existing else base


def read_data(recipe: Recipe, skip_bad_images: bool = False) -> Dataset:
    """The recipe's data set. Raises UserError if it names none, it cannot be read, or its size does not fit."""
    if recipe.data.source is None:
        raise UserError(
            f"recipe '{recipe.name}' has no data of its own: "
            "give --data PATH, a folder of class folders or a zip of one"
        )
    count_parameters(recipe, LabelSpec.of_classes(["a", "b"]))  # refuses a size before anything is read
    return read(recipe.data.source, recipe.data.size, recipe.data.channels, skip_bad_images)


def train_run(recipe: Recipe, directory: str | Path, skip_bad_images: bool = False) -> dict[str, Any]:
    """Train in a run directory, from its newest whole checkpoint if it has one, and evaluate; returns the metrics.

    Raises UserError for bad input, Interrupted after SIGINT or SIGTERM, Diverged for a loss that is not finite.
    """
    directory = Path(directory)
    with ExitStack() as stack:
        signals = stack.enter_context(_Signals(directory))
        if directory.exists():
            _require_own(directory, recipe)
            stack.enter_context(_locked(directory))
        data = read_data(recipe, skip_bad_images)
        if data.skipped:
            listed = "; ".join(data.skipped[:5]) + " …" * (len(data.skipped) > 5)
            _say(f"left out {len(data.skipped)} unreadable image{'s' * (len(data.skipped) > 1)}: {listed}")
        state = build_state(recipe, data.spec)
        if not directory.exists():
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(directory))
            _require_own(directory, recipe)
        _begin(directory, recipe, data)
        _resume(directory, state, recipe)
        if state.images < recipe.schedule.images:
            (directory / "metrics.json").unlink(missing_ok=True)
            _train(directory, recipe, data, state, signals)
        else:
            _say(f"{directory} is finished at {state.images:,} images")
        return evaluate(directory, data=data)


def load_model(directory: str | Path, which: str = "best") -> Model:
    """The averaged generator of a run: of its best checkpoint, its latest, or the one after `which` images."""
    return checkpoint.load_model(find_checkpoint(Path(directory), which))


def find_checkpoint(directory: Path, which: str = "best") -> Path:
    """A whole checkpoint of a run: best, latest, or by its number of images."""
    if not (directory / "recipe.yaml").is_file():
        raise UserError(
            f"'{directory}' is no run directory (it has no recipe.yaml): "
            "give one that `condgan train` wrote, such as runs/digits-acgan"
        )
    paths = checkpoint.checkpoints(directory / "checkpoints")
    if not paths:
        raise UserError(f"run '{directory}' has no checkpoint yet: train it on with {resume_command(directory)}")
    names = ", ".join(path.name for path in paths)
    if which.isdecimal():
        wanted = [path for path in paths if path.name == which]
        if not wanted:
            raise UserError(f"run '{directory}' has no checkpoint {which}: it has {names}, best or latest")
        if (reason := checkpoint.damage(wanted[0])) is not None:
            raise UserError(f"checkpoint '{wanted[0]}' is damaged ({reason}): choose another one with --checkpoint")
        return wanted[0]
    if which not in ("best", "latest"):
        raise UserError(f"checkpoint '{which}' given: expected best, latest or one of {names}")
    by = load(directory / "recipe.yaml").schedule.best_by
    wanted = [*(checkpoint.ranked(paths, by) if which == "best" else []), *reversed(paths)]
    whole = next((path for path in wanted if checkpoint.damage(path) is None), None)
    if whole is None:
        raise UserError(
            f"all checkpoints of '{directory}' are damaged ({checkpoint.damage(paths[-1])}): start over with --fresh"
        )
    return whole


def evaluate(
    directory: str | Path, which: str = "best", seed: int = EVALUATION_SEED, data: Dataset | None = None
) -> dict[str, Any]:
    """Judge as many fakes as there are held-out images, of the same classes; write metrics.json and sheet.png."""
    directory = Path(directory)
    path = find_checkpoint(directory, which)
    model = checkpoint.load_model(path)
    recipe = load(directory / "recipe.yaml")
    data = data or read_data(recipe, skip_bad_images=True)
    _require_same_data(directory, data)
    bench = _bench(data)
    metrics = bench.compare(model, seed)
    metrics["about"] = {
        "checkpoint": path.name,
        "fakes": len(data.held_out),
        "real": len(data.held_out),
        "reference": "held-out images; ceilings of fd_classifier, density and coverage: as many training images",
        "extractor": "classifier trained on the training images",
        "extractor_accuracy": agreement(bench.held_out),
        "batch_norm": "running statistics",
        "seed": seed,
    }
    write(directory / "sheet.png", png(progress_sheet(model.generator, model.spec, recipe.seed)))
    write(directory / "metrics.json", json.dumps(metrics, indent=1).encode())
    return metrics


def truncation_curve(
    directory: str | Path,
    out: str | Path,
    at: Sequence[float],
    scaled: bool = False,
    standing: int | None = None,
    which: str = "best",
    seed: int = EVALUATION_SEED,
) -> list[dict[str, Any]]:
    """Judge a run's fakes as `evaluate` does, at each truncation and at last without; returns the overall metrics.

    `scaled`: latents times a factor instead. `standing`: batch norms know the standing statistics of so many batches,
    at each truncation anew. Writes truncation.csv (…_real: the same of real images), truncation.png and sheet.png, in
    which all rows share their latents' draws and their classes. Raises UserError for a truncation that is not above 0.
    """
    directory, out = Path(directory), Path(out)
    what = "latent_scale" if scaled else "truncation"
    laws: dict[float | None, Law] = {value: latent_law(**{what: value}) for value in sorted(at)} | {None: normal}
    path = find_checkpoint(directory, which)
    model = checkpoint.load_model(path)
    data = read_data(load(directory / "recipe.yaml"), skip_bad_images=True)
    _require_same_data(directory, data)
    bench = _bench(data)
    columns = [number for number in spread(len(model.classes), 40) for _ in range(max(1, 20 // len(model.classes)))]
    metrics, rows = [], []
    for law in laws.values():
        point = replace(model, law=law)
        if standing is not None:
            point = point.with_standing_statistics(standing, seed)
        metrics.append({name: pair for name, pair in bench.compare(point, seed).items() if name != "per_class"})
        rows.append(_fakes(point.generator, Labels.from_index(model.spec, torch.tensor(columns)), seed, law))
    about = {
        "checkpoint": path.name,
        "fakes": len(data.held_out),
        "batch_norm": f"standing statistics of {standing} batches" if standing else "running statistics",
        "seed": seed,
    }
    fake, real = ([{name: pair[kind] for name, pair in one.items()} for one in metrics] for kind in ("fake", "real"))
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow([what, *fake[0], *(f"{name}_real" for name in real[0]), *about])
    writer.writerows(
        [value, *one.values(), *ceiling.values(), *about.values()]
        for value, one, ceiling in zip(laws, fake, real, strict=True)
    )
    *truncated, untruncated = fake
    label = what.replace("_", " ")
    plot = curves(
        sorted(at),
        {name: [one[name] for one in truncated] for name in untruncated},
        {f"no {label}": untruncated, "real images": real[0]},
        label,
        f"{directory.name}, checkpoint {path.name}: {len(data.held_out):,} fakes, {about['batch_norm']}, seed {seed}",
    )
    names = ["none" if value is None else f"{value:g}" for value in laws]
    looks = sheet(torch.cat(rows), [model.classes[number] for number in columns], names)
    for name, content in {"truncation.csv": table.getvalue().encode(), "truncation.png": plot}.items():
        write(out / name, content)
    write(out / "sheet.png", png(looks))
    return metrics


@dataclass(frozen=True)
class _Bench:
    """What fakes are judged against: held-out images and as many training images, of the same classes."""

    judge: Judge
    held_out: Judged
    training: Judged

    def compare(self, model: Model, seed: int) -> dict[str, Any]:
        labels = self.held_out.labels
        fakes = _fakes(model.generator, labels, seed, model.law)
        return compare(self.judge.judge(fakes, labels), self.held_out, self.training)


def _bench(data: Dataset) -> _Bench:
    judge, training = _judge(data), _like(data.held_out.labels, data.train)
    held_out = judge.judge(data.held_out.images, data.held_out.labels)
    return _Bench(judge, held_out, judge.judge(training.images, training.labels))


def _require_own(directory: Path, recipe: Recipe) -> None:
    """That an existing directory is a run with these settings, or nothing yet."""
    if not (directory / "recipe.yaml").is_file():
        if directory.is_dir() and all(p.name == "lock" or p.name.startswith(TEMPORARY) for p in directory.iterdir()):
            return
        raise UserError(f"'{directory}' exists and is no run directory: give a new one with --out")
    changed = {k: v for k, v in differences(load(directory / "recipe.yaml"), recipe).items() if k not in FREE}
    if changed:
        key, (there, here) = next(iter(changed.items()))
        raise UserError(
            f"run '{directory}' has other settings, {key} {there} there and {here} here: repeat its settings to go on, "
            "or start over with --fresh or another --out"
        )


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    lock = FileLock(directory / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"run '{directory}' is in use by another process: wait for it, or give another --out") from None
    try:
        yield
    finally:
        lock.release()


def _begin(directory: Path, recipe: Recipe, data: Dataset) -> None:
    """Write what the run is, the recipe first; refuse other data than it began with."""
    path = directory / "environment.json"
    environment = _environment(data)
    if path.is_file():
        _require_same_data(directory, data)
        began = json.loads(path.read_text())
        environment = began | {
            "resumed": [*began.get("resumed", []), {k: environment[k] for k in ("command", "commit")}]
        }
    write(directory / "recipe.yaml", dump(recipe).encode())
    write(path, json.dumps(environment, indent=1).encode())
    for place in (directory, directory / "checkpoints", directory / "samples"):
        place.mkdir(exist_ok=True)
        remove_temporaries(place)


def _require_same_data(directory: Path, data: Dataset) -> None:
    then = json.loads((directory / "environment.json").read_text())["data"]
    if then["sha256"] != data.content_hash:
        raise UserError(
            f"the data of run '{directory}' has changed ({then['train']} + {then['held_out']} images then, "
            f"{len(data.train)} + {len(data.held_out)} now): give back the old data, or start over with --fresh"
        )


def _resume(directory: Path, state: State, recipe: Recipe) -> None:
    """Restore the newest whole checkpoint, if there is any, and remove damaged ones after it."""
    paths = checkpoint.checkpoints(directory / "checkpoints")
    for path in reversed(paths):
        if (reason := checkpoint.damage(path)) is None:
            checkpoint.restore(path, state, recipe)
            checkpoint.remove_after(directory / "checkpoints", state.images)
            _say(f"resuming {directory} at {state.images:,} images")
            return
        _say(f"checkpoint '{path}' is damaged ({reason})")
    if paths:
        raise UserError(f"all checkpoints of run '{directory}' are damaged: start over with --fresh")


def _train(directory: Path, recipe: Recipe, data: Dataset, state: State, signals: _Signals) -> None:
    judge = _judge(data)
    reference = _like(
        data.train.labels[torch.arange(len(data.train))[:: math.ceil(len(data.train) / SCORED_IMAGES)]], data.train
    )
    judged = judge.judge(reference.images, reference.labels)
    split = data.train.to(device())
    schedule = recipe.schedule
    if state.images == 0 and schedule.init_classifier:
        pretrain_classifier(state, stream(split, schedule.batch, state.seed), schedule.init_classifier)
    steps = build_steps(recipe, state, split)
    log = Log(directory, state.images, schedule.images)
    if state.images == 0:
        real = _real_sheet(data)
        write(directory / "samples" / "real.png", png(real))
        log.picture("real", 0, real)
    _say(f"training in {directory}; curves: tensorboard --logdir {directory / 'tensorboard'}")

    window: dict[int, dict[str, Tensor]] = {}
    before = state.images
    with signals.deferred() as received:
        try:
            for losses in steps:
                window[state.images] = losses
                log.advance(state.images)
                done, stop = state.images >= schedule.images, bool(received)
                log_now, sample_now, score_now = (
                    done or state.images // every > before // every
                    for every in (schedule.log, schedule.sample, schedule.save)
                )
                before = state.images
                if sample_now:
                    picture = progress_sheet(state.ema.module, data.spec, state.seed)
                    write(directory / "samples" / f"{state.images}.png", png(picture))
                    log.picture("samples", state.images, picture)
                if log_now or score_now or stop:
                    values = _means(window) | _singular_values(state)
                    window.clear()
                    if score_now or stop:
                        checkpoint.require_finite(state)
                    scores = _score(state, reference, judged, judge) if score_now else {}
                    log.scalars(state.images, values | scores)
                    if score_now or stop:
                        checkpoint.save_checkpoint(directory / "checkpoints", state, recipe, data.spec, scores)
                        checkpoint.prune(directory / "checkpoints", schedule)
                if stop:
                    raise signals.interruption()
        except NonFinite as error:
            kept = checkpoint.checkpoints(directory / "checkpoints")
            raise Diverged(
                f"training diverged: {error} is not finite; last good checkpoint: {kept[-1] if kept else 'none'}; "
                "start over with smaller learning rates, such as --fresh g_opt.lr=… d_opt.lr=…"
            ) from None
        finally:
            log.close()


def _means(window: dict[int, dict[str, Tensor]]) -> dict[str, float]:
    """The mean of each loss over some iterations, read from the device at once. Raises NonFinite."""
    names = list(dict.fromkeys(name for losses in window.values() for name in losses))
    of_name = {name: [losses[name] for losses in window.values() if name in losses] for name in names}
    means = torch.stack([torch.stack(values).mean() for values in of_name.values()]).tolist()
    if not all(map(math.isfinite, means)):
        for images, losses in window.items():
            for name, loss in losses.items():
                if not loss.isfinite():
                    raise NonFinite(f"{name} at {images:,} images")
    return dict(zip(names, means, strict=True))


def _score(state: State, reference: Split, judged: Judged, judge: Judge) -> dict[str, float]:
    """What decides the best checkpoint: the averaged generator against training images."""
    fakes = judge.judge(_fakes(state.ema.module, reference.labels, EVALUATION_SEED), reference.labels)
    return score(fakes, judged)


def _singular_values(state: State) -> dict[str, float]:
    """The largest singular values of each spectrally normalized weight of both players, read at once."""
    values = {
        f"{SINGULAR}{player}/{name}/{i + 1}": value
        for player, network in (("D", state.discriminator), ("G", state.generator))
        for name, of_layer in singular_values(network).items()
        for i, value in enumerate(of_layer)
    }
    return dict(zip(values, torch.stack([*values.values()]).tolist(), strict=True)) if values else {}


def _fakes(generator: Generator, labels: Labels, seed: int, law: Law = normal) -> Tensor:
    return generate(generator, draw_latents(seed, 0, len(labels), generator.latent_dim, law), labels)


def _like(labels: Labels, split: Split) -> Split:
    """Images of a split with the class counts of some labels, as far as there are enough; always the same."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    wanted, have = labels.index(), split.labels.index()[order]
    chosen = [order[have == number][:count] for number, count in enumerate(wanted.bincount().tolist())]
    index = torch.cat(chosen)
    return Split(split.images[index], split.labels[index])


def _judge(data: Dataset) -> Judge:
    return trained_judge(data.train.images, data.train.labels, data.content_hash, device())


def _real_sheet(data: Dataset, rows: int = 10) -> Image.Image:
    index = data.train.labels.index()
    columns = [torch.nonzero(index == number).flatten() for number in range(len(data.spec.classes))]
    chosen = torch.stack([column[torch.arange(rows) % len(column)] for column in columns], 1).flatten()
    return sheet(data.train.images[chosen], data.spec.classes)


def _environment(data: Dataset) -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    return {
        "command": shlex.join(sys.argv),
        "condgan": version("condgan"),
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "torchvision", "numpy", "pillow", "scikit-learn")},
        "platform": platform.platform(),
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "data": {
            "sha256": data.content_hash,
            "train": len(data.train),
            "held_out": len(data.held_out),
            "classes": list(data.spec.classes),
            "skipped": list(data.skipped),
        },
    }


def _commit() -> str | None:
    """The commit of a source checkout, with a + where files were changed."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return names[0] if names else platform.processor()


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)
