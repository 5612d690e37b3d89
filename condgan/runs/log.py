"""Say how a run trains: a progress bar, log.jsonl, TensorBoard."""

import io
import json
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary
from tqdm import tqdm

from condgan.evaluation.catalog import better_first
from condgan.runs.log_file import records
from condgan.utils.console import duration, say
from condgan.utils.files import append, write

PLAIN_LINE_SECONDS = 15.0

WINDOW_SECONDS = 10.0
"""Over how long the rate of images is measured."""
GLANCE_SECONDS = 0.5
"""How often it is looked at."""


class Pace:
    """How fast images pass: over the last seconds, not in a moment, and since the first iteration was done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.seen: deque[tuple[float, int]] = deque()
        self.first: tuple[float, int] | None = None

    def see(self, images: int) -> bool:
        """Note how many images there are by now; whether that was worth a glance."""
        now = self.clock()
        if self.seen and now < self.seen[-1][0] + GLANCE_SECONDS:
            return False
        self.first = self.first or (now, images)
        self.seen.append((now, images))
        while len(self.seen) > 2 and self.seen[1][0] <= now - WINDOW_SECONDS:
            self.seen.popleft()
        return True

    @property
    def rate(self) -> float:
        """Images in a second of late, 0 as long as nobody knows."""
        return _rate(self.seen[0], self.seen[-1]) if self.seen else 0.0

    def left(self, images: int) -> float | None:
        """In how many seconds so many more images will have passed; None before the first seconds have."""
        if self.first is None or self.seen[-1][0] - self.first[0] < WINDOW_SECONDS:
            return None
        rate = _rate(self.first, self.seen[-1])
        return max(0, images) / rate if rate else None


def _rate(since: tuple[float, int], until: tuple[float, int]) -> float:
    return (until[1] - since[1]) / max(until[0] - since[0], 1e-9)


class Log:
    """Log of a run directory, continued after `images` images; what was logged after them is dropped.

    `score`: the one that is told while the run goes on.
    """

    def __init__(self, directory: Path, images: int, total: int, score: str = "fd_classifier") -> None:
        self.path = directory / "log.jsonl"
        kept = [(line, record) for line, record in records(self.path) if record["images"] <= images]
        write(self.path, b"".join(line for line, _ in kept))
        self.board = _Board(directory / "tensorboard", images)
        form = "{percentage:3.0f}%|{bar}| {desc}"
        self.bar = tqdm(total=total, initial=images, disable=None, dynamic_ncols=True, bar_format=form)
        self.total, self.last, self.start = total, images, time.monotonic()
        self.pace, self.promised = Pace(), False
        self.score = score
        self.scores = [record[score] for _, record in kept if score in record][-2:]
        self.seconds = kept[-1][1]["seconds"] if kept else 0.0
        self.last_line = self.last_time = self.start

    def advance(self, images: int) -> None:
        """Move the bar, and once it can be known say how long the run will take."""
        if self.pace.see(images):
            self.bar.set_description_str(self.short_line(images), refresh=False)
            left = None if self.promised or images >= self.total else self.pace.left(self.total - images)
            if left is not None:
                self.promised = True
                say(f"the {self.total - images:,} images to come will take about {duration(left)}")
        self.bar.update(images - self.bar.n)

    def line(self, images: int) -> str:
        """Where the run stands: images, rate, time left, and the last score beside the one before."""
        before = f", {self.scores[0]:.3g} before" if len(self.scores) > 1 else ""
        return self._where(f"{images:,} of {self.total:,} images", images, before)

    def short_line(self, images: int) -> str:
        """The same beside a bar, which shows the share, on terminals of 80 columns."""
        return self._where(f"{images:,} images", images, "")

    def _where(self, seen: str, images: int, before: str) -> str:
        left = self.pace.left(self.total - images)
        return ", ".join([
            seen,
            *([f"{self.pace.rate:,.0f}/s"] if self.pace.rate else []),
            *([f"{duration(left)} left"] if left else []),
            *([f"{self.score} {self.scores[-1]:.3g}{self._direction(before)}"] if self.scores else []),
        ])  # fmt: skip

    def _direction(self, before: str) -> str:
        if len(self.scores) < 2 or self.scores[0] == self.scores[1]:
            return ""
        return f" ({'better' if better_first(self.score) * (self.scores[0] - self.scores[1]) > 0 else 'worse'}{before})"

    def scalars(self, images: int, values: Mapping[str, float]) -> None:
        """A line of log.jsonl, a point per curve, and without a terminal now and then a line of where the run is."""
        now = time.monotonic()
        rate = (images - self.last) / max(now - self.last_time, 1e-9)
        self.last, self.last_time = images, now
        record = {
            "images": images,
            "seconds": round(self.seconds + now - self.start, 3),
            "images_per_second": round(rate, 1),
        }
        line = json.dumps(record | {name: float(f"{value:.6g}") for name, value in values.items()})
        append(self.path, f"{line}\n".encode())
        self.board.add(
            images, *(summary.scalar(name, value) for name, value in {"images_per_second": rate, **values}.items())
        )
        if self.score in values:
            self.scores = [*self.scores[-1:], values[self.score]]
        if self.bar.disable and (now - self.last_line > PLAIN_LINE_SECONDS or images >= self.total):
            self.last_line = now
            say(self.line(images))

    def picture(self, tag: str, images: int, picture: Image.Image) -> None:
        """A picture for TensorBoard."""
        self.board.add(images, summary.image(tag, np.asarray(picture), dataformats="HWC"))

    def close(self) -> None:
        self.bar.close()


class _Board:
    """A file of events for TensorBoard, written at once: what cannot be written is told where it is asked for."""

    def __init__(self, directory: Path, images: int) -> None:
        directory.mkdir(exist_ok=True)
        self.path = directory / f"events.out.tfevents.{time.time():.6f}.{platform.node()}.{os.getpid()}"
        first = Event(wall_time=time.time(), step=images, file_version="brain.Event:2")
        resumed = Event(wall_time=time.time(), step=images, session_log=SessionLog(status=SessionLog.START))
        self._write(first, *([resumed] if images else []))  # what was there after as many images is dropped

    def add(self, images: int, *summaries: Summary) -> None:
        """Points or pictures after so many images."""
        self._write(*(Event(wall_time=time.time(), step=images, summary=one) for one in summaries))

    def _write(self, *events: Event) -> None:
        buffer = io.BytesIO()
        writer = RecordWriter(buffer)
        for event in events:
            writer.write(event.SerializeToString())
        append(self.path, buffer.getvalue())
