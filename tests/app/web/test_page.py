"""The page as a browser shows it: each control at two widths, the keyboard alone, downloads, errors, no network."""

import base64
import io
import json
import re
import shlex
import shutil
import socket
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the page needs Gradio, condgan[app]")

import gradio as gr

from condgan.app.web import generators
from condgan.app.web.page import _seen_alone, launch, page
from condgan.recipes.load import load
from condgan.runs.models import held_out_split, load_model, load_translator
from condgan.runs.train import train_run
from condgan.utils.figures import channels_last, png
from tests.app.test_export import FRUIT, untrained
from tests.conftest import TINY_TRANSLATOR, write_image
from tests.helpers import condgan

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = [(1280, 900), (390, 844)]
TIMEOUT = 90_000


class Served(NamedTuple):
    """A page that is served, of which runs, and where anything of it went beyond this machine."""

    address: str
    generator: Path
    translator: Path
    outside: list[Any]


@pytest.fixture(scope="module")
def served(trained_digits: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    run = Path(shutil.copytree(trained_digits(320), folder / "numbers"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "uploads"))
        outside: list[Any] = []
        connect = socket.socket.connect

        def connected(of: socket.socket, address: Any) -> None:
            if of.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "localhost", "::1"):
                outside.append(address)
            connect(of, address)

        patch.setattr(socket.socket, "connect", connected)
        translator = folder / "inks"
        train_run(load("digits-stargan", TINY_TRANSLATOR), translator)
        blocks = page([run, translator])
        address = launch(blocks, None)
        yield Served(address, run, translator, outside)
        blocks.close(verbose=False)


def test_what_is_clicked_after_a_session_was_forgotten_is_told() -> None:
    runs = [untrained(Path(name), recipe, FRUIT) for name, recipe in (("a", "digits-acgan"), ("b", "digits-stargan"))]
    actions = [one.fn for one in page(runs).fns.values() if getattr(one.fn, "__name__", "") == "choose"]
    clicked = gr.EventData(None, {"number": 1})
    with pytest.raises(gr.Error, match="no images made yet: press Make images first"):
        actions[0](None, [], clicked)
    with pytest.raises(gr.Error, match="no picture given: upload one, or choose a held-out image"):
        actions[1](None, clicked)
    assert len(actions) == 2


def test_only_the_run_that_is_looked_at_is_read_anew() -> None:
    assert [one.active for one in _seen_alone(1, True, True, False)] == [False, True, False]
    assert [one.active for one in _seen_alone(2, True, True, False)] == [False, False, False]


def test_a_timer_of_one_run_alone_is_never_given_a_list() -> None:
    """A list for a single output is its value: a timer would then tick without a pause."""
    blocks = page([untrained(Path("alone"), "digits-acgan", FRUIT)])
    (timer,) = (one for one in blocks.blocks.values() if isinstance(one, gr.Timer))
    only = [one.fn for one in blocks.fns.values() if [*one.outputs] == [timer]]
    assert not only


def listening(port: int) -> set[str]:
    """The addresses at which this machine listens at a port, as the kernel tells, in hexadecimal."""
    lines = [line.split() for file in ("tcp", "tcp6") for line in Path("/proc/net", file).read_text().splitlines()[1:]]
    return {line[1].partition(":")[0] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "0A"}


def answer(address: str, data: bytes | None = None, **headers: str) -> int:
    try:
        return urllib.request.urlopen(urllib.request.Request(address, data, headers)).status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_the_page_gives_away_nothing(served: Served) -> None:
    assert served.address.startswith("http://127.0.0.1:")
    assert answer(served.address) == 200
    for path in ("/etc/passwd", served.generator / "recipe.yaml", Path.cwd() / "uploads"):
        assert answer(f"{served.address}gradio_api/file={path}") in (403, 404)
    assert answer(f"{served.address}monitoring") in (403, 404)
    port = int(served.address.rstrip("/").rpartition(":")[2])
    assert listening(port) == {"0100007F"}, "127.0.0.1 and nowhere else"
    large = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + bytes(34_000_000)
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert answer(f"{served.address}gradio_api/upload", large + b"\r\n--x--\r\n", **kind) == 413


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is tried in a browser by Playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=WIDTHS, ids=["1280", "390"])
def tab(request: pytest.FixtureRequest, browser: Any, served: Served) -> Iterator[Any]:
    """The page in the browser, which asked nobody outside for anything and told of no error."""
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
    tab = context.new_page()
    tab.set_default_timeout(TIMEOUT)
    asked, errors = [], []
    tab.on("request", lambda one: asked.append(one.url))
    tab.on("pageerror", lambda one: errors.append(str(one)))
    tab.on("response", lambda one: errors.append(one.url) if one.status >= 400 else None)
    tab.goto(served.address)
    images(tab).first.wait_for()
    yield tab
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it is wider than the window"
    context.close()
    assert asked
    assert not [url for url in asked if not url.startswith((served.address, "data:", "blob:"))]
    assert not errors
    assert not served.outside


