"""Exported models: the same images as this package's, by other programs too, and nothing written that is not whole."""

import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from scipy.special import erfc as reference_erfc
from scipy.special import erfcinv, ndtr, ndtri
from torch import nn

import condgan as package
from condgan.app.export import folder, programs, subject, web, write
from condgan.app.export.network import erfc, inverse_erfc, truncating
from condgan.app.export.parity import TOLERANCE, distance
from condgan.app.export.write import ExportOptions, export
from condgan.build import build_state
from condgan.labels import Field, Labels, LabelSpec
from condgan.recipes.load import dump, load
from condgan.runs import checkpoint
from condgan.runs.models import load_either
from condgan.sampling.latents import truncated
from condgan.sampling.model import Model
from condgan.types import to_float
from condgan.utils.device import can_compile
from condgan.utils.errors import UserError
from tests.conftest import TINY, TINY_TRANSLATOR, write_image
from tests.helpers import condgan, refused

needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in programs.ONNX_PACKAGES), reason="condgan[export] is not installed"
)
FRUIT = LabelSpec.of_classes(["apple", "banana", "cherry"])
BOTH = LabelSpec((Field("ink", ("Red", "Blue"), False), Field("class", ("a", "b"))))


def untrained(out: Path, name: str, spec: LabelSpec, *overrides: str) -> Path:
    """A run whose one checkpoint holds weights as drawn, and statistics of batch norms that change images."""
    tiny = TINY_TRANSLATOR if "stargan" in name else TINY
    recipe = load(name, [*tiny, 'data.source="/home/me/secret/photos"', *overrides])
    state = build_state(recipe, spec)
    for norm in state.ema.module.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
    state.images, state.iteration = 16, 1
    checkpoint.save_checkpoint(out / "checkpoints", state, recipe, spec, {})
    (out / "recipe.yaml").write_text(dump(recipe))
    return out


@pytest.fixture
def run() -> Path:
    return untrained(Path("run"), "digits-acgan", FRUIT)


@pytest.fixture
def translating() -> Path:
    return untrained(Path("star"), "digits-stargan", FRUIT, "data.root=/home/me/secret")


def files(out: str) -> set[str]:
    return {str(path.relative_to(out)) for path in Path(out).rglob("*") if path.is_file()}


# ---- folders


def test_a_folder_is_sampled_like_its_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text").write_text("Do what you like.\n")
    done = condgan(capsys, "export", run, "--out", "for/others", "--license", "text")
    assert done.code == 0, done.err
    ema, state = "checkpoints/16/ema.safetensors", "checkpoints/16/state.json"
    assert files("for/others") == {"recipe.yaml", "sheet.png", "LICENSE", ema, state}
    assert all(name in done.out for name in files("for/others"))
    assert b"secret" not in b"".join(path.read_bytes() for path in Path("for/others").rglob("*") if path.is_file())
    assert Path("for/others/LICENSE").read_text() == "Do what you like.\n"
    shutil.rmtree(run)
    refused(condgan(capsys, "evaluate", "for/others"), "has no data of its own: expected --data PATH")
    assert condgan(capsys, "sample", "for/others", "--out", "x", "--per-class", 1).code == 0
    assert condgan(capsys, "report", "for/others").code == 0


def test_a_folder_holds_the_run_s_weights_to_the_bit(run: Path) -> None:
    export(run, "plain")
    export(run, "more", options=ExportOptions(with_discriminator=True, standing=2))
    assert files("more") - files("plain") == {"checkpoints/16/discriminator.safetensors"}
    model = package.load(run)
    for out, expected in (("plain", model), ("more", model.with_standing_statistics(2))):
        assert (package.load(out).sample(per_class=2) == expected.sample(per_class=2)).all()
    name = "checkpoints/16/discriminator.safetensors"
    assert Path("more", name).read_bytes() == (run / name).read_bytes()
    assert package.load("plain").spec == FRUIT


