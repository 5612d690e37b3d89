"""Say how a run trains: a progress bar, log.jsonl, TensorBoard."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from condgan.utils import distributed
from condgan.utils.files import write

PLAIN_LINE_SECONDS = 15.0

SINGULAR = "singular/"
"""How the names of singular values begin, which are too many for a line."""


class Log:
    """Log of a run directory, continued after `images` images; what was logged after them is dropped."""

    def __init__(self, directory: Path, images: int, total: int) -> None:
        self.path = directory / "log.jsonl"
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        kept = [line for line in lines if _is_up_to(line, images)]
        write(self.path, "".join(f"{line}\n" for line in kept).encode())
        self.file = self.path.open("a")
        self.board = SummaryWriter(str(directory / "tensorboard"), purge_step=images or None)
        self.bar = tqdm(total=total, initial=images, unit="img", unit_scale=True, disable=None, dynamic_ncols=True)
        self.total, self.first, self.last, self.start = total, images, images, time.monotonic()
        self.seconds = json.loads(kept[-1])["seconds"] if kept else 0.0
        self.last_line = self.last_time = self.start

    def advance(self, images: int) -> None:
        """Move the bar."""
        self.bar.update(images - self.bar.n)

    def scalars(self, images: int, values: Mapping[str, float]) -> None:
        """A line of log.jsonl, a point per curve, and the bar's figures or, without a terminal, a line now and then."""
        now = time.monotonic()
        rate = (images - self.last) / max(now - self.last_time, 1e-9)
        self.last, self.last_time = images, now
        record = {
            "images": images,
            "seconds": round(self.seconds + now - self.start, 3),
            "images_per_second": round(rate, 1),
        }
        self.file.write(json.dumps(record | {name: float(f"{value:.6g}") for name, value in values.items()}) + "\n")
        self.file.flush()
        for name, value in {"images_per_second": rate, **values}.items():
            self.board.add_scalar(name, value, images)
        short = " ".join(f"{name}={value:.3g}" for name, value in values.items() if not name.startswith(SINGULAR))
        if not self.bar.disable:
            self.bar.set_postfix_str(short, refresh=False)
        elif now - self.last_line > PLAIN_LINE_SECONDS or images >= self.total:
            self.last_line = now
            left = max(0, self.total - images) / max((images - self.first) / max(now - self.start, 1e-9), 1e-9)
            print(
                f"{images:,} of {self.total:,} images, {rate:,.0f}/s, {left:,.0f} s left: {short}",
                file=sys.stderr,
                flush=True,
            )

    def picture(self, tag: str, images: int, picture: Image.Image) -> None:
        """A picture for TensorBoard."""
        self.board.add_image(tag, np.asarray(picture), images, dataformats="HWC")

    def close(self) -> None:
        self.bar.close()
        self.file.close()
        self.board.close()


def _is_up_to(line: str, images: int) -> bool:
    """Whether a log line is whole and not after `images` images."""
    try:
        return json.loads(line)["images"] <= images
    except (ValueError, KeyError, TypeError):
        return False


def say(text: str) -> None:
    """Write a line that all processes share once, above the bar."""
    if distributed.is_main():
        tqdm.write(text, file=sys.stderr)