def images(tab: Any) -> Any:
    """The images of the grid that is seen."""
    return tab.locator(".result .images button:visible")


def names(tab: Any) -> list[str]:
    return images(tab).locator("span").all_inner_texts()


def press(tab: Any, name: str) -> None:
    tab.get_by_role("button", name=name).locator("visible=true").click()


def number(tab: Any, name: str, value: float) -> None:
    """Type a number into a slider's box, which loses what is typed in the moment in which it appears."""
    box = tab.get_by_label(f"number input for {name}").locator("visible=true")
    for _ in range(20):
        box.fill(str(value))
        box.press("Enter")
        box.blur()
        tab.wait_for_timeout(100)
        if float(box.input_value()) == value:
            return
    pytest.fail(f"{name} does not take {value}")


def saved(tab: Any, act: Callable[[], None]) -> tuple[str, bytes]:
    with tab.expect_download() as download:
        act()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def wait_for(tab: Any, expression: str) -> None:
    tab.wait_for_function(expression)


def visit(tab: Any, name: str) -> None:
    """Go to a run's tab, which a narrow window may have folded away."""
    found = tab.get_by_role("tab", name=name, exact=True).locator("visible=true")
    if found.count():
        found.first.click()
    else:
        tab.locator(".overflow-menu button").first.click()
        tab.locator(".overflow-dropdown button", has_text=name).first.click()


