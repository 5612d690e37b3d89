"""The life of a run directory: begin, train, log, save, resume, go back.

It holds recipe.yaml, environment.json, log.jsonl, tensorboard/, samples/, checkpoints/ and metrics.json.
"""

import itertools
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from PIL import Image
from torch import Tensor

from condgan.build import build_model, build_state
from condgan.data.dataset import Dataset
from condgan.data.loader import to_device
from condgan.data.undecoded import LostPicture
from condgan.estimate import compiles
from condgan.evaluation.catalog import score_names
from condgan.evaluation.scoring import build_scorer, real_sheet
from condgan.networks.spectral_norm import singular_values
from condgan.recipes.load import differences, dump
from condgan.recipes.schema import Recipe
from condgan.runs import checkpoint, transfer
from condgan.runs.averages import keep_snapshot, remove_snapshots_after
from condgan.runs.checkpoint import NonFinite
from condgan.runs.directory import RUNS_FOLDER, is_run, recipe_of
from condgan.runs.evaluate import evaluate
from condgan.runs.log import Log
from condgan.runs.models import read_data, require_same_data
from condgan.runs.schemas import environment_of, last_threads, tree_of
from condgan.runs.signals import Signals
from condgan.runs.stopping import RETRIES, Decision, decide
from condgan.training.state import Scored, State
from condgan.training_steps import build_steps, pretrain
from condgan.utils import distributed
from condgan.utils.console import say
from condgan.utils.device import can_compile, device, has_bfloat16, keep_memory, precision, try_algorithms
from condgan.utils.errors import Diverged, NotFinite, UserError, unknown
from condgan.utils.figures import png
from condgan.utils.files import TEMPORARY, entries, found, path_of, remove_temporaries, require_outside, write
from condgan.utils.provenance import describe_machine
from condgan.utils.threads import free_cores

RESUMABLE_OPTIONS = {
    "name",
    "description",
    "data.source",
    "data.resident",
    "data.root",
    "schedule.images",
    "schedule.log",
    "schedule.sample",
    "schedule.save",
    "schedule.keep_last",
    "schedule.keep_best",
    "schedule.best_by",
    "schedule.patience",
    "data.classes",
    "compute.precision",
    "compute.compile",
    "compute.channels_last",
    "compute.fused_optimizers",
    "compute.recompute",
}
"""Options that may change when a run is resumed."""

RESUME_RECORD = ("command", "commit", "threads", "gpu", "processes", "precision", "compiled")
"""The entries of environment.json for each time that a run was resumed."""


def choose_directory(recipe: Recipe, out: Path | None, fresh: bool) -> Path:
    """Where a run lives: `out`, else runs/<recipe>, or the newest of the fresh starts numbered after it.

    `fresh`: the first number after those that exist. Raises UserError for one in the data.
    """
    directory = _directory(recipe, out, fresh)
    for source in recipe.data.sources:
        require_outside(directory, source, f"run directory '{directory}'")
    return directory


def _directory(recipe: Recipe, out: Path | None, fresh: bool) -> Path:
    if out and not fresh:
        return out
    base = out.absolute() if out else RUNS_FOLDER / recipe.name
    numbered = itertools.chain([base], (base.with_name(f"{base.name}-{n}") for n in itertools.count(2)))
    existing = list(itertools.takewhile(found, numbered))
    if fresh:
        return base.with_name(f"{base.name}-{len(existing) + 1}") if existing else base
    return existing[-1] if existing else base


class InUse(UserError):
    """Another process trains in the run directory."""


