"""How fast condgan trains beside other people's own code, each in a process of its own, in turns in one run.

python -m benchmarks.peers PATH… [--only NAME …] [--rounds 5] [--out FILE]

PATH are checkouts, or folders of some, under their own names: BigGAN-PyTorch (ajbrock),
twin-auxiliary-classifiers-gan (batmanlab), PyTorch-GAN (eriklindernoren), Self-Attention-GAN (heykeetae), stargan
(yunjey). Nothing of them is here: their networks, losses, optimizers and loops run as they are, but for what MENDED
tells. A script runs in a thread whose data loader waits; a step is what happens from one batch to the next. Both sides
train on random images in memory; theirs get the same batch again and again. Precision is as each comes: float32 there,
here what the hardware does best. Times are medians over rounds, ratios those of neighbors in a round.
"""

import argparse
import importlib
import io
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.record import keep, said
from benchmarks.throughput import Apart, Building, Case, device_name, in_turns, prepared, rounded, some_split, widths
from condgan.utils.device import device, precision

ENDLESS = 1_000_000_000
MENDED = {
    "BigGAN-PyTorch": "Distribution.to, which assigns to .data a tensor of another class",
    "twin-auxiliary-classifiers-gan": "Distribution.to, as above",
    "PyTorch-GAN": "",
    "Self-Attention-GAN": ".cuda() where there is no GPU",
    "stargan": "",
}
"""What had to be changed for each to run at all with the torch of today."""


class Peer(NamedTuple):
    """Someone's code, and the recipe whose networks, losses and batches are the same."""

    checkout: str
    """The folder's name."""
    modules: str
    """The folder of its modules in there."""
    prepare: Callable[[Case], Building]
    """Import its modules, which can be found then, and draw a batch."""
    ours: Case
    steps: int = 1
    """How many of its steps are one of ours."""


class Batches:
    """A data loader that gives one batch for ever, each time when a step is wanted."""

    def __init__(self, *batch: Tensor) -> None:
        self.batch, self.wanted, self.asked = batch, threading.Semaphore(0), threading.Semaphore(0)

    def __len__(self) -> int:
        return ENDLESS

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        while True:
            self.asked.release()
            self.wanted.acquire()
            yield self.batch

    def loader(self) -> "Batches":
        """Itself: some loaders stand behind a method."""
        return self


class Script:
    """A script that trains, in a thread: each call lets it go on until it asks for the next batch."""

    def __init__(self, path: str, batches: Batches, *options: object) -> None:
        self.batches, self.failed = batches, None
        sys.argv = [path, *map(str, options)]
        self.thread = threading.Thread(target=self._run, args=(path,), daemon=True)
        self.thread.start()
        self._wait()

    def __call__(self) -> None:
        self.batches.wanted.release()
        self._wait()

    def _wait(self) -> None:
        self.batches.asked.acquire()
        if self.failed is not None:
            raise self.failed

    def _run(self, path: str) -> None:
        try:
            runpy.run_path(path, run_name="__main__")
            raise RuntimeError(f"{path} has ended")
        except BaseException as error:  # for who waits
            self.failed = error
            self.batches.asked.release()


def some_batch(case: Case, count: int) -> tuple[Tensor, Tensor]:
    """So many random images of −1 … 1, and their classes, or attributes as numbers."""
    split = some_split(case.load(), count)
    drawn = split.at(torch.arange(count))
    labels = drawn.labels.index() if drawn.labels.spec.exclusive else drawn.labels[:].values
    return (drawn.images.float() / 127.5 - 1).to(device()), labels.to(device())


