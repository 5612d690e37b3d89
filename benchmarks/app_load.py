"""Many readers of one page at once: does each get its own images, in what time, and in how much memory?

python -m benchmarks.app_load RUN --clients 64 --seconds 120 [--record FILE]

The page runs in a process of its own. Each client opens it, asks for images of a class and a seed of its own, clicks on
one of them, downloads all, a few times, and opens the page anew: in all there are more sessions than are remembered, so
that memory's bound is seen. What comes is compared with what the model makes in this process. Who is turned away,
because too many wait, asks again.
"""

import argparse
import base64
import functools
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.record import keep
from condgan.runs.models import load_model
from condgan.sampling.model import Model

PER_CLASS = 4
STARTS_WITHIN = 600
"""Seconds."""
OF_A_SESSION = 3
"""Grids that a client asks for before it opens the page anew."""
PLACES = ("Classes", "Images of each class", "Seed")
IMAGE = re.compile(r'src="data:image/png;base64,([^"]+)"')


class Asked(NamedTuple):
    """A request: for what, how long it took and what came, images or why not."""

    kind: str
    name: str
    """Of the class."""
    seed: int
    seconds: float
    came: np.ndarray | str
    clicked: int | None = None
    """The one image that was asked for, if it was a click."""

    def outcome(self, model: Model) -> str:
        """Whether these are the model's images."""
        if isinstance(self.came, str):
            return self.came
        made = model.sample(self.name, PER_CLASS, self.seed)
        expected = made if self.clicked is None else made[[self.clicked]]
        return "right" if np.array_equal(self.came, expected) else "wrong"


class Refused(Exception):
    """Too many wait."""


class Form(NamedTuple):
    """What the page's controls send: by the numbers of their functions, and where Make images has its inputs."""

    make: int
    click: int
    download: int
    values: list[Any]
    classes: int
    per_class: int
    seed: int

    @classmethod
    def of(cls, address: str) -> "Form":
        """As the page itself says."""
        config = json.loads(urllib.request.urlopen(f"{address}config").read())
        parts = {one["id"]: one for one in config["components"]}

        def called_by(is_meant: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
            return next(
                one
                for one in config["dependencies"]
                if any(event == "click" and is_meant(parts[number]) for number, event in one["targets"])
            )

        make = called_by(lambda part: part["props"].get("value") == "Make images")
        download = called_by(lambda part: str(part["props"].get("value")).startswith("Download all"))
        click = called_by(lambda part: part["type"] == "html")
        labels = [str(parts[number]["props"].get("label")) for number in make["inputs"]]
        values = [parts[number]["props"].get("value") for number in make["inputs"]]
        place = {name: next(i for i, label in enumerate(labels) if label.startswith(name)) for name in PLACES}
        return cls(make["id"], click["id"], download["id"], values, *(place[name] for name in PLACES))


class Session:
    """The page as one browser has it open."""

    def __init__(self, address: str, form: Form, name: str) -> None:
        self.address, self.form, self.name = address, form, name

    def images(self, of_class: str, seed: int) -> np.ndarray:
        """The images of a class and a seed, as they come to a browser."""
        values = [*self.form.values]
        values[self.form.classes], values[self.form.per_class], values[self.form.seed] = [of_class], PER_CLASS, seed
        return _images(self._told(self.form.make, values))

    def clicked(self, number: int) -> np.ndarray:
        """The image that is shown large after a click."""
        return _images(self._told(self.form.click, [None, None], {"number": number})[:2])[:1]

    def downloaded(self) -> np.ndarray:
        """The images of the zip."""
        (zipped,) = self._told(self.form.download, [None])
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(zipped["data"]))) as archive:
            return np.stack([np.asarray(Image.open(archive.open(name))) for name in archive.namelist()[:-1]])

    def _told(self, function: int, data: list[Any], event: dict[str, Any] | None = None) -> list[Any]:
        """What a function of the page answers; inputs that the server remembers are None."""
        asked = {"data": data, "fn_index": function, "session_hash": self.name, "event_data": event}
        request = urllib.request.Request(
            f"{self.address}gradio_api/queue/join", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        try:
            urllib.request.urlopen(request).read()
        except urllib.error.HTTPError as error:
            raise (Refused() if error.code == 503 else error) from None
        with urllib.request.urlopen(f"{self.address}gradio_api/queue/data?session_hash={self.name}") as stream:
            for line in stream:
                message = json.loads(line[5:]) if line.startswith(b"data:") else {}
                if message.get("msg") == "process_completed":
                    if not message["success"]:
                        said = json.dumps(message["output"])
                        raise Refused() if "queue" in said.lower() else RuntimeError(said)
                    return message["output"]["data"]
        raise RuntimeError("no answer")


class Client(threading.Thread):
    """Looks at images of its class until the time is over, each time of another seed."""

    def __init__(self, number: int, address: str, form: Form, name: str, until: float) -> None:
        super().__init__()
        self.number, self.address, self.form, self.name_of_class, self.until = number, address, form, name, until
        self.asked: list[Asked] = []
        self.sessions = 0

    def run(self) -> None:
        while time.monotonic() < self.until:
            session = Session(self.address, self.form, f"client{self.number}-{self.sessions}")
            self.sessions += 1
            for grid in range(OF_A_SESSION):
                seed = 100_000 * self.number + OF_A_SESSION * self.sessions + grid
                if self.ask("images", seed, functools.partial(session.images, self.name_of_class, seed)):
                    self.ask("click", seed, functools.partial(session.clicked, seed % PER_CLASS), seed % PER_CLASS)
                    self.ask("zip", seed, session.downloaded)

    def ask(self, kind: str, seed: int, come: Callable[[], np.ndarray], clicked: int | None = None) -> bool:
        """Ask once, keep what came, and tell whether these were images."""
        start = time.monotonic()
        try:
            came: np.ndarray | str = come()
        except Refused:
            came = "turned away"
            time.sleep(0.5)
        except Exception as error:  # told in the record
            came = f"failed: {type(error).__name__} {str(error)[:120]}"
        self.asked.append(Asked(kind, self.name_of_class, seed, time.monotonic() - start, came, clicked))
        return not isinstance(came, str)


def _images(told: list[Any]) -> np.ndarray:
    """The pictures within what was told."""
    pictures = [one for text in told if isinstance(text, str) for one in IMAGE.findall(text)]
    return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in pictures])


