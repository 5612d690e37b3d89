import base64
import io
import json
import math
import os
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from condgan.recipes.load import dump, load
from condgan.runs.models import find_checkpoint
from condgan.runs.report import write_report
from condgan.runs.report.charts import draw_search
from condgan.runs.report.metrics import metric_text
from condgan.runs.schemas import Utility
from condgan.utils.errors import UserError

VOID = {"meta", "img", "br", "link", "input"}
HOSTILE = ['<i>"quoted"</i>', "</td></table>", "<script>alert(1)</script>", "{{ 7 * 7 }}", "a & b's", "\udcff", "–"]


class Page(HTMLParser):
    """A page as a tree; tags that are left open or closed twice fail."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.builder, self.open = TreeBuilder(), []
        self.feed(content)
        self.close()
        assert not self.open
        self.root = self.builder.close()

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        self.builder.start(tag, {name: value or "" for name, value in attrs})
        if tag in VOID:
            self.builder.end(tag)
        else:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.builder.start(tag, dict(attrs))
        self.builder.end(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.builder.end(tag)

    def handle_data(self, data):
        if self.open:
            self.builder.data(data)


def a_run(directory: Path, recipe: str = "digits-acgan", **files: dict) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "recipe.yaml").write_text(dump(load(recipe)))
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


def page_of(directory: Path) -> Element:
    return Page(write_report(directory).read_text()).root


def said(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def section(page: Element, title: str) -> Element:
    return next(one for one in page.iter("section") if said(one.find("h2")) == title)


def body(table: Element) -> list[list[str]]:
    return [[said(cell) for cell in row] for row in table.find("tbody")]


def tables(page: Element, title: str) -> list[list[list[str]]]:
    return [body(table) for table in section(page, title).iter("table")]


def picture(path: Path, width: int, height: int) -> bytes:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


def log(directory: Path, records: list[dict]) -> None:
    (directory / "log.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))


def row(agreement: float | None, distance: float | None, **judged: int) -> dict:
    return {"label_agreement": agreement, "fd_classifier": distance, "judged": judged, "real": {"fd_classifier": 1.25}}


ABOUT = {"checkpoint": "6000", "fakes": 12, "real": 12, "reference": "held-out images", "extractor": "classifier",
         "extractor_sha256": "0123456789abcdef" * 4, "resize": "none", "extractor_accuracy": 0.997, "truncation": None,
         "batch_norm": "running statistics", "seed": 3, "warnings": ["12 are few & <far> between"]}  # fmt: skip
METRICS = {
    "label_agreement": 0.9876, "fd_classifier": 3.5, "kd_classifier_mean": 0.012, "kd_classifier_std": 0.003,
    "something_new": 2.5, "intervals": {"fd_classifier": [3.25, 3.75]},
    "real": {"label_agreement": 0.9944, "fd_classifier": 1.5},
    "per_class": {"cat": row(1.0, 3.0, cat=4), "dog": row(0.75, 4.0, dog=3, cat=1), "eel": row(0.75, 9.0, eel=3, dog=1),
                  "fly": row(None, None)},
    "about": ABOUT,
}  # fmt: skip
ENVIRONMENT = {
    "command": "condgan train digits-acgan --out 'my run'", "condgan": "0.1.0", "commit": "7c1124766", "python": "3.11",
    "packages": {"torch": "2.15.0"}, "platform": "Linux", "cpu": "EPYC", "threads": 2, "gpu": "H200",
    "data": {"sha256": "feed" * 16, "train": 1438, "held_out": 359, "classes": ["cat", "dog"], "skipped": ["bad.png"]},
    "resumed": [{"command": "condgan train my.yaml", "commit": "abc"}],
}  # fmt: skip
ACCURACY = {"mean": 0.91, "std": 0.01, "values": [0.91]}
ARM = {"balanced": ACCURACY, "accuracy": ACCURACY, "per_class": {}}
ADVICE = "The images help: +1.2 points of balanced accuracy."
NO_GAIN = {"difference": 0.0, "interval": [-0.01, 0.02], "verdict": "no difference"}
TRIAL = {"round": 0, "seeds": 1, "ratio": 0.5, "selection": "agreement", "truncation": None, "difference": 0.02}
UTILITY = {
    "seeds": 5, "n_real": 144, "n_fakes": 1440, "n_validation": 180, "n_test": 179, "verdict": "helps",
    "difference": 0.012, "interval": [0.004, 0.02], "advice": ADVICE, "baseline": "augmented", "augmentation": "crops",
    "chosen": {"ratio": "balance", "selection": "none", "truncation": 0.7, "counts": {"dog": 1440}},
    "baselines": {"real": 0.85, "augmented by crops": 0.9, "augmented by RandAugment": 0.88},
    "search": [TRIAL, TRIAL | {"ratio": 2.0, "difference": -0.01}, TRIAL | {"truncation": 0.7, "difference": 0.01},
               TRIAL | {"ratio": "balance", "selection": "none", "truncation": 0.7, "difference": 0.05}],
    "comparisons": {"augmented+fakes over augmented": NO_GAIN | {"difference": 0.012}, "augmented over real": NO_GAIN},
    "arms": {arm: ARM | {"per_class": {name: {"mean": 0.5, "std": 0.25} for name in ("cat", "dog")}}
             for arm in ("real", "augmented", "augmented+fakes", "fakes")},
    "per_class": {"cat": {"difference": 0.01, "interval": [-0.01, 0.03], "verdict": "no difference"},
                  "dog": {"difference": -0.05, "interval": [-0.08, -0.02], "verdict": "hurts"}},
}  # fmt: skip


@pytest.fixture
def full(tmp_path):
    directory = a_run(tmp_path / "run", metrics=METRICS, environment=ENVIRONMENT, utility=UTILITY)
    log(directory, [
        {"images": 1000 * i, "seconds": 60.5 * i, "images_per_second": 16.5, "D/adv": 1 / i, "G/adv": 2.0,
         "D/class/real": 0.5, "accuracy/real": 0.5, "singular/D/blocks.0/1": 2.0, "singular/D/blocks.0/2": 1.0}
        | ({"fd_classifier": 100 / i**2, "label_agreement": 0.5} if i % 2 == 0 else {})
        for i in range(1, 11)
    ])  # fmt: skip
    for name in (
        "sheet",
        "neighbors",
        "directions",
        "tree",
        "samples/real",
        *(f"samples/{1000 * i}" for i in range(1, 13)),
    ):
        picture(directory / f"{name}.png", 20, 30)
    return directory


def test_the_mean_over_classes_is_named_after_its_metric() -> None:
    assert metric_text("intra_fd_classifier").title == "Fréchet distance (classifier) within a class"
    assert metric_text("intra_fid").title == "FID within a class"
    assert metric_text("intra_class_diversity").title == "Diversity within a class"


def test_tells_what_a_run_has(full):
    page = page_of(full)
    assert page.get("lang") == "en"
    assert said(page.find("head/title")).startswith("digits-acgan")
    header = said(page.find("body/main/header"))
    assert "trained on digits (1,438 images, 2 classes): 10,000 images seen in 10 min 5 s on H200." in header
    assert [said(one) for one in page.iter("h2")] == [
        "Generated images", "Key numbers", "Training", "Classes", "Confusions", "Nearest neighbors",
        "What the generator has learned", "Usefulness", "Make it again",
    ]  # fmt: skip
    assert all(one.get("alt") for one in page.iter("img"))
    again = said(section(page, "Make it again"))
    for told in ("condgan train digits-acgan --out 'my run'", "condgan train my.yaml at commit abc", "feed" * 16,
                 "1 unreadable: bad.png", "H200; EPYC, 2 threads; Linux", "torch 2.15.0"):  # fmt: skip
        assert told.lower() in again.lower()
    assert dump(load("digits-acgan")).strip() in "".join(page.find(".//pre").itertext())


def test_numbers_stand_beside_their_ceilings(full):
    numbers = section(page_of(full), "Key numbers")
    cards = [said(one) for one in numbers.iter("div") if one.get("class") == "card"]
    assert cards[0].startswith("Label agreement 98.8% 99.4% for real images")
    assert cards[1].startswith(
        "Fréchet distance (classifier) 3.50 1.50 for real images 95% of other draws: 3.25 to 3.75"
    )
    assert cards[1].endswith("↓ lower is better")
    assert cards[2].startswith("Kernel distance (classifier) 0.0120 ± 0.00300")
    assert cards[3] == "something new 2.50"
    assert len(cards) == 4
    measured = said(next(one for one in numbers.iter("p") if one.get("class") == "measured"))
    for told in ("checkpoint 6,000 images", "generated images 12", "reference held-out images", "extractor classifier",
                 "0123456789abcdef…", "resize none", "99.7%", "batch norm running statistics", "truncation none",
                 "seed 3."):  # fmt: skip
        assert told in measured
    assert "Warning: 12 are few & <far> between" in said(numbers)


def test_numbers_of_another_extractor_follow(full):
    (full / "metrics-inception.json").write_text(json.dumps({"fid": 33.25, "about": {"extractor": "inception"}}))
    numbers = said(section(page_of(full), "Key numbers"))
    assert 0 < numbers.find("extractor classifier") < numbers.find("FID 33.2") < numbers.find("extractor inception")


def test_worst_classes_come_first(full):
    (rows,) = tables(page_of(full), "Classes")
    assert rows == [
        ["eel", "75.0%", "9.00 1.25"], ["dog", "75.0%", "4.00 1.25"], ["cat", "100.0%", "3.00 1.25"],
        ["fly", "–", "– 1.25"],
    ]  # fmt: skip


def test_confusions_are_shares_of_the_asked_class(full):
    (rows,) = tables(page_of(full), "Confusions")
    assert rows == [
        ["cat", "100", "", "", ""], ["dog", "25", "75", "", ""], ["eel", "", "25", "75", ""], ["fly", "", "", "", ""],
    ]  # fmt: skip


def test_tells_of_use_by_arm_and_by_class_the_harmed_first(full):
    use = section(page_of(full), "Usefulness")
    assert f"Helps. {ADVICE}" in said(use)
    assert "with 5 seeds each" in said(use)
    arms, pairs, classes = map(body, use.iter("table"))
    assert [row[0] for row in arms] == ["real", "augmented", "augmented + fakes", "fakes"]
    assert arms[0][1:] == 2 * ["91.0% ± 1.0%"]
    assert pairs[0] == ["augmented + fakes over augmented", "+1.2", "−1.0 to +2.0", "no difference"]
    assert [row[:2] for row in classes] == [["dog", "1,440"], ["cat", "0"]]
    assert classes[0][2:] == [*2 * ["50.0% ± 25.0%"], "−5.0", "−8.0 to −2.0", "hurts"]


def test_the_search_is_drawn_by_ratio_a_curve_for_each_selection():
    drawn = draw_search(Utility.model_validate(UTILITY))
    assert drawn is not None
    assert drawn.names == ["agreement", "not selected"]
    assert drawn.svg.count("balance") == 1
    assert draw_search(Utility.model_validate(UTILITY | {"search": []})) is None


def test_samples_are_spread_over_time(full):
    strip = next(one for one in section(page_of(full), "Training").iter("div") if one.get("class") == "strip")
    shown = [said(one) for one in strip.iter("figcaption")]
    assert (shown[0], shown[-2:]) == ("1,000 images", ["12,000 images", "real images"])
    assert len(shown) == 9


def charts(page: Element) -> dict[str, Element]:
    return {said(one.find("figcaption/strong")): one for one in page.iter("figure") if one.get("class") == "chart"}


def paths(chart: Element, color: str) -> list[list[list[float]]]:
    """The points of the lines of a color, such as line0."""
    drawn = [one.get("d") for one in chart.iter("path") if f"fill: none; stroke: var(--{color})" in one.get("style")]
    return [[[float(part) for part in point.split()] for point in re.split("[ML]", path)[1:]] for path in drawn]


def curve(chart: Element, number: int = 0) -> list[list[float]]:
    (points,) = paths(chart, f"line{number}")
    return points


def ticks(chart: Element, anchor: str) -> list[str]:
    return [said(one) for one in chart.iter("text") if f"text-anchor: {anchor}" in one.get("style")]


def test_curves_of_a_kind_share_a_chart(full):
    page = page_of(full)
    shown = charts(page)
    assert [*shown] == [
        "Fréchet distance (classifier)", "Label agreement", "adv", "class", "accuracy", "images per second",
        "D/blocks.0", "Balanced accuracy",
    ]  # fmt: skip
    assert said(shown["adv"].find("figcaption")) == "adv D/adv G/adv"
    distance = shown["Fréchet distance (classifier)"]
    assert "decides the best checkpoint" in said(distance)
    assert len(curve(distance)) == 5
    assert len(list(distance.iter("use"))) == 5
    assert "D/blocks.0" in [*charts(next(page.iter("details")))]


def test_curves_are_to_scale(full):
    shown = charts(page_of(full))
    x, y = zip(*curve(shown["adv"]), strict=True)
    heights = [line[0][1] for line in paths(shown["adv"], "rule")]
    line = np.polyfit([float(name) for name in ticks(shown["adv"], "end")], heights, 1)
    assert np.allclose(np.polyval(line, [1 / i for i in range(1, 11)]), y, atol=0.01)
    places = {said(one): float(one.get("x")) for one in shown["adv"].iter("text")}
    assert np.allclose(np.interp([1000 * i for i in range(1, 11)], [0, 10_000], [places["0"], places["10k"]]), x)
    (marked,) = [one for one in shown["adv"].iter("path") if "dasharray" in one.get("style")]
    assert float(marked.get("d").split()[1]) == pytest.approx(x[5])


def test_what_spans_much_has_a_log_scale(tmp_path):
    directory = a_run(tmp_path)
    log(directory, [{"images": i, "seconds": 1.0, "D/adv": 10.0**-i, "G/adv": float(i)} for i in range(1, 5)])
    chart = charts(page_of(directory))["adv"]
    assert "log scale" in said(chart.find("figcaption"))
    x, y = zip(*curve(chart), strict=True)
    assert np.allclose(np.diff(y), np.diff(y)[0], atol=0.11)
    assert np.allclose(np.diff(x), np.diff(x)[0], atol=0.11)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.floats(-1e12, 1e12) | st.just(float("nan")), min_size=1, max_size=8), max_size=20))
@example([[0.0, 5e-324], [5e-324, 1e-308], [1e-310], [1.0, 1.0 + 1e-15], [5e-324, 1e12]])
def test_curves_stay_in_their_frame(tmp_path, losses):
    directory = a_run(tmp_path)
    log(directory, [
        {"images": 7 * i + 1, "seconds": 1.0} | {f"loss {n}": line[i] for n, line in enumerate(losses) if i < len(line)}
        for i in range(8)
    ])  # fmt: skip
    shown = charts(page_of(directory))
    finite = {f"loss {n}": sum(map(math.isfinite, line)) for n, line in enumerate(losses)}
    assert {*shown} == {name for name, count in finite.items() if count}
    for name, chart in shown.items():
        width, height = (float(side) for side in chart.find("svg").get("viewbox").split()[2:])
        points = curve(chart)
        assert len(points) == finite[name]
        assert all(0 < x < width and 0 < y < height for x, y in points)
        assert len(ticks(chart, "middle")) > 1


def test_long_curves_are_thinned_and_keep_their_ends(tmp_path):
    directory = a_run(tmp_path)
    log(directory, [{"images": i, "seconds": 1.0, "loss": float(i), "singular/D/a/1": 1.0} for i in range(1, 3001)])
    shown = charts(page_of(directory))
    points = curve(shown["loss"])
    assert len(points) == 500
    assert points[0][1] - points[-1][1] > 130
    assert len(curve(shown["D/a"])) == 100


def test_the_same_run_gives_the_same_page(full):
    pages = [write_report(full).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]


def test_nothing_is_fetched_or_run(full):
    content = write_report(full).read_text()
    page = Page(content).root
    assert "default-src 'none'" in content
    for element in page.iter():
        assert element.tag not in ("script", "link", "iframe", "object", "base")
        for name, value in element.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                assert value.startswith(("data:image/png;base64,", "#"))
    for style in [said(next(page.iter("style"))), *(element.get("style", "") for element in page.iter())]:
        assert not re.search(r"url\(|@import|//", style)


def test_hostile_names_are_text(tmp_path):
    names = [*HOSTILE, "x" * 300]
    metrics = METRICS | {"per_class": {name: row(0.5, 1.0, **{name: 1, HOSTILE[0]: 1}) for name in names}}
    arms = {arm: ARM | {"per_class": {name: {"mean": 0.5, "std": 0.1} for name in names}} for arm in UTILITY["arms"]}
    utility = UTILITY | {"arms": arms, "per_class": dict.fromkeys(names, NO_GAIN)}
    directory = a_run(tmp_path, metrics=metrics, utility=utility, environment=ENVIRONMENT | {"command": HOSTILE[2]})
    page = page_of(directory)
    for title in ("Classes", "Confusions", "Usefulness"):
        *_, rows = tables(page, title)
        assert [cells[0] for cells in rows] == [name.replace("\udcff", "\\udcff") for name in names]
    assert HOSTILE[2] in said(section(page, "Make it again"))
    assert not list(page.iter("script"))
    assert not list(page.iter("i"))


def test_a_bare_run_names_the_commands(tmp_path):
    directory = a_run(tmp_path / "my run")
    page = page_of(directory)
    whole = said(page.find("body"))
    assert f"condgan evaluate '{directory}'" in whole
    assert f"condgan utility '{directory}'" in whole
    assert [said(one) for one in page.iter("h2")] == ["Key numbers", "Training", "Usefulness", "Make it again"]
    assert not list(page.iter("img"))


def test_the_broken_last_line_of_a_log_is_no_matter(full):
    before = write_report(full).read_text()
    with (full / "log.jsonl").open("a") as file:
        file.write('{"images": 11000, "sec')
    assert write_report(full).read_text() == before


def test_a_thousand_classes_are_folded(tmp_path):
    names = [f"n{number:08d}" for number in range(1000)]
    rows = {name: row(0.98, float(i), **{name: 49, names[i - 1]: 1}) for i, name in enumerate(names)}
    rows["n00000007"] = row(0.5, 1.0, n00000007=25, n00000006=5, n00000999=20)
    page = page_of(a_run(tmp_path, metrics={"per_class": rows, "about": ABOUT}))
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    first, rest = tables(page, "Classes")
    assert [cells[0] for cells in first[:3]] == ["n00000007", "n00000999", "n00000998"]
    assert (len(first), len(rest)) == (20, 980)
    assert said(next(section(page, "Classes").iter("summary"))) == "The other 980"
    matrix, commonest = tables(page, "Confusions")
    assert len(matrix) == 40
    assert matrix[0] == ["n00000007", "50", "40", *38 * [""], "10"]
    assert commonest[:2] == [
        ["n00000007", "n00000999", "20", "40.0%"], ["n00000007", "n00000006", "5", "10.0%"],
    ]  # fmt: skip
    assert len(commonest) == 20


def test_a_translator_is_told_by_attribute(tmp_path):
    attributes = {
        "Smiling": {"attribute_accuracy": 0.9, "target_mae": 0.125, "real": {"attribute_accuracy": 1.0}},
        "Bald": {"attribute_accuracy": 0.2, "kept_accuracy": 0.5, "real": {"attribute_accuracy": 0.75},
                 "across": {"attribute_accuracy": 0.25}},
    }  # fmt: skip
    fields = {"CelebA": {"attribute_accuracy": 0.4}}
    metrics = {"attribute_accuracy": 0.55, "per_field": fields, "per_attribute": attributes, "about": ABOUT}
    directory = a_run(tmp_path, "digits-stargan", metrics=metrics)
    picture(directory / "sheet.png", 10, 10)
    page = page_of(directory)
    assert tables(page, "Attributes") == [
        [["Bald", "20.0% 75.0% across 25.0%", "–", "50.0%"], ["Smiling", "90.0% 100.0%", "12.5%", "–"]]
    ]
    assert tables(page, "Data sets") == [[["CelebA", "40.0%"]]]
    assert [said(one) for one in page.iter("h2")] == [
        "Translations", "Key numbers", "Training", "Data sets", "Attributes", "Make it again",
    ]  # fmt: skip


def test_large_pictures_are_reduced(tmp_path):
    directory = a_run(tmp_path)
    small = picture(directory / "sheet.png", 300, 200)
    picture(directory / "samples" / "real.png", 1000, 600)
    sheet, real = page_of(directory).iter("img")
    assert base64.b64decode(sheet.get("src").split(",")[1]) == small
    reduced = Image.open(io.BytesIO(base64.b64decode(real.get("src").split(",")[1])))
    assert reduced.width * reduced.height <= 150_000
    assert reduced.size == (int(real.get("width")), int(real.get("height")))
    assert reduced.width / reduced.height == pytest.approx(1000 / 600, rel=0.01)


def test_writes_where_it_is_told(tmp_path):
    directory = a_run(tmp_path / "run")
    assert write_report(directory) == directory / "report.html"
    out = tmp_path / "elsewhere" / "card.html"
    assert write_report(str(directory), str(out)) == out
    assert out.read_bytes() == (directory / "report.html").read_bytes()


def test_refuses_what_is_no_run(tmp_path):
    with pytest.raises(UserError) as expected:
        find_checkpoint(tmp_path)
    with pytest.raises(UserError) as error:
        write_report(tmp_path)
    assert str(error.value) == str(expected.value)
    assert not list(tmp_path.iterdir())


DAMAGES = {
    "metrics.json": ["[]", "null", "{", '{"real": 3}', '{"fd_classifier": "low"}', '{"per_class": {"cat": 1}}',
                     '{"per_class": {"cat": {"judged": {"cat": "many"}}}}', '{"about": {"checkpoint": "best"}}',
                     '{"intervals": {"fd_classifier": [1]}}', "[" * 100_000],
    "utility.json": ["[]", '{"verdict": "helps"}', json.dumps(UTILITY | {"verdict": "perhaps"}),
                     json.dumps(UTILITY | {"arms": {"real": ARM}}), json.dumps(UTILITY | {"interval": [1]}),
                     json.dumps(UTILITY | {"baseline": "both"})],
    "environment.json": ["[]", "{}", json.dumps(ENVIRONMENT | {"data": None}),
                         json.dumps(ENVIRONMENT | {"threads": "two"}), json.dumps(ENVIRONMENT | {"resumed": [1]})],
    "recipe.yaml": ["[]", "a: [", "\x00", "name: digits-acgan\ngenerator: 3\n"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "content"), [(name, one) for name, many in DAMAGES.items() for one in many])
def test_damaged_files_are_told_in_a_line(tmp_path, name, content):
    directory = a_run(tmp_path / "run", metrics=METRICS, environment=ENVIRONMENT, utility=UTILITY)
    (directory / name).write_text(content)
    with pytest.raises(UserError) as error:
        write_report(directory)
    assert "\n" not in str(error.value)
    assert not (directory / "report.html").exists()


def test_lines_of_a_log_that_say_nothing_are_left_out(tmp_path):
    directory = a_run(tmp_path / "run")
    whole = {"images": 10, "seconds": 1.0, "images_per_second": 10.0, "D/adv": 1.0}
    odd = ["null", "[1]", "{}", '{"images": 5}', '{"images": "5", "seconds": 1}', '{"images": 5, "seconds": null}',
           '{"images": 1e400, "seconds": 1}', '{"images": 5, "seconds": NaN}', "[" * 100_000,
           "x" * 3_000_000]  # fmt: skip
    log(directory, [whole])
    expected = write_report(directory).read_text()
    (directory / "log.jsonl").write_bytes(b"\xff\n" + "\n".join([*odd, json.dumps(whole), ""]).encode())
    assert write_report(directory).read_text() == expected
    log(directory, [whole, whole | {"images": 20, "D/adv": float("nan"), "G/adv": float("inf")}])
    assert "20 images seen" in write_report(directory).read_text()


def test_pictures_that_would_fill_the_memory_are_told_in_a_line(tmp_path):
    directory = a_run(tmp_path / "run")
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", len(header) - 4) + header + struct.pack(">I", zlib.crc32(header))
    (directory / "sheet.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(UserError, match=r"sheet\.png' is no whole picture \(.*\): make it anew, or remove it"):
        write_report(directory)
    (directory / "sheet.png").unlink()
    os.mkfifo(directory / "sheet.png")
    with pytest.raises(OSError, match="Not a plain file"):
        write_report(directory)
