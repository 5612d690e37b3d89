"""Scripts beside exported files, which make images by them without this package."""

from condgan.app.export.subject import ExportSubject
from condgan.sampling.translator import Translator

RUNS = {
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"), providers=["CPUExecutionProvider"])
run = lambda **inputs: session.run(["images"], inputs)[0]
""",
    "pt2": """import torch

program = torch.export.load(Path(__file__).with_name("model.pt2")).module()
run = lambda **inputs: program(*map(torch.from_numpy, inputs.values())).numpy()
""",
    "aoti": """import torch

program = torch._inductor.aoti_load_package(str(Path(__file__).with_name("model.pt2")))
run = lambda **inputs: program(*map(torch.from_numpy, inputs.values())).numpy()
""",
}
"""How a file of each format is run."""
SAMPLES = '''"""Write an image of each {what}: the first ones of `condgan sample --seed 0`."""

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

{imports}
def seed(number):
    return int(np.random.SeedSequence((0, zlib.crc32(b"latents"), number)).generate_state(1, np.uint64)[0])

{labels}latents = np.stack([np.random.default_rng(seed(one)).standard_normal({z}, np.float32) for one in {places}])
images = run(latents=latents, {given})
for number, image in enumerate({leaving}.transpose(0, 2, 3, 1)):
    Image.fromarray(image{gray}).save(f"{{number}}.png")
'''
TRANSLATES = '''"""Write translated.png: the picture of the command line with the labels below."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

{imports}
labels = np.zeros((1, {v}), np.float32)  # {names}
labels[0, [{chosen}]] = 1  # what the picture shall show, all of it
picture = ImageOps.fit(Image.open(sys.argv[1]).convert("{mode}"), ({width}, {height}))
pictures = np.asarray(picture).reshape(1, {height}, {width}, {channels}).transpose(0, 3, 1, 2).copy()
images = run(pictures={entering}, labels=labels)
Image.fromarray({leaving}[0].transpose(1, 2, 0){gray}).save("translated.png")
'''
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def script(form: str, subject: ExportSubject) -> bytes:
    """A script that runs the file of a format."""
    whole = subject.options.output == "uint8"
    channels, height, width = subject.shape
    about = {
        "imports": RUNS[form],
        "leaving": "images" if whole else "((images + 1) * 127.5).round().clip(0, 255).astype(np.uint8)",
        "entering": "pictures" if whole else "(pictures / 127.5 - 1).astype(np.float32)",
        "gray": "[..., 0]" if channels == 1 else "",
    }
    spec = subject.spec
    if isinstance(subject.model, Translator):
        names = [value for field in spec.fields for value in field.values]
        known = [] if len(spec.fields) == 1 else [f"whether {field.name} is known" for field in spec.fields]
        chosen = [0] if not known else [0, spec.width]
        return TRANSLATES.format(
            v=spec.vector_width, names=ascii(", ".join(names + known))[1:-1], chosen=", ".join(map(str, chosen)),
            mode=MODES[channels], width=width, height=height, channels=channels, **about,
        ).encode()  # fmt: skip
    z = subject.inputs["latents"][1]
    if spec.exclusive:
        given = f"labels=np.eye({spec.width}, dtype=np.float32)" if subject.options.mixtures else "classes=classes"
        labels = f"classes = np.arange({spec.width})\n"
        return SAMPLES.format(what="class", labels=labels, places="classes", z=z, given=given, **about).encode()
    values = subject.model.draw(None, 1, 0).weights
    rows = ",\n".join(f"    {[round(one, 6) for one in row]}" for row in values.tolist())
    range = spec.range
    meant = ascii(", ".join(spec.classes))[1:-1] if range is None else f"0: {range.low:g}, 1: {range.high:g}"
    labels = f"labels = np.array([  # {meant}\n{rows},\n], np.float32)\n"
    what, places = "attribute" if range is None else "of ten numbers", "np.zeros(len(labels), int)"
    return SAMPLES.format(what=what, labels=labels, places=places, z=z, given="labels=labels", **about).encode()