def train_run(recipe: Recipe, directory: str | Path, skip_bad_images: bool = False) -> dict[str, Any]:
    """Train in a run directory, from its newest whole checkpoint if it has one, and evaluate; returns the metrics.

    On Linux the process from then on keeps the memory that it frees (see `keep_memory`); on CUDA, cuDNN tries its
    algorithms at each new shape; on a CPU it may compute by fewer threads meanwhile (see `free_cores`).
    After a collapse, or a loss that is not finite, it goes back to the best checkpoint and on at half the rates.
    Raises UserError for bad input, Interrupted after SIGINT or SIGTERM, Diverged for losses that never become finite.
    """
    directory = path_of(directory, "run directory")
    keep_memory()
    try_algorithms()
    require_possible(recipe)
    if recipe.compute.precision == "bfloat16" and not has_bfloat16(device()):
        say("this machine does not multiply bfloat16 but emulates it, slowly: compute.precision=float32 is faster")
    with ExitStack() as stack:
        signals = stack.enter_context(Signals(directory))
        held = False
        with distributed.all_or_fail():
            if distributed.is_main() and found(directory):
                stack.enter_context(_held(directory, recipe))
                held = True
        stack.enter_context(free_cores(last_threads(directory)))
        source = _source(directory, recipe)
        with distributed.all_or_fail(), distributed.main_first():
            data = read_data(recipe, skip_bad_images)
        if data.skipped:
            listed = "; ".join(data.skipped[:5]) + " …" * (len(data.skipped) > 5)
            say(f"left out {len(data.skipped)} unreadable image{'s' * (len(data.skipped) > 1)}: {listed}")
        for note in data.notes:
            say(note)
        state, compiled = build_state(recipe, data.spec), compiles(recipe, data.spec)
        if source:
            transfer.take(transfer.plan(recipe, data.spec, source), source, state)
        with distributed.all_or_fail():
            if distributed.is_main():
                if not held:  # another process may have begun there meanwhile
                    directory.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(_held(directory, recipe))
                _begin(directory, recipe, data, compiled, source)
        with distributed.all_or_fail():
            require_same_data(directory, data)
        _resume(directory, state, recipe)
        if state.images >= recipe.schedule.images:
            say(f"{directory} is finished at {state.images:,} images")
        while state.images < recipe.schedule.images:
            decision, why = decide(state.history, state.retries, recipe.schedule)
            decision = distributed.from_main(decision)
            if decision == Decision.GO_ON:
                why = _train(directory, recipe, data, state, signals, compiled)
            elif decision == Decision.STOP:
                say(why)
                break
            if decision == Decision.GO_BACK or why:
                _go_back(directory, recipe, state, why)
        return evaluate(directory, data=data)


def require_possible(recipe: Recipe) -> None:
    """Raises UserError unless checkpoints have the score that ranks them, and processes equal parts of a batch."""
    scores = score_names("translator" if recipe.translates else "generator")
    if recipe.schedule.best_by not in scores:
        raise unknown("score schedule.best_by", recipe.schedule.best_by, scores)
    if recipe.compute.compile is True and not can_compile():
        raise UserError(
            "compute.compile true given, and no C++ compiler found: install one such as g++, or leave it at auto"
        )
    batch, parts = recipe.schedule.batch, distributed.size() * recipe.schedule.accumulate
    if batch % parts or batch < 2 * parts:
        raise UserError(
            f"schedule.batch {batch} given with {distributed.size()} processes and schedule.accumulate "
            f"{recipe.schedule.accumulate}: the batch must divide into equal parts of two images or more"
        )