@pytest.mark.slow
def test_a_generators_controls(tab: Any, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(names(tab)) == 20
    for name in "01245679":
        tab.get_by_label(name, exact=True).uncheck()
    number(tab, "Images of each class, or of the mixture", 3)
    number(tab, "Truncation", 0.5)
    seed = tab.get_by_label("Seed")
    seed.fill("41")
    press(tab, "Another seed")
    wait_for(tab, "document.querySelectorAll('.result .images button').length === 6")
    assert seed.input_value() == "42"
    assert names(tab)[3] == "8, no. 0"
    model = load_model(served.generator).with_latents(0.5)
    expected = model.sample(["3", "8"], 3, 42)

    images(tab).nth(4).click()
    tab.locator(".large").get_by_text("8, no. 1, seed 42").wait_for()
    name, content = saved(tab, lambda: tab.get_by_role("link", name="Download this image").click())
    assert name == "8-1.png"
    assert np.array_equal(pixels(content), expected[4])

    name, content = saved(tab, lambda: press(tab, "Download all"))
    assert name == "numbers.zip"
    archive = zipfile.ZipFile(io.BytesIO(content))
    command = json.loads(archive.read("made-of.json"))["command"]
    tab.get_by_text("The same on the command line").click()
    assert tab.locator("details code").inner_text() == command
    assert condgan(capsys, *shlex.split(command)[1:]).code == 0
    for file in archive.namelist()[:-1]:
        assert np.array_equal(pixels(archive.read(file)), np.asarray(Image.open(Path("images") / file))), file

    tab.locator("button.label-wrap:visible", has_text="More").click()
    number(tab, "Standing statistics", 2)
    tab.get_by_label("Checkpoint").locator("visible=true").click()
    earlier = min((path.name for path in (served.generator / "checkpoints").iterdir()), key=int)
    tab.get_by_role("option", name=earlier, exact=True).click()
    press(tab, "Make images")
    older = load_model(served.generator, earlier).with_latents(0.5).with_standing_statistics(2, 42)
    wanted = base64.b64encode(png(Image.fromarray(older.sample(["3", "8"], 3, 42)[4]))).decode()
    tab.locator(f".result .images img[src$='{wanted}']").wait_for()

    images(tab).nth(0).click()
    wait_for(tab, "document.querySelectorAll('.picked img').length === 2")
    press(tab, "The way between")
    wait_for(tab, f"document.querySelectorAll('.result .images button').length === {generators.BETWEEN}")
    assert (names(tab)[0], names(tab)[-1]) == ("8, no. 1", "3, no. 0")
    number(tab, "How different", 0)
    press(tab, "More like this")
    wait_for(tab, f"document.querySelectorAll('.result .images button').length === {generators.NEARBY}")
    assert names(tab)[0] == "3, no. 0"
    assert len({*images(tab).locator("img").evaluate_all("all => all.map(one => one.src)")}) == 1, "all the same"


@pytest.mark.slow
def test_an_image_is_moved_and_a_picture_is_found(tab: Any, served: Served, tmp_path: Path) -> None:
    tab.locator("button.label-wrap:visible", has_text="Directions and neighbors").click()
    press(tab, "Move it along the direction")
    tab.get_by_text("no image chosen: click on one first").first.wait_for()
    images(tab).nth(5).click()
    tab.locator(".large img").wait_for()
    press(tab, "What is like it?")
    wait_for(tab, f"document.querySelectorAll('.beside img').length === {2 * generators.NEIGHBORS_OF_EACH}")
    number(tab, "Direction", 2)
    press(tab, "Move it along the direction")
    wait_for(tab, f"document.querySelectorAll('.result .images button').length === {generators.ALONG}")
    assert names(tab)[generators.ALONG // 2] == "2, no. 1"

    model = load_model(served.generator)
    model.pictures("3", 1, 9)[0].save(tmp_path / "mine.png")
    tab.locator("button.label-wrap:visible", has_text="Find a picture of yours").click()
    tab.locator("input[type=file]").first.set_input_files(tmp_path / "mine.png")
    wait_for(tab, f"document.querySelectorAll('.result .images button').length === {generators.TRIED_CLASSES}")
    tab.get_by_text("the picture, as the run would see it").wait_for()
    assert all(name.partition(": ")[0] in model.classes for name in names(tab))


@pytest.mark.slow
def test_mixtures_and_errors(tab: Any, served: Served) -> None:
    for name in "01245679":
        tab.get_by_label(name, exact=True).uncheck()
    tab.get_by_label("mixed with each other").check()
    tab.get_by_label("number input for Share of 8").wait_for()
    number(tab, "Share of 3", 0.25)
    number(tab, "Images of each class, or of the mixture", 2)
    press(tab, "Make images")
    wait_for(tab, "document.querySelectorAll('.result .images button').length === 2")
    assert names(tab)[1] == "3=0.25,8=0.5, no. 1"
    images(tab).nth(1).click()
    _, content = saved(tab, lambda: tab.get_by_role("link", name="Download this image").click())
    assert np.array_equal(pixels(content), load_model(served.generator).sample({"3": 0.25, "8": 0.5}, 2, 0)[1])
    tab.get_by_label("1", exact=True).check()
    share = tab.get_by_label("number input for Share of 1")
    share.wait_for()
    assert share.input_value() == "0.5", "another class does not have the share of the one before"
    tab.get_by_label("1", exact=True).uncheck()
    tab.get_by_label("each for itself").check()
    number(tab, "Images of each class, or of the mixture", 40)
    press(tab, "Make images")
    tab.get_by_text("80 images asked for: expected at most 64").wait_for()
    assert "Traceback" not in tab.content()


def focus(tab: Any, expression: str) -> None:
    """Press Tab until an element has the focus of which this holds."""
    for _ in range(150):
        tab.keyboard.press("Tab")
        if tab.evaluate(f"(one => Boolean({expression}))(document.activeElement)"):
            return
    pytest.fail(f"the Tab key does not lead to where {expression}")


@pytest.mark.slow
def test_the_keyboard_alone_does(tab: Any, served: Served) -> None:
    focus(tab, "one.type === 'checkbox' && one.closest('label').innerText.trim() === '0'")
    tab.keyboard.press("Space")
    focus(tab, "one.type === 'number' && one.getAttribute('aria-label') === 'Seed'")
    tab.keyboard.type("7")
    tab.keyboard.press("Enter")
    wait_for(tab, "document.querySelectorAll('.result .images button').length === 18")
    tab.evaluate("document.activeElement.blur()")
    focus(tab, "one.dataset.number === '3'")
    tab.keyboard.press("Enter")
    wait_for(tab, "document.querySelectorAll('.large').length === 1")
    focus(tab, "one.className === 'save'")
    _, content = saved(tab, lambda: tab.keyboard.press("Enter"))
    rest = list("123456789")
    assert np.array_equal(pixels(content), load_model(served.generator).sample(rest, 2, 7)[3])


@pytest.mark.slow
def test_a_translators_controls(tab: Any, served: Served, tmp_path: Path) -> None:
    visit(tab, "inks")
    model = load_translator(served.translator)
    tab.locator(".pair:visible").wait_for()
    assert names(tab) == ["the picture", *model.domains]
    tab.locator(".images button:visible", has_text=held_out_split(served.translator).names[2]).click()
    tab.get_by_text(held_out_split(served.translator).names[2]).locator("visible=true").first.wait_for()

    write_image(path := tmp_path / "mine.png", 90, (40, 30), "RGB")
    tab.locator("input[type=file]").set_input_files(path)
    tab.get_by_text(re.compile("mine.png: resized 1 image of 40×30")).wait_for()
    picture = model.pixels(path)
    images(tab).nth(3).click()
    tab.get_by_text(f"The picture, and then {model.domains[2]}").wait_for()
    _, content = saved(tab, lambda: tab.get_by_role("link", name="Download this image").click())
    expected = model.to_every_domain(picture)[0]
    assert np.array_equal(pixels(content), channels_last(expected)[2])

    slider = tab.get_by_label("Before and after")
    slider.focus()
    for _ in range(5):
        slider.press("ArrowRight")
    assert tab.locator(".pair").evaluate("one => one.style.getPropertyValue('--at')") == "55%"

    for ink in ("Red_Ink", "Blue_Ink"):
        tab.get_by_label(ink).check()
    press(tab, "Translate")
    held = model.read(picture)
    tab.get_by_text(re.compile("and then translated|that the picture has already")).first.wait_for()
    if not held.values[0, 2]:
        _, content = saved(tab, lambda: tab.get_by_role("link", name="Download this image").click())
        assert np.array_equal(pixels(content), channels_last(model.apply(picture, {"Blue_Ink": True}).images)[0])
    name, content = saved(tab, lambda: press(tab, "Download all"))
    assert (name, len(zipfile.ZipFile(io.BytesIO(content)).namelist())) == ("inks.zip", len(model.domains) + 2)

    (tmp_path / "no.png").write_bytes(b"no picture")
    tab.get_by_label("Clear").or_(tab.get_by_label("Remove this file")).first.click()
    tab.locator("input[type=file]").set_input_files(tmp_path / "no.png")
    tab.get_by_text("'no.png' is unreadable").wait_for()
    assert "Traceback" not in tab.content()


@pytest.mark.slow
def test_progress_and_report(tab: Any, served: Served) -> None:
    visit(tab, "Progress")
    tab.get_by_text("320 of 320 images of training").wait_for()
    log = served.generator / "log.jsonl"
    before = log.read_bytes()
    try:
        with log.open("a") as file:
            file.write('{"images": 321, "seconds": 1e6, "images_per_second": 1.0}\n')
        tab.get_by_text("321 of 320 images of training").wait_for()
    finally:
        log.write_bytes(before)
    visit(tab, "Report")
    frame = tab.frame_locator("iframe[title=Report]")
    frame.locator("body").get_by_text("digits-acgan").first.wait_for()


@pytest.mark.slow
def test_pages_open_at_once_get_their_own_images(browser: Any, served: Served) -> None:
    model = load_model(served.generator)
    tabs = [browser.new_page() for _ in range(3)]
    for tab in tabs:
        tab.set_default_timeout(TIMEOUT)
        tab.goto(served.address)
    for seed, tab in enumerate(tabs):
        images(tab).first.wait_for()
        tab.get_by_label("Seed").fill(str(seed + 10))
    for tab in tabs:
        press(tab, "Make images")
    for seed, tab in enumerate(tabs):
        expected = model.sample(per_class=2, seed=seed + 10)
        for place in (0, 19):
            images(tab).nth(place).click()
            tab.get_by_text(f"{place // 2}, no. {place % 2}, seed {seed + 10}").wait_for()
            _, content = saved(tab, lambda tab=tab: tab.get_by_role("link", name="Download this image").click())
            assert np.array_equal(pixels(content), expected[place])
        tab.close()
    assert threading.active_count() < 100
