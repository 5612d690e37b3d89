"""A page that makes images in a browser, without a server and without a network."""

import base64
import gzip
import hashlib
import tarfile
import zlib
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch
from jinja2 import Environment, StrictUndefined, Template

from condgan.app.export.programs import onnx_model
from condgan.app.export.subject import ExportSubject
from condgan.labels import LabelTable
from condgan.utils.console import origin
from condgan.utils.errors import UserError, said_of
from condgan.utils.files import open_plain
from condgan.utils.limits import TooLarge, require_at_most

RUNTIME = "onnxruntime-web@1.30.0"
"""The package of npm whose files are copied into the page."""
RUNTIME_FILES = {
    "package/dist/ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "package/dist/ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""These files and their SHA-256."""
LARGEST_PART = 64 << 20
GET_RUNTIME = f"`npm pack {RUNTIME}` downloads it; give the file by --runtime"


def web_files(subject: ExportSubject) -> dict[str, bytes]:
    """index.html, in which all is, and the model that it holds, for other pages.

    Raises UserError without the runtime, and where images would differ.
    """
    if subject.options.runtime is None:
        raise UserError(f"web asked for without the program that runs models in browsers: {GET_RUNTIME}")
    program, machine = runtime_parts(subject.options.runtime)
    subject = replace(subject, options=subject.options._replace(mixtures=True))
    model = onnx_model(subject)
    spec, (channels, height, width) = subject.spec, subject.shape
    about = {
        "classes": list(spec.classes),
        "units": [] if spec.exclusive or spec.range else spec.fields[0].units(),
        "range": None if spec.range is None else [spec.range.low, spec.range.high],
        "examples": LabelTable(spec, torch.tensor(spec.examples))[:].values.tolist() if spec.examples else [],
        "latent": subject.inputs["latents"][1],
        "channels": channels,
        "height": height,
        "width": width,
    }
    page = _template().render(
        name=subject.recipe.name,
        description=subject.recipe.description,
        origin=origin(subject.model.images),
        about=about,
        runtime=RUNTIME.replace("@", " "),
        parts={"program": packed(program), "machine": packed(machine), "model": packed(model)},
    )
    return {"index.html": page.encode(), "model.onnx": model}


def runtime_parts(path: Path) -> list[bytes]:
    """The files of the runtime in npm's package. Raises UserError for others than those that the page is made for."""
    found = []
    with (
        said_of(f"runtime '{path}'", GET_RUNTIME, tarfile.TarError, zlib.error, KeyError, EOFError, OSError, TooLarge),
        open_plain(path) as opened,
        tarfile.open(fileobj=opened) as package,
    ):
        for name in RUNTIME_FILES:
            require_at_most(package.getmember(name).size, LARGEST_PART, name)
            part = package.extractfile(name)
            found.append(b"" if part is None else part.read())
    for data, (name, expected) in zip(found, RUNTIME_FILES.items(), strict=True):
        if hashlib.sha256(data).hexdigest() != expected:
            raise UserError(f"runtime '{path}' is not {RUNTIME}, its {name} is another file: {GET_RUNTIME}")
    return found


def packed(data: bytes) -> str:
    """Data as text within a page: compressed, in base 64."""
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string((files("condgan.app.export") / "page.html").read_text(encoding="utf-8"))
