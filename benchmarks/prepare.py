"""How fast data are prepared, against a plain loop of Pillow over the same files; and memory against their number.

python -m benchmarks.prepare --data ZIP [--record OUT]     # ZIP of images, such as CIFAR-10 as JPEG
python -m benchmarks.prepare --memory [--record OUT]       # up to a million synthetic entries
"""

import argparse
import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from condgan.data.open import list_source
from condgan.data.prepare import cores, prepare
from condgan.data.preprocessing import Preprocessing
from condgan.data.readers.tree import is_image
from condgan.utils.provenance import describe_machine

SIZES = (32, 64)
COUNTS = (10_000, 100_000, 1_000_000)
WORKER = """
import json, resource, sys, time
from pathlib import Path
from condgan.data.preprocessing import Preprocessing
from condgan.data.prepare import prepare
from condgan.data.open import list_source

def most():  # not getrusage's, which begins with that of the process it was started from
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

start = most()
listing = list_source(sys.argv[1])
listed = most()
began = time.perf_counter()
prepare(listing, Preprocessing(16, 16, 3), Path(sys.argv[2]), False)
workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps({"images": len(listing), "start_mb": start, "listed_mb": listed, "prepared_mb": most(),
                  "largest_worker_mb": workers, "seconds": time.perf_counter() - began}))
"""


def plain(path: Path, size: int) -> int:
    """What one would write in five lines: every image of a zip, resized, in memory."""
    images = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if is_image(name):
                with archive.open(name) as file, Image.open(file) as image:
                    images.append(np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)))
    return len(np.stack(images))


def ours(path: Path, size: int, out: Path) -> tuple[int, str | None]:
    """Listing and preparing; the number of images and the digest."""
    shutil.rmtree(out, ignore_errors=True)
    listing = list_source(str(path))
    return len(listing), prepare(listing, Preprocessing(size, size, 3), out, False).digest


def killed_and_restarted(path: Path, size: int, out: Path) -> tuple[int, str | None]:
    """How many chunks were done when it was killed, half-way, and the digest after it went on."""
    command = [sys.executable, "-m", "condgan", "prepare", str(path), str(out), "--size", str(size), "--channels", "3"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal, half = out.with_name(f".tmp-{out.name}") / "journal", len(list_source(str(path))) // 64 // 2
    while process.poll() is None and (not journal.is_file() or journal.read_text().count("\n") < half):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = journal.read_text().count("\n")
    return done, prepare(list_source(str(path)), Preprocessing(size, size, 3), out, False).digest


def speed(path: Path, rounds: int) -> dict[str, Any]:
    """Both in turn, several times, at each size; and a kill half-way."""
    result: dict[str, Any] = {"processes": cores(), "rounds": rounds}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        for size in SIZES:
            count = 0
            times: dict[str, list[float]] = {"plain": [], "ours": []}
            for _ in tqdm(range(rounds), desc=f"{size} px"):
                for name, run in (("plain", lambda: plain(path, size)), ("ours", lambda: ours(path, size, out)[0])):  # noqa: B023
                    start = time.perf_counter()
                    count = run()
                    times[name].append(time.perf_counter() - start)
            ratios = [a / b for a, b in zip(times["plain"], times["ours"], strict=True)]
            result[f"{size} px"] = {
                "images": count,
                "plain_images_per_second": count / statistics.median(times["plain"]),
                "ours_images_per_second": count / statistics.median(times["ours"]),
                "ratio": statistics.median(ratios),
                "ratios": [round(ratio, 2) for ratio in ratios],
            }
        whole = ours(path, SIZES[0], out)[1]
        done, digest = killed_and_restarted(path, SIZES[0], Path(folder) / "killed")
        result["killed"] = {"chunks_done": done, "same_digest": digest == whole, "digest": digest}
    return result


def memory(counts: tuple[int, ...]) -> dict[str, Any]:
    """The most memory of the process, and of its largest worker, against the number of entries of a zip."""
    rows = []
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 200, 30)).save(buffer, "PNG")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "many.zip"
            with zipfile.ZipFile(path, "w") as archive:
                for number in tqdm(range(count), desc=f"{count:,} entries"):
                    archive.writestr(f"{number % 10}/{number:07}.png", buffer.getvalue())
            done = subprocess.run(
                [sys.executable, "-c", WORKER, str(path), str(Path(folder) / "out")], stdout=subprocess.PIPE, check=True
            )
            rows.append(json.loads(done.stdout))
            tqdm.write(json.dumps(rows[-1]))
    return {"rows": rows}


def main() -> None:
    """Measure, and print or record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a zip of images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--entries", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--record", type=Path, metavar="OUT")
    given = parser.parse_args()
    if (given.data is None) == (not given.memory):
        parser.error("give --data ZIP or --memory")
    load = os.getloadavg()[0]
    what = "--memory" if given.memory else f"--data {given.data.name}"
    result = memory(tuple(given.entries)) if given.memory else speed(given.data, given.rounds)
    text = json.dumps(
        {
            "environment": describe_machine() | {"command": f"python -m benchmarks.prepare {what}"},
            "load_before": load,
            **result,
        },
        indent=1,
    )
    if given.record:
        given.record.mkdir(parents=True, exist_ok=True)
        (given.record / "record.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