def test_a_translator_s_folder_translates_alike(translating: Path) -> None:
    export(translating, "out")
    assert "sheet.png" not in files("out")
    write_image(Path("a.png"))
    found, expected = (package.load_translator(one) for one in ("out", translating))
    assert found.preprocessing == expected.preprocessing
    pairs = zip(found.every_domain("a.png")[0].items(), expected.every_domain("a.png")[0].items(), strict=True)
    for (name, image), (other, reference) in pairs:
        assert name == other
        assert image.tobytes() == reference.tobytes()


def test_metrics_go_along_where_they_are_of_what_is_exported(run: Path) -> None:
    metrics = {"coverage": 0.5, "about": {"checkpoint": "16", "reference": "/home/me/secret/photos"}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    export(run, "out")
    assert json.loads(Path("out/metrics.json").read_text())["about"] == {"checkpoint": "16", "reference": "photos"}
    export(run, "standing", options=ExportOptions(standing=2))
    assert "metrics.json" not in files("standing")


def test_a_recipe_for_others_names_no_path() -> None:
    recipe = load("digits-acgan", ["data.root=/home/me", 'description="of /home/me/x/photos"', "data.source=digits"])
    assert folder.without_places(recipe).data.source == "digits"
    assert folder.without_places(recipe).data.root is None
    told = load("digits-acgan", ['description="of /home/me/x/photos"', "data.source=/home/me/x/photos"])
    assert folder.without_places(told).description == "of photos"
    assert folder.without_places(told).data.source is None
    assert folder.named_alone({"a": ["/x/b in /x/b/c", 1]}, ["/x/b", "/x/b/c"]) == {"a": ["b in c", 1]}


# ---- one module of plain tensors


EDGES = np.array([0, 1e-6, 1e-3, 1, 3, 5, 5.6, 6.5, 8], np.float32)
"""Latents where little lies beyond, up to what float32 draws never reach."""


@given(st.floats(0.1, 9), st.integers(0, 9))
@example(3.0, 0)
@example(5.0, 0)
@example(8.0, 0)
@example(30.0, 0)
def test_truncation_is_the_law_of_latents(threshold: float, seed: int) -> None:
    drawn = np.random.default_rng(seed).standard_normal(200, np.float32)
    z = np.concatenate([drawn, EDGES, -EDGES, [min(threshold, 9), -min(threshold, 9)]], dtype=np.float32)[None]
    found = truncating(threshold)(torch.from_numpy(z)).numpy()
    law = ndtr(-abs(z.astype(float))) * (ndtr(threshold) - ndtr(-threshold)) + ndtr(-threshold)  # the tail alone
    assert np.abs(found + np.sign(z) * ndtri(law)).max() < 1e-5
    assert np.abs(found[:, :200] - truncated(threshold)(z[:, :200])).max() < 1e-5
    assert np.abs(found).max() <= threshold + 1e-5


def test_erfc_and_its_inverse_are_right_where_they_are_small() -> None:
    x = np.linspace(0, 9, 1001, dtype=np.float32)
    assert np.abs(erfc(torch.from_numpy(x)[None]).numpy() / reference_erfc(x.astype(float)) - 1).max() < 1e-5
    y = np.concatenate([np.linspace(1e-3, 1, 1001), np.logspace(-35, -3, 200)]).astype(np.float32)
    assert np.abs(inverse_erfc(torch.from_numpy(y)[None]).numpy() - erfcinv(y.astype(float))).max() < 1e-5
    assert inverse_erfc(torch.zeros(1, 1)).isfinite().all()


def test_distances_are_those_of_pixels() -> None:
    expected = torch.tensor([-1.0, 0.0, 0.5, 1.0]).reshape(1, 1, 2, 2)
    assert distance(expected.numpy() + np.float32(0.25), expected) == pytest.approx(0.25)
    levels = np.array([0, 128, 191, 255], np.uint8).reshape(1, 1, 2, 2)
    assert distance(levels, expected) == 0
    assert distance(levels + np.array([0, 2, 0, 0], np.uint8).reshape(1, 1, 2, 2), expected) == pytest.approx(2 / 127.5)
    assert distance(levels[:, :, :1], expected) == math.inf
    assert not distance(expected.numpy() * np.float32(np.nan), expected) <= TOLERANCE


# ---- programs


def made_by_onnx(out: str, **inputs: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(f"{out}/model.onnx", providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["images"], inputs)[0])


def of_classes(model: Any) -> tuple[dict[str, np.ndarray], torch.Tensor]:
    z, numbers = torch.randn(5, 12), torch.tensor([0, 1, 2, 1, 0])
    made = model.generator(z, Labels.from_index(model.spec, numbers))
    return {"latents": z.numpy(), "classes": numbers.numpy()}, made


def of_mixtures(model: Any) -> tuple[dict[str, np.ndarray], torch.Tensor]:
    z, weights = torch.randn(5, 12), torch.rand(5, 3).softmax(1)
    latents = torch.from_numpy(truncated(0.7)(z.numpy())).float()
    labels = Labels(model.spec, weights, torch.ones(5, 1, dtype=torch.bool))
    return {"latents": z.numpy(), "labels": weights.numpy()}, model.generator(latents, labels)


def of_images(model: Any) -> tuple[dict[str, np.ndarray], torch.Tensor]:
    images = torch.randint(256, (5, *model.shape), dtype=torch.uint8)
    values, known = torch.tensor([[0.0, 1, 1, 0]] * 5), torch.tensor([[True, False]] * 5)
    made = model.generator(to_float(images), Labels(model.spec, values, known))
    return {"pictures": images.numpy(), "labels": torch.cat([values, known.float()], 1).numpy()}, made


MODELS: dict[str, tuple[LabelSpec, ExportOptions, Callable]] = {
    "digits-acgan": (FRUIT, ExportOptions(), of_classes),
    "digits-sagan": (FRUIT, ExportOptions("float", True, 0.7, 2), of_mixtures),
    "digits-stargan": (BOTH, ExportOptions(), of_images),
}


@needs_onnx
@pytest.mark.parametrize("name", MODELS)
def test_onnx_makes_the_package_s_images(name: str) -> None:
    import onnx

    spec, options, draw = MODELS[name]
    run = untrained(Path("run"), name, spec)
    assert set(export(run, "out", "onnx", options=options)) == {"model.onnx", "sample.py"} == files("out")
    model = load_either(run, precision="float32")
    if isinstance(model, Model) and options.standing:
        model = model.with_latents(options.truncation).with_standing_statistics(options.standing)
    with torch.no_grad():
        inputs, expected = draw(model)
    assert distance(made_by_onnx("out", **inputs), expected) <= TOLERANCE
    (entry,) = onnx.load("out/model.onnx").metadata_props
    about = json.loads(entry.value)
    assert entry.key == "condgan"
    assert set(about["inputs"]) == set(inputs)
    assert set(about["parity"]) == {"1", "2", "7"}
    assert max(about["parity"].values()) <= TOLERANCE
    assert about.get("truncation") == options.truncation
    assert about["labels"] == {field.name: list(field.values) for field in spec.fields}


WITHOUT = "import runpy, sys; sys.modules['condgan'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
"""Runs a script where condgan cannot be imported."""


def run_script(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-P", "-c", WITHOUT, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_onnx
@pytest.mark.parametrize(
    "options", [ExportOptions(), ExportOptions("float", True, 0.7), ExportOptions(truncation=10.0)]
)
def test_the_script_makes_the_first_images_of_each_class(run: Path, options: ExportOptions) -> None:
    export(run, "out", "onnx", options=options)
    run_script("out/sample.py")
    expected = package.load(run).with_latents(options.truncation).sample(per_class=1, seed=0)
    for number, image in enumerate(expected):
        found = np.asarray(Image.open(f"{number}.png")).astype(int)
        assert np.abs(found - image).max() <= 1


@needs_onnx
def test_the_script_translates_a_picture(translating: Path) -> None:
    export(translating, "out", "onnx")
    write_image(Path("a.png"), size=(16, 16), mode="RGB")
    run_script("out/sample.py", "a.png")
    model = package.load_translator(translating)
    expected = np.asarray(model.translate("a.png", {"apple": True})[0]).astype(int)
    assert np.abs(np.asarray(Image.open("translated.png")) - expected).max() <= 1


def test_pt2_makes_the_package_s_images(run: Path) -> None:
    export(run, "out", "pt2", options=ExportOptions("float"))
    found = {"condgan": ""}
    program = torch.export.load("out/model.pt2", extra_files=found).module()
    inputs, expected = of_classes(package.load(run, precision="float32"))
    made = program(*map(torch.from_numpy, inputs.values())).detach()
    assert distance(made.numpy(), expected.detach()) <= TOLERANCE
    assert json.loads(found["condgan"])["pixels"] == "-1 to 1"
    run_script("out/sample.py")
    assert Path("2.png").exists()


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(), reason="no compiler")
def test_aoti_makes_the_package_s_images(run: Path) -> None:
    export(run, "out", "aoti")
    about = json.loads(Path("out/condgan.json").read_text())
    assert max(about["parity"].values()) <= TOLERANCE
    run_script("out/sample.py")
    for number, image in enumerate(package.load(run).sample(per_class=1, seed=0)):
        assert np.abs(np.asarray(Image.open(f"{number}.png")).astype(int) - image).max() <= 1


# ---- what cannot be


def test_images_that_would_differ_are_not_exported(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuse = subject.fuse_for_inference

    def wrong(network: Any) -> Any:
        fused = fuse(network)
        for weights in fused.parameters():
            weights.mul_(1.1)
        return fused

    monkeypatch.setattr(subject, "fuse_for_inference", wrong)
    with pytest.raises(UserError, match=r"pt2 asked for, whose images would differ .* by 0\.\d+ in a batch of 1, more"):
        export(run, "out", "pt2")
    assert os.listdir() == ["run"]


def test_an_interrupted_export_leaves_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, seen = write.write, []

    def interrupted(path: Path, data: bytes) -> None:
        seen.append(path)
        if len(seen) == 3:
            raise KeyboardInterrupt
        put(path, data)

    monkeypatch.setattr(write, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(run, "out")
    assert os.listdir() == ["run"]


def test_a_folder_made_meanwhile_is_left_as_it_is(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = write.write

    def meanwhile(path: Path, data: bytes) -> None:
        Path("out").mkdir(exist_ok=True)
        Path("out/somebodys").touch()
        put(path, data)

    monkeypatch.setattr(write, "write", meanwhile)
    with pytest.raises(UserError, match="'out' is there already, and is left as it is"):
        export(run, "out")
    assert files("out") == {"somebodys"}
    assert {*os.listdir()} == {"run", "out"}


def test_bad_input_is_one_line(run: Path, translating: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("there").mkdir()
    Path("junk.tgz").write_bytes(b"junk")
    with tarfile.open("other.tgz", "w:gz") as other:
        for name in web.RUNTIME_FILES:
            other.add("junk.tgz", name)
    for what, *said in (
        (["nowhere", "--out", "x"], "'nowhere' is no run directory"),
        ([run, "--out", "there"], "--out there given, which is there already: give a new folder"),
        ([run, "--out", "run/checkpoints/x"], "which belongs to run"),
        ([run, "--out", "x", "--mixtures"], "--mixtures given with --format safetensors, which has no such option"),
        ([run, "--out", "x", "--format", "onnx", "--with-discriminator"], "known: --output, --mixtures, --truncation"),
        ([run, "--out", "x", "--format", "tflite"], "'--format'"),
        ([run, "--out", "x", "--license", "nothing"], "nothing"),
        ([run, "--out", "x", "--checkpoint", "7"], "has no checkpoint 7: it has 16"),
        ([run, "--out", "x", "--format", "pt2", "--truncation", "-1"], "truncation"),
        ([translating, "--out", "x", "--format", "web"], "a translator: a page makes images from labels alone"),
        (
            [translating, "--out", "x", "--format", "pt2", "--standing", "2"],
            "--standing given with run 'star', a translator",
            "known: --output",
        ),
        ([translating, "--out", "x", "--standing", "2"], "--standing given with run", "known: --with-discriminator"),
        ([run, "--out", "x", "--format", "web"], "`npm pack onnxruntime-web@1.30.0` downloads it"),
        ([run, "--out", "x", "--format", "web", "--runtime", "junk.tgz"], "runtime 'junk.tgz' cannot be read"),
        ([run, "--out", "x", "--format", "web", "--runtime", "other.tgz"], "is not onnxruntime-web@1.30.0, its"),
    ):
        refused(condgan(capsys, "export", *what), *said)
    assert not Path("x").exists()


@pytest.mark.parametrize("name", programs.ONNX_PACKAGES)
def test_what_is_not_installed_is_named(run: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "find_spec", lambda one: None if one == name else one)
    with pytest.raises(UserError, match=rf"^onnx asked for, and {name} is not installed: .* -e '\.\[export"):
        export(run, "out", "onnx")
    monkeypatch.setattr(programs, "can_compile", lambda: False)
    with pytest.raises(UserError, match=r"^aoti asked for, and no C\+\+ compiler found"):
        export(run, "out", "aoti")


# ---- a page


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime as npm gives it."""
    if shutil.which("npm") is None:
        pytest.skip("no npm")
    place = tmp_path_factory.mktemp("npm")
    done = subprocess.run(["npm", "pack", web.RUNTIME], cwd=place, capture_output=True, timeout=300)
    if done.returncode:
        pytest.skip("npm has no network")
    (package_file,) = place.glob("*.tgz")
    return package_file


PATIENCE = 300_000
"""Milliseconds that a browser is given on a machine with other work."""


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.slow
@needs_onnx
@pytest.mark.skipif(chromium() is None, reason="no Chromium")
def test_a_page_makes_the_package_s_images_offline(run: Path, runtime: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    export(run, "out", "web", options=ExportOptions(runtime=runtime))
    model = package.load(run, precision="float32")
    (inputs, _), weights = of_classes(model), np.eye(3, dtype=np.float32)[[0, 1, 2, 1, 0]]
    labels = Labels(model.spec, torch.from_numpy(weights), torch.ones(5, 1, dtype=torch.bool))
    expected = model.sampler(torch.from_numpy(inputs["latents"]), labels).numpy().astype(int)
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"], timeout=PATIENCE)
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.set_default_timeout(PATIENCE)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url.split(":")[0]))
        page.context.set_offline(True)
        page.goto(Path("out/index.html").resolve().as_uri())
        page.wait_for_function("document.querySelectorAll('canvas').length === 20")
        given = [inputs["latents"].ravel().tolist(), weights.ravel().tolist()]
        script = "async ([z, y]) => [...await makeImages(Float32Array.from(z), Float32Array.from(y))]"
        found = np.array(page.evaluate(script, given)).reshape(expected.shape)
        assert np.abs(found - expected).max() <= 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert set(asked) <= {"file", "blob", "data"}
        first = page.evaluate("document.querySelector('canvas').toDataURL()")
        page.fill("[name=truncation]", "0.5")
        page.select_option("[name=first]", "2")
        page.select_option("[name=second]", "0")
        page.fill("[name=count]", "3")
        page.click("button")
        page.wait_for_function("document.getElementById('state').textContent.startsWith('3 of 3')")
        assert page.inner_text("#images").split("\n") == ["cherry and apple"] * 3
        assert page.evaluate("document.querySelector('canvas').toDataURL()") != first
        drawn = page.evaluate("Array.from({length: 4000}, normals(7, 0.5))")
        assert max(map(abs, drawn)) <= 0.5
        drawn = np.array(page.evaluate("Array.from({length: 20000}, normals(7, Infinity))"))
        assert abs(drawn.mean()) < 0.03
        assert abs(drawn.std() - 1) < 0.03
        assert page.evaluate("normals(7, 9)()") == drawn[0]
        browser.close()