def _memory(process: int) -> float:
    """What a process holds in memory, in MiB."""
    (pages,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(pages) / 1024


def measure(run: Path, clients: int, seconds: float) -> dict[str, Any]:
    """Ask a page with so many clients for so long."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "condgan", "app", str(run), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        killer = threading.Timer(STARTS_WITHIN, server.kill)
        killer.start()
        assert server.stdout is not None
        said = server.stdout.readline()
        killer.cancel()
        address = said.split()[2]
        form, model = Form.of(address), load_model(run)
        before = _memory(server.pid)
        until = time.monotonic() + seconds
        names = [model.classes[number % len(model.classes)] for number in range(clients)]
        asking = [Client(number, address, form, name, until) for number, name in enumerate(names)]
        for client in asking:
            client.start()
        memory = []
        while any(client.is_alive() for client in asking):
            memory.append(_memory(server.pid))
            time.sleep(1)
        files = subprocess.run(["ls", f"/proc/{server.pid}/fd"], capture_output=True, text=True).stdout.split()
    finally:
        os.kill(server.pid, signal.SIGINT)
        server.wait(30)
    asked = [one for client in asking for one in client.asked]
    outcomes = [one.outcome(model) for one in asked]
    took: dict[str, list[float]] = {"images": [], "click": [], "zip": []}
    for one, outcome in zip(asked, outcomes, strict=True):
        took[one.kind] += [one.seconds] if outcome == "right" else []
    return {
        "clients": clients,
        "sessions": sum(client.sessions for client in asking),
        "seconds": seconds,
        "requests": len(asked),
        **{kind: outcomes.count(kind) for kind in sorted({"right", "wrong", "turned away", *outcomes})},
        **{
            f"{kind}, p{share} s": round(float(np.percentile(seconds_of_kind, share)), 3)
            for kind, seconds_of_kind in took.items()
            if seconds_of_kind
            for share in (50, 95)
        },
        "MiB before": round(before),
        "MiB in the middle": round(memory[len(memory) // 2]),
        "MiB in the end": round(memory[-1]),
        "most MiB": round(max(memory)),
        "open files in the end": len(files),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--note", default="", help="what else the machine did")
    options = parser.parse_args()
    result = measure(options.run, options.clients, options.seconds)
    print(json.dumps(result, indent=1))
    if options.record:
        keep(options.record, "benchmarks.app_load", note=options.note, result=result)


if __name__ == "__main__":
    main()
