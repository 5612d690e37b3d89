"""Whether evaluation says what torch-fidelity says, how fast, and how much memory it takes.

python -m benchmarks.evaluation --fidelity --data DATA [--images 256] [--record OUT]   # both judge the same folders
python -m benchmarks.evaluation --time --data DATA [--record OUT]      # 10,000 fakes, every metric, the classifier
python -m benchmarks.evaluation --memory [--record OUT]                # streaming metrics against the number of fakes

DATA is a labeled data set of 32 × 32 pixels. The Inception network has seeded random weights: plumbing and arithmetic
are the same, the numbers mean nothing.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_fidelity
from PIL import Image
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from benchmarks.record import command
from condgan.data.open import read
from condgan.evaluation.images import ImageSubset, stored
from condgan.runs.evaluate import EvaluationOptions, evaluate
from condgan.utils.figures import channels_last
from condgan.utils.files import write
from condgan.utils.provenance import describe_machine

COUNTS = (1_000, 10_000, 100_000)
STREAMING = ["fd_classifier", "score_classifier", "label_agreement"]
TINY = [
    "generator.width=8", "generator.latent_dim=12", "backbone.width=4", "schedule.batch=16", "schedule.images=320",
    "schedule.save=320", "schedule.sample=320",
]  # fmt: skip
WORKER = """
import json, sys, time
from pathlib import Path
from condgan import EvaluationOptions, evaluate

def most():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

start, began = most(), time.perf_counter()
evaluate(sys.argv[1], question=EvaluationOptions(metrics=sys.argv[3].split(",") or None, n=int(sys.argv[2])))
print(json.dumps({"fakes": int(sys.argv[2]), "start_mb": start, "most_mb": most(),
                  "seconds": time.perf_counter() - began}))
"""


class Unloaded(FeatureExtractorInceptionV3):
    """torch-fidelity's network as it is drawn."""

    def load_state_dict(self, *_args: object, **_options: object) -> None:  # pyright: ignore
        """Leave it so."""


def seeded(network: nn.Module) -> nn.Module:
    """A network in evaluation mode with weights at which every layer has its say."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()


def seeded_inception(path: Path) -> nn.Module:
    """torch-fidelity's Inception with seeded weights, which `path` holds afterwards."""
    torch.save({}, path)
    torch.manual_seed(0)
    network = seeded(Unloaded("plain", ["2048", "logits_unbiased"], str(path)))
    torch.save(network.state_dict(), path)
    return network


def export(images: ImageSubset, folder: Path, inverted: bool) -> None:
    """Images as PNG, numbered."""
    folder.mkdir()
    start = 0
    for chunk in images.chunks():
        for image in channels_last(chunk):
            Image.fromarray(255 - image if inverted else image).save(folder / f"{start:06}.png")
            start += 1


