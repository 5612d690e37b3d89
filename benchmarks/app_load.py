"""Many readers of one page at once: does each get its own images, in what time, and in how much memory?

python -m benchmarks.app_load RUN --clients 64 --seconds 120 [--record FILE]

The page runs in a process of its own. Each client asks for images of a class and a seed of its own, again and again,
and reads them from the answer; they are compared with what the model makes in this process. Who is turned away, because
too many wait, asks again.
"""

import argparse
import base64
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


class Asked(NamedTuple):
    """A request: of which class and seed, how long it took and what came, images or why not."""

    name: str
    seed: int
    seconds: float
    came: np.ndarray | str

    def outcome(self, model: Model) -> str:
        """Whether these are the model's images."""
        if isinstance(self.came, str):
            return self.came
        return "right" if np.array_equal(self.came, model.sample(self.name, PER_CLASS, self.seed)) else "wrong"


class Client(threading.Thread):
    """Asks for images of its class until the time is over, each time of another seed."""

    def __init__(self, number: int, address: str, form: "Form", name: str, until: float) -> None:
        super().__init__()
        self.number, self.address, self.form, self.name_of_class, self.until = number, address, form, name, until
        self.asked: list[Asked] = []

    def run(self) -> None:
        while time.monotonic() < self.until:
            seed, start = 100_000 * self.number + len(self.asked), time.monotonic()
            try:
                came: np.ndarray | str = _images(self.address, self.form, self.name_of_class, seed)
            except Refused:
                came = "turned away"
                time.sleep(0.5)
            except Exception as error:  # told in the record
                came = f"failed: {type(error).__name__}"
            self.asked.append(Asked(self.name_of_class, seed, time.monotonic() - start, came))


class Refused(Exception):
    """Too many wait."""


class Form(NamedTuple):
    """What the page's button Make images sends: the number of its function, and its inputs with their places."""

    function: int
    values: list[Any]
    classes: int
    per_class: int
    seed: int

    @classmethod
    def of(cls, address: str) -> "Form":
        """As the page itself says."""
        config = json.loads(urllib.request.urlopen(f"{address}config").read())
        parts = {one["id"]: one for one in config["components"]}
        button = next(one["id"] for one in parts.values() if one["props"].get("value") == "Make images")
        function = next(one for one in config["dependencies"] if [button, "click"] in one["targets"])
        labels = [str(parts[number]["props"].get("label")) for number in function["inputs"]]
        values = [parts[number]["props"].get("value") for number in function["inputs"]]
        place = {name: next(i for i, label in enumerate(labels) if label.startswith(name)) for name in PLACES}
        return cls(function["id"], values, *(place[name] for name in PLACES))


PLACES = ("Classes", "Images of each class", "Seed")


def _images(address: str, form: Form, name: str, seed: int) -> np.ndarray:
    """The images of a class and a seed, as they come to a browser."""
    values = [*form.values]
    values[form.classes], values[form.per_class], values[form.seed] = [name], PER_CLASS, seed
    asked = {"data": values, "fn_index": form.function, "session_hash": f"seed{seed}"}
    request = urllib.request.Request(
        f"{address}gradio_api/queue/join", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request).read()
    except urllib.error.HTTPError as error:
        raise (Refused() if error.code == 503 else error) from None
    with urllib.request.urlopen(f"{address}gradio_api/queue/data?session_hash={asked['session_hash']}") as stream:
        for line in stream:
            message = json.loads(line[5:]) if line.startswith(b"data:") else {}
            if message.get("msg") == "process_completed":
                if not message["success"]:
                    raise Refused() if "queue" in json.dumps(message["output"]).lower() else RuntimeError("no success")
                text = next(one for one in message["output"]["data"] if isinstance(one, str) and "<img" in one)
                pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
                return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in pictures])
    raise RuntimeError("no answer")


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
    took = [one.seconds for one, outcome in zip(asked, outcomes, strict=True) if outcome == "right"]
    p50, p95 = np.percentile(took, [50, 95])
    return {
        "clients": clients,
        "seconds": seconds,
        "requests": len(asked),
        **{kind: outcomes.count(kind) for kind in sorted({"right", "wrong", "turned away", *outcomes})},
        "p50 s": round(float(p50), 3),
        "p95 s": round(float(p95), 3),
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