@contextmanager
def _held(directory: Path, recipe: Recipe) -> Iterator[None]:
    """Have a directory to itself, a run with these settings or nothing yet. Raises InUse, UserError."""
    if not is_run(directory) and not _is_bare(directory):
        raise UserError(f"'{directory}' exists and is no run directory: give a new one with --out")
    lock = FileLock(directory / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InUse(f"run '{directory}' is in use by another process: wait for it, or give another --out") from None
    try:
        if is_run(directory):
            _require_same_settings(directory, recipe)
        yield
    finally:
        lock.release()


def _is_bare(directory: Path) -> bool:
    """Whether a directory holds nothing, or what is left of a start that was killed."""
    return directory.is_dir() and all(
        path.name == "lock" or path.name.startswith(TEMPORARY) for path in entries(directory)
    )


def _require_same_settings(directory: Path, recipe: Recipe) -> None:
    free = (
        RESUMABLE_OPTIONS - {"schedule.images"} if recipe.schedule.decay else RESUMABLE_OPTIONS
    )  # rates fall towards the last image
    changed = {k: v for k, v in differences(recipe_of(directory), recipe).items() if k not in free}
    if changed:
        key, (there, here) = next(iter(changed.items()))
        raise UserError(
            f"run '{directory}' has other settings, {key} {there} there and {here} here: repeat its settings to go on, "
            "or start over with --fresh or another --out"
        )


def _source(directory: Path, recipe: Recipe) -> transfer.Source | None:
    """What a run begins with that has no checkpoint of its own yet; later nobody asks where it came from."""
    if recipe.transfer.run is None or checkpoint.checkpoints(directory / "checkpoints"):
        return None
    return transfer.open_source(recipe.transfer.run)


def _begin(directory: Path, recipe: Recipe, data: Dataset, compiled: bool, source: transfer.Source | None) -> None:
    """Write what the run is, the recipe first; refuse other data than it began with."""
    path = directory / "environment.json"
    environment = describe_machine() | {
        "processes": distributed.size(),
        "precision": str(precision(recipe.compute.precision, device())).removeprefix("torch."),
        "compiled": compiled,
        "data": {
            "sha256": data.content_hash,
            "train": len(data.train),
            "held_out": len(data.held_out),
            "classes": [value for field in data.spec.fields for value in field.values],
            "skipped": list(data.skipped),
        },
    }
    if found(path) or checkpoint.checkpoints(directory / "checkpoints"):
        require_same_data(directory, data)
        began = tree_of(environment_of(directory))
        environment = began | {"resumed": [*began.get("resumed", []), {k: environment[k] for k in RESUME_RECORD}]}
    if source:
        environment["transfer"] = source.record
    write(directory / "recipe.yaml", dump(recipe).encode())
    write(path, json.dumps(environment, indent=1).encode())
    for place in (directory, directory / "checkpoints", directory / "samples"):
        place.mkdir(exist_ok=True)
        remove_temporaries(place)


def _resume(directory: Path, state: State, recipe: Recipe) -> None:
    """Restore the newest whole checkpoint, if there is any, and remove damaged ones after it."""
    place, newest = directory / "checkpoints", 0
    with distributed.all_or_fail():
        if distributed.is_main():
            newest = _newest_whole(place)
            checkpoint.remove_after(place, newest)
    if newest := distributed.from_main(newest):
        checkpoint.restore(place / str(newest), state, recipe)
        slower = f", at {state.rates:g} of the learning rates" if state.retries else ""
        say(f"resuming {directory} at {state.images:,} images{slower}")


def _go_back(directory: Path, recipe: Recipe, state: State, why: str) -> None:
    """Restore the best checkpoint before, as one from which training goes on at half the rates: the draws are the same.

    Raises Diverged where there is none, or training went back often enough.
    """
    place, back = directory / "checkpoints", 0
    with distributed.all_or_fail():
        if distributed.is_main():
            kept = [path for path in checkpoint.checkpoints(place) if checkpoint.damage(path) is None]
            before = [path for path in kept if int(path.name) < state.images]  # not what has collapsed
            best = next(iter([*checkpoint.ranked(before, recipe.schedule.best_by), *reversed(before)]), None)
            if best is None or state.retries >= RETRIES:
                raise Diverged(
                    f"{why}; last good checkpoint: {kept[-1] if kept else 'none'}; "
                    "start over with smaller learning rates, such as --fresh g_opt.lr=… d_opt.lr=…"
                )
            back = int(best.name)
            say(f"{why}: going back to {back:,} images, and on at half the learning rates")
            checkpoint.mark_retry(best, state.retries + 1)
            checkpoint.remove_after(place, back)
            remove_snapshots_after(directory, back)
            for path in entries(directory / "samples"):
                if path.match("*.png") and path.stem.isdecimal() and int(path.stem) > back:
                    path.unlink()
    state.discriminator.requires_grad_(True)  # as it was built; the generator's step had no use for it
    _resume(directory, state, recipe)


def _newest_whole(place: Path) -> int:
    """After how many images the newest whole checkpoint was written, 0 where there is none at all."""
    paths = checkpoint.checkpoints(place)
    for path in reversed(paths):
        if (reason := checkpoint.damage(path)) is None:
            return int(path.name)
        say(f"checkpoint '{path}' is damaged ({reason})")
    if paths:
        raise UserError(f"all checkpoints of run '{place.parent}' are damaged: start over with --fresh")
    return 0


class _Keeper:
    """Write log, sheets and checkpoints of a run while it trains. The leader's alone."""

    def __init__(self, directory: Path, recipe: Recipe, data: Dataset, state: State) -> None:
        self.directory, self.recipe, self.spec, self.state = directory, recipe, data.spec, state
        self.scorer = build_scorer(recipe, data)
        self.model = build_model(recipe, data.spec, state.ema.module, state.discriminator, state.images)
        self.log = Log(directory, state.images, recipe.schedule.images, recipe.schedule.best_by)
        if state.images == 0:
            self._picture("real", real_sheet(data), "real")
        say(f"training in {directory}; curves: tensorboard --logdir {directory / 'tensorboard'}")

    def sheet(self) -> None:
        """Draw what the model does now."""
        with distributed.alone(), self._finite():
            sheet = self.scorer.sheet(self.model, self.state.seed)
        self._picture("samples", sheet, str(self.state.images))

    def values(self, values: dict[str, float], score: bool, save: bool) -> None:
        """Log them, with the score of a model that is to be scored, and keep the state if it is to be saved."""
        with distributed.alone(), self._finite():
            scores = self.scorer.score(self.model) if score else {}
        if score:
            self.state.history.append(Scored(self.state.images, scores))
        self.log.scalars(self.state.images, values | scores)
        if save:
            place = self.directory / "checkpoints"
            keep_snapshot(self.directory, self.state, self.recipe)
            checkpoint.save_checkpoint(place, self.state, self.recipe, self.spec, scores)
            checkpoint.prune(place, self.recipe.schedule)

    @contextmanager
    def _finite(self) -> Iterator[None]:
        """Raises NonFinite where the model makes images that are not finite."""
        try:
            yield
        except NotFinite:
            raise NonFinite(f"an image made at {self.state.images:,} images") from None

    def _picture(self, tag: str, picture: Image.Image, name: str) -> None:
        write(self.directory / "samples" / f"{name}.png", png(picture))
        self.log.picture(tag, self.state.images, picture)


def _train(directory: Path, recipe: Recipe, data: Dataset, state: State, signals: Signals, compiled: bool) -> str:
    """Train until a score decides otherwise or the last image is seen; what is not finite, if anything is."""
    if distributed.is_main():
        (directory / "metrics.json").unlink(missing_ok=True)
    schedule, split = recipe.schedule, to_device(data.train, device(), recipe.data.resident)
    if state.images == 0 and schedule.init_classifier:
        pretrain(recipe, state, split)
    steps = build_steps(recipe, state, split, compiled=compiled)
    if compiled:
        say("the networks are compiled when they are first used, which takes some minutes")
    with distributed.all_or_fail():
        keeper = _Keeper(directory, recipe, data, state) if distributed.is_main() else None

    window: dict[int, dict[str, Tensor]] = {}
    before = state.images
    with signals.deferred() as received:
        try:
            for losses in steps:
                window[state.images] = losses
                done, stop = state.images >= schedule.images, distributed.any_rank(bool(received))
                log_now, sample_now, score_now = (
                    done or state.images // every > before // every
                    for every in (schedule.log, schedule.sample, schedule.save)
                )
                before = state.images
                if keeper:
                    keeper.log.advance(state.images)
                if sample_now:
                    with _in_all():
                        if keeper:
                            keeper.sheet()
                if log_now or score_now or stop:
                    values = _means(window) | _singular_values(state)
                    window.clear()
                    if score_now or stop:
                        checkpoint.require_finite(state)
                    with _in_all():
                        if keeper:
                            keeper.values(values, score=score_now, save=score_now or stop)
                if stop:
                    raise signals.interruption()
                if score_now and not done:
                    decision, _ = decide(state.history, state.retries, schedule)
                    if distributed.from_main(decision) != Decision.GO_ON:
                        break
        except NonFinite as error:
            return f"training diverged: {error} is not finite"
        except LostPicture:  # of the next batch or of what scores: the state is as it was after the last one
            place = directory / "checkpoints" / str(state.images)
            if keeper and state.images and distributed.size() == 1 and not found(place):
                with suppress(NonFinite):
                    checkpoint.require_finite(state)
                    keeper.values(_means(window) if window else {}, score=False, save=True)
                    say(f"saved in {directory} at {state.images:,} images")
            raise
        finally:
            if keeper:
                keeper.log.close()
    return ""


@contextmanager
def _in_all() -> Iterator[None]:
    """Raises NonFinite in every process where the block does in one."""
    trouble = None
    try:
        yield
    except NonFinite as error:
        trouble = error
    if distributed.any_rank(trouble is not None):
        raise trouble or NonFinite("an image of another process")


def _means(window: dict[int, dict[str, Tensor]]) -> dict[str, float]:
    """The mean of each loss over some iterations and all processes, read from the device at once. Raises NonFinite."""
    names = list(dict.fromkeys(name for losses in window.values() for name in losses))
    of_name = {name: [losses[name] for losses in window.values() if name in losses] for name in names}
    means = distributed.mean(torch.stack([torch.stack(values).mean() for values in of_name.values()])).tolist()
    if not all(map(math.isfinite, means)):
        for images, losses in window.items():
            for name, loss in losses.items():
                if not loss.isfinite():
                    raise NonFinite(f"{name} at {images:,} images")
        raise NonFinite("a loss of another process")
    return dict(zip(names, means, strict=True))


def _singular_values(state: State) -> dict[str, float]:
    """The largest singular values of each spectrally normalized weight of both players, read at once."""
    values = {
        f"singular/{player}/{name}/{i + 1}": value
        for player, network in (("D", state.discriminator), ("G", state.generator))
        for name, of_layer in singular_values(network).items()
        for i, value in enumerate(of_layer)
    }
    return dict(zip(values, torch.stack([*values.values()]).tolist(), strict=True)) if values else {}