def biggan(case: Case, options: tuple[str, ...]) -> Building:
    """BigGAN-PyTorch's generator, discriminator, average and training function; TAC-GAN's have the same names."""
    utils, functions, model = (importlib.import_module(name) for name in ("utils", "train_fns", "BigGAN"))
    torch.backends.cudnn.benchmark = True  # as their train.py sets it
    width = str(case.load().generator.options["width"])
    config = vars(utils.prepare_parser().parse_args([*options, "--G_ch", width, "--D_ch", width]))
    config |= {"resolution": utils.imsize_dict[config["dataset"]], "n_classes": utils.nclass_dict[config["dataset"]]}
    config |= {f"{player}_activation": utils.activation_dict[config[f"{player}_nl"]] for player in "GD"}

    def moved(self: Any, *arguments: Any, **options: Any) -> Any:
        other = Tensor.to(self, *arguments, **options).as_subclass(utils.Distribution)
        other.init_distribution(self.dist_type, **self.dist_kwargs)
        return other

    utils.Distribution.to = moved
    images, classes = some_batch(case, config["batch_size"] * config["num_D_steps"])

    def build() -> Callable[[], Any]:
        generator = model.Generator(**config).to(device())
        discriminator = model.Discriminator(**config).to(device())
        average = model.Generator(**config | {"skip_init": True, "no_optim": True}).to(device())
        ema = utils.ema(generator, average, config["ema_decay"], config["ema_start"])
        drawn = max(config["G_batch_size"], config["batch_size"])
        latents, labels = utils.prepare_z_y(drawn, generator.dim_z, config["n_classes"], device=device())
        state = {"itr": 0}
        both = model.G_D(generator, discriminator)
        train = functions.GAN_training_function(generator, discriminator, both, latents, labels, ema, state, config)
        for network in (generator, discriminator, average):
            network.train()

        def step() -> None:
            state["itr"] += 1
            train(images, classes)

        return step

    return build


def acgan_tutorial(case: Case) -> Building:
    """PyTorch-GAN's AC-GAN, a script."""
    import torchvision

    batch = case.load().schedule.batch
    batches = Batches(*some_batch(case, batch))
    torchvision.datasets.MNIST = lambda *_, **__: None
    torch.utils.data.DataLoader = lambda *_, **__: batches
    options = "--batch_size", batch, "--sample_interval", ENDLESS
    return partial(Script, f"{sys.path[0]}/acgan.py", batches, *options)


def sagan(case: Case) -> Building:
    """Self-Attention-GAN's script, as its README calls it."""
    batch = case.load().schedule.batch
    batches = Batches(*some_batch(case, batch))
    if device().type == "cpu":
        Tensor.cuda = nn.Module.cuda = lambda self, *_, **__: self  # pyright: ignore[reportAttributeAccessIssue]
    vars(importlib.import_module("data_loader"))["Data_Loader"] = lambda *_, **__: batches
    return partial(
        Script, f"{sys.path[0]}/main.py", batches, "--batch_size", batch, "--imsize", 64, "--dataset", "celeb",
        "--adv_loss", "hinge", "--log_step", ENDLESS, "--sample_step", ENDLESS,
    )  # fmt: skip


def stargan(case: Case) -> Building:
    """The script of StarGAN's authors, with its defaults."""
    batches = Batches(*some_batch(case, case.load().schedule.batch))
    vars(importlib.import_module("data_loader"))["get_loader"] = lambda *_, **__: batches
    never = [word for name in ("log", "sample", "model_save", "lr_update") for word in (f"--{name}_step", ENDLESS)]
    options = "--use_tensorboard", "false", "--num_iters", ENDLESS, *never

    def build() -> Callable[[], Any]:
        step = Script(f"{sys.path[0]}/main.py", batches, *options)
        step()  # a batch to look at
        return step

    return build


BIGGAN = ("--shuffle", "--dataset", "C10", "--G_attn", "0", "--D_attn", "0", "--G_init", "N02", "--D_init", "N02",
          "--G_lr", "2e-4", "--D_lr", "2e-4", "--ema", "--use_ema", "--ema_start", "1000")  # fmt: skip
