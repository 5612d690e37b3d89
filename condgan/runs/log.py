"""Say how a run trains: a progress bar, log.jsonl, TensorBoard."""

import io
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary
from tqdm import tqdm

from condgan.runs.log_file import records
from condgan.utils.files import append, write

PLAIN_LINE_SECONDS = 15.0

SINGULAR = "singular/"
"""How the names of singular values begin, which are too many for a line."""


class Log:
    """Log of a run directory, continued after `images` images; what was logged after them is dropped."""

    def __init__(self, directory: Path, images: int, total: int) -> None:
        self.path = directory / "log.jsonl"
        kept = [(line, record) for line, record in records(self.path) if record["images"] <= images]
        write(self.path, b"".join(line for line, _ in kept))
        self.board = _Board(directory / "tensorboard", images)
        self.bar = tqdm(total=total, initial=images, unit="img", unit_scale=True, disable=None, dynamic_ncols=True)
        self.total, self.first, self.last, self.start = total, images, images, time.monotonic()
        self.seconds = kept[-1][1]["seconds"] if kept else 0.0
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
        line = json.dumps(record | {name: float(f"{value:.6g}") for name, value in values.items()})
        append(self.path, f"{line}\n".encode())
        self.board.add(
            images, *(summary.scalar(name, value) for name, value in {"images_per_second": rate, **values}.items())
        )
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
