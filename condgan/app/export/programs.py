"""A generator as one file for other programs: ONNX, torch.export, AOTInductor; beside it a script that runs it."""

import json
import tempfile
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condgan.app.export.parity import measured
from condgan.app.export.scripts import script
from condgan.app.export.subject import ExportSubject
from condgan.utils.device import can_compile
from condgan.utils.errors import UserError, to_install

OPSET = 20
METADATA = "condgan"
"""What the description is called within a file, or beside it."""
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def onnx_files(subject: ExportSubject) -> dict[str, bytes]:
    """model.onnx and the script. Raises UserError where packages are missing, or images would differ."""
    return {"model.onnx": onnx_model(subject), "sample.py": script("onnx", subject)}


def onnx_model(subject: ExportSubject) -> bytes:
    """The network as an ONNX model, compared with this package by ONNX Runtime."""
    if missing := [name for name in ONNX_PACKAGES if find_spec(name) is None]:
        raise UserError(f"onnx asked for, and {missing[0]} is not installed: {to_install('export')}")
    import onnxruntime

    made = torch.onnx.export(
        subject.program, input_names=[*subject.inputs], output_names=["images"], opset_version=OPSET, verbose=False
    )
    assert made is not None
    model = made.model_proto
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(source: Tensor, labels: Tensor) -> np.ndarray:
        (images,) = session.run(None, dict(zip(subject.inputs, (source.numpy(), labels.numpy()), strict=True)))
        return np.asarray(images)

    about = subject.about(measured(run, subject.cases, "onnx"))
    model.metadata_props.add(key=METADATA, value=json.dumps(about))
    return model.SerializeToString()


def pt2_files(subject: ExportSubject) -> dict[str, bytes]:
    """model.pt2 as torch.export.load reads it, and the script. Raises UserError where images would differ."""
    made = subject.program.module()
    about = subject.about(measured(lambda *inputs: made(*inputs).detach().numpy(), subject.cases, "pt2"))
    file = BytesIO()
    torch.export.save(subject.program, file, extra_files={METADATA: json.dumps(about)})
    return {"model.pt2": file.getvalue(), "sample.py": script("pt2", subject)}


def aoti_files(subject: ExportSubject) -> dict[str, bytes]:
    """model.pt2 compiled for this kind of processor, its description and the script.

    Raises UserError where there is no compiler, or images would differ.
    """
    if not can_compile():
        raise UserError("aoti asked for, and no C++ compiler found: install one such as g++, or take --format pt2")
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = str(Path(folder) / "model.pt2")
        aoti_compile_and_package(subject.program, package_path=path)
        made = aoti_load_package(path)
        about = subject.about(measured(lambda *inputs: made(*inputs).numpy(), subject.cases, "aoti"))
        described = {f"{METADATA}.json": json.dumps(about, indent=1).encode()}
        return {"model.pt2": Path(path).read_bytes(), "sample.py": script("aoti", subject)} | described