"""The options that the scripts of BigGAN-PyTorch and TAC-GAN for CIFAR-10 share."""
OF_FOUR = ("--batch_size", "50", "--num_D_steps", "4")
OF_TWO = ("--batch_size", "100", "--num_D_steps", "2", "--num_G_steps", "1", "--AC", "--loss_type", "Twin_AC")
PEERS = {
    "BigGAN, 32 channels": Peer(
        "BigGAN-PyTorch", ".", partial(biggan, options=(*BIGGAN, *OF_FOUR)), Case("biggan-cifar10", widths(32))
    ),
    "BigGAN, 64 channels": Peer(
        "BigGAN-PyTorch", ".", partial(biggan, options=(*BIGGAN, *OF_FOUR)), Case("biggan-cifar10", widths(64))
    ),
    "TAC-GAN, 32 channels": Peer(
        "twin-auxiliary-classifiers-gan", "TAC-BigGAN", partial(biggan, options=(*BIGGAN, *OF_TWO)),
        Case("tacgan-cifar10", widths(32)),
    ),
    "AC-GAN tutorial": Peer(
        "PyTorch-GAN", "implementations/acgan", acgan_tutorial, Case("mnist-acgan", ("schedule.batch=64",))
    ),
    "SAGAN, 64 px": Peer("Self-Attention-GAN", ".", sagan, Case("sagan-celeba64")),
    "StarGAN, 128 px": Peer("stargan", ".", stargan, Case("celeba-stargan"), steps=5),
}  # fmt: skip


def peer_prepared(peer: Peer, checkout: Path, folder: str) -> Building:
    """What a peer trains, in a folder; what it prints is left out."""
    warnings.simplefilter("ignore")
    sys.path.insert(0, str((checkout / peer.modules).resolve()))
    deep = Path(folder, "two", "deep")  # it makes folders beside and above itself
    deep.mkdir(parents=True)
    os.chdir(deep)
    build = peer.prepare(peer.ours)

    def steps() -> Callable[[], Any]:
        sys.stdout = io.StringIO()  # threads of the peer print too
        step = build()
        return lambda: [step() for _ in range(peer.steps)]

    return steps


def commit(checkout: Path) -> str:
    """Which version of a peer's code this is."""
    asked = ["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def measure(name: str, peer: Peer, checkout: Path, rounds: int) -> dict[str, Any]:
    """The row of a record."""
    recipe, load_before = peer.ours.load(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        kinds = {
            "theirs": Apart(partial(peer_prepared, peer, checkout, folder)),
            "ours": Apart(partial(prepared, peer.ours, "fast")),
        }
        try:
            times = in_turns(kinds, rounds)
            mib = {f"{kind}_mib": round(one.ask("MiB")) for kind, one in kinds.items()}
        finally:
            for one in kinds.values():
                one.stop()
    ratios = [theirs / ours for theirs, ours in zip(times["theirs"], times["ours"], strict=True)]
    seconds = {f"{kind}_s": rounded(statistics.median(one)) for kind, one in times.items()}
    return {
        "peer": name,
        "checkout": f"{peer.checkout}@{commit(checkout)}",
        "mended": MENDED[peer.checkout],
        "recipe": peer.ours.recipe,
        "overrides": peer.ours.overrides,
        "images": recipe.schedule.batch * recipe.schedule.d_steps,
        "precision": str(precision(recipe.compute.precision, device())).removeprefix("torch."),
        "compiled": recipe.compute.compile,
        **seconds,
        "ratio": rounded(statistics.median(ratios)),
        "ratio_min": rounded(min(ratios)),
        "ratio_max": rounded(max(ratios)),
        **mib,
        "rounds": rounds,
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "load": load_before,
        "date": date.today().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(PEERS), help=f"of {'; '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a record")
    given = parser.parse_args()
    if unknown := [name for name in given.only if name not in PEERS]:
        parser.error(f"'{unknown[0]}' given: expected of {'; '.join(PEERS)}")
    places = [place for path in given.paths for place in (path, *path.glob("*/"))]
    checkouts = {place.name: place for place in places if (place / ".git").exists()}
    rows = []
    for name in given.only:
        if (checkout := checkouts.get(PEERS[name].checkout)) is None:
            print(f"{name}: no checkout of {PEERS[name].checkout} there", file=sys.stderr)
            continue
        rows.append(measure(name, PEERS[name], checkout, given.rounds))
        print(said(rows[-1], given.json), flush=True)
        if given.out:
            keep(given.out, "benchmarks.peers", rows=rows)
    if not rows:
        parser.error("nothing measured: give checkouts")


if __name__ == "__main__":
    main()