def fidelity(source: str, count: int, rounds: int) -> dict[str, Any]:
    """Both judge held-out images with inverted colors against training images, in turn, with nothing kept from before.

    Kernel distances of alike sets are as small as the float32 rounding of torch-fidelity's.
    """
    data = read(source, 32, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split in ("train", "held-out"):
            export(stored(data, source, split).evenly_spaced(count), folder / split, inverted=split == "held-out")
        seeded_inception(folder / "weights.pth")
        rows: dict[str, list[Any]] = {"ours": [], "theirs": []}
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        size = min(1_000, count)
        for _ in range(rounds):
            start = time.perf_counter()
            rows["theirs"].append(
                torch_fidelity.calculate_metrics(
                    input1=str(folder / "held-out"), input2=str(folder / "train"), isc=True, fid=True, kid=True,
                    cuda=torch.cuda.is_available(), verbose=False, cache=False, kid_subset_size=size,
                    feature_extractor_weights_path=str(folder / "weights.pth"),
                )
            )  # fmt: skip
            times["theirs"].append(time.perf_counter() - start)
            os.environ["CONDGAN_CACHE"] = str(folder / "cache")
            start = time.perf_counter()
            options = EvaluationOptions("inception", folder / "weights.pth", ["fid", "is", "kid"])
            rows["ours"].append(evaluate(str(folder / "held-out"), str(folder / "train"), options))
            times["ours"].append(time.perf_counter() - start)
            shutil.rmtree(folder / "cache")
    names = {
        "fid": "frechet_inception_distance", "is_mean": "inception_score_mean", "is_std": "inception_score_std",
        "kid_mean": "kernel_inception_distance_mean", "kid_std": "kernel_inception_distance_std",
    }  # fmt: skip
    ours, theirs = rows["ours"][0], rows["theirs"][0]
    ratios = [a / b for a, b in zip(times["theirs"], times["ours"], strict=True)]
    return {
        "images_of_each": count,
        "numbers": {
            mine: {"ours": ours[mine], "torch-fidelity": theirs[other], "relative": ours[mine] / theirs[other] - 1}
            for mine, other in names.items()
        },
        "seconds": {kind: [round(one, 2) for one in of_kind] for kind, of_kind in times.items()},
        "ratio": statistics.median(ratios),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


def timed(source: str) -> dict[str, Any]:
    """10,000 fakes in a file (real images of the training split, shifted) judged by everything, twice.

    The first time the classifier is trained and the real images are looked at, the second time both are known.
    """
    data = read(source, 32, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = stored(data, source, "train").evenly_spaced(10_000)
        x = torch.cat([*images.chunks()]).roll((3, -3), (2, 3))
        assert images.labels is not None
        np.savez(folder / "fakes.npz", x=x, y=images.labels.index(), classes=np.array(data.spec.classes))
        environment = os.environ | {"CONDGAN_CACHE": str(folder / "cache")}
        verb = [sys.executable, "-m", "condgan", "evaluate", str(folder / "fakes.npz"), "--data", source, "--json"]
        rows, metrics = [], {}
        for _ in range(3):
            start = time.perf_counter()
            done = subprocess.run(verb, env=environment, check=True, capture_output=True, text=True)
            rows.append(round(time.perf_counter() - start, 1))
            metrics = json.loads(done.stdout)
    metrics["about"] |= {name: Path(metrics["about"][name]).name for name in ("source", "reference")}
    return {
        "fakes": metrics["about"]["fakes"],
        "real": metrics["about"]["real"],
        "training_images": len(data.train),
        "seconds_first_with_training_the_classifier": rows[0],
        "seconds_again": rows[1:],
        "metrics": {name: value for name, value in metrics.items() if name != "per_class"},
    }


def memory(counts: tuple[int, ...]) -> dict[str, Any]:
    """The most memory of a process that judges fakes of a small run, by streaming metrics and by all of them."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        environment = os.environ | {"CONDGAN_CACHE": f"{name}/cache"}
        train = [sys.executable, "-m", "condgan", "train", "digits-acgan", *TINY, "--out", f"{name}/run"]
        subprocess.run(train, env=environment, check=True, capture_output=True)
        for kind, metrics in (("streaming", STREAMING), ("with features", [*STREAMING, "precision"])):
            result[kind] = []
            for count in counts:
                worker = [sys.executable, "-c", WORKER, f"{name}/run", str(count), ",".join(metrics)]
                if kind != "streaming" and count > 10_000:
                    continue
                done = subprocess.run(worker, env=environment, check=True, capture_output=True, text=True)
                result[kind].append(json.loads(done.stdout.splitlines()[-1]))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fidelity", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", type=Path, metavar="OUT")
    given = parser.parse_args()
    result: dict[str, Any] = describe_machine() | {
        "command": command("benchmarks.evaluation"),
        "load": os.getloadavg()[0],
    }
    if given.fidelity:
        result["fidelity"] = fidelity(given.data, given.images, given.rounds)
    if given.time:
        result["time"] = timed(given.data)
    if given.memory:
        result["memory"] = memory(COUNTS)
    print(json.dumps(result, indent=1))
    if given.record is not None:
        write(given.record / "record.json", json.dumps(result, indent=1, ensure_ascii=False).encode() + b"\n")


if __name__ == "__main__":
    main()
