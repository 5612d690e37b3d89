"""What the page makes of a translator is what `Translator` makes; pictures come in as data do."""

import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from condgan.app.web import translators
from condgan.app.web.translators import (
    NONE,
    Answer,
    ChosenPicture,
    answers,
    by_checkpoint,
    changes_to,
    held_out_few,
    held_out_source,
    in_every_domain,
    picture_of,
    questions,
    translated,
    translations_zip,
    uploaded,
)
from condgan.data.dataset import Split
from condgan.labels import Field, Labels, LabelSpec, LabelTable
from condgan.sampling.translator import Translator
from condgan.utils.errors import UserError
from condgan.utils.figures import channels_last
from tests.arguments import translator
from tests.conftest import write_image

INKS = ("Red_Ink", "Green_Ink", "Blue_Ink")
SPEC = LabelSpec(
    (Field("attributes", (*INKS, "Bold", "Dark"), False, (INKS,)), Field("class", ("apple", "banana", "cherry")))
)
RUN, WHICH = Path("run"), "0"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Translator:
    """An untrained translator, which is the run's, with four held-out images."""
    model = translator()
    images = torch.randint(0, 256, (4, *model.shape), dtype=torch.uint8)
    values = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], dtype=torch.float32)
    split = Split(images, LabelTable.of(Labels(model.spec, values, torch.ones(4, 1, dtype=torch.bool))))
    monkeypatch.setattr(translators, "translator_of", lambda _run, _which: model)
    monkeypatch.setattr(translators, "held_out_of", lambda _run: split)
    monkeypatch.setattr(translators, "most_images", lambda _run: 64)
    translators._translations.cache_clear()
    return model


def labels(values: list[int]) -> Labels:
    return Labels(SPEC, torch.tensor([values], dtype=torch.float32), torch.ones(1, 2, dtype=torch.bool))


def test_questions_are_those_of_the_vocabulary() -> None:
    inks, alone, classes = questions(SPEC)
    assert (inks.choices, inks.one) == ([*INKS, NONE], True)
    assert (alone.choices, alone.one) == (["Bold", "Dark"], False)
    assert (classes.choices, classes.one) == (["apple", "banana", "cherry"], True)
    assert answers(labels([0, 1, 0, 0, 1, 0, 0, 1])) == ["Green_Ink", ["Dark"], "cherry"]
    assert answers(labels([0, 0, 0, 0, 0, 1, 0, 0])) == [NONE, [], "apple"]


wanted = st.tuples(
    st.sampled_from([*INKS, NONE]), st.lists(st.sampled_from(["Bold", "Dark"]), unique=True).map(sorted),
    st.sampled_from(["apple", "banana", "cherry"]),
)  # fmt: skip


def as_labels(chosen: tuple[str, list[str], str]) -> Labels:
    names = {chosen[0], *chosen[1], chosen[2]}
    return labels([int(name in names) for field in SPEC.fields for name in field.values])


@given(before=wanted, after=wanted)
def test_changes_lead_to_what_is_wanted(before: tuple[str, list[str], str], after: tuple[str, list[str], str]) -> None:
    now = as_labels(before)
    if before == after:
        with pytest.raises(UserError, match="has already"):
            changes_to(now, after)
        return
    changes = changes_to(now, after)
    held = {name for name in (before[0], *before[1], before[2]) if name != NONE}
    for name, on in changes.items():
        value = name.partition(".")[2]
        assert on != (value in held)
        if on:  # the others of its unit go
            unit = next((set(one.names) for one in questions(SPEC) if one.one and value in one.names), {value})
            held = (held - unit) | {value}
        else:
            held = held - {value}
    assert held == {name for name in (after[0], *after[1], after[2]) if name != NONE}


def test_translations_are_those_of_the_translator(model: Translator) -> None:
    source = held_out_source(RUN, WHICH, 0)
    assert answers(source.labels) == ["Red_Ink", ["Dark_Paper"]]
    every = in_every_domain(RUN, source)
    assert [*every] == model.domains
    expected = model.to_every_domain(source.image, source.labels)[0]
    assert np.array_equal(np.stack([*every.values()]), channels_last(expected))
    blue = translated(RUN, source, ["Blue_Ink", []])
    changed = model.apply(source.image, {"Blue_Ink": True, "Dark_Paper": False}, source.labels).images
    assert np.array_equal(blue, channels_last(changed)[0])
    archive = zipfile.ZipFile(io.BytesIO(translations_zip(RUN, source)))
    assert json.loads(archive.read("made-of.json"))["images"] == archive.namelist()[:-1]
    for name, image in {"input": picture_of(source), **every}.items():
        assert np.array_equal(np.asarray(Image.open(archive.open(f"{name}.png"))), image)
    assert np.array_equal(held_out_few(RUN, 2)[1], picture_of(held_out_source(RUN, WHICH, 1)))


def test_another_checkpoint_reads_a_picture_itself(
    model: Translator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(path := tmp_path / "mine.png", 90)
    sources = uploaded(RUN, WHICH, path), held_out_source(RUN, WHICH, 0)
    read = Labels(model.spec, 1 - sources[0].labels.values, sources[0].labels.known)
    monkeypatch.setattr(Translator, "read", lambda *_given: read)
    mine, known = (by_checkpoint(RUN, one, "1") for one in sources)
    assert (mine.which, known.which) == ("1", "1")
    assert torch.equal(mine.labels.values, read.values)
    assert torch.equal(mine.image, sources[0].image)
    assert torch.equal(known.labels.values, sources[1].labels.values), "of the data, nothing is to be read"


def test_no_more_domains_than_are_shown_are_made_and_each_once(
    model: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, generate = [], Translator.generate
    monkeypatch.setattr(Translator, "generate", lambda *given: (made.append(given), generate(*given))[1])
    monkeypatch.setattr(translators, "most_images", lambda _run: 2)
    sources = [held_out_source(RUN, WHICH, number) for number in (0, 1, 0)]
    for source in sources:
        assert [*in_every_domain(RUN, source)] == model.domains[:2]
    assert len(made) == 4
    in_every_domain(RUN, sources[0]._replace(which="1"))
    assert len(made) == 6, "by another checkpoint they are others"


def test_uploads_are_decoded_as_data_are(model: Translator, tmp_path: Path) -> None:
    write_image(path := tmp_path / "mine.png", 90, (40, 30), "RGBA")
    source = uploaded(RUN, WHICH, path)
    assert torch.equal(source.image, model.pixels(path))
    assert source.note.startswith("resized 1 image of 40×30")
    assert torch.equal(source.labels.values, model.read(source.image).values)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n damaged"])
def test_what_is_no_picture_is_refused(model: Translator, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "<b>.png").write_bytes(content)
    with pytest.raises(UserError, match=r"'<b>.png' is unreadable \(.*\): give a picture"):
        uploaded(RUN, WHICH, tmp_path / "<b>.png")


def test_pictures_of_many_pixels_are_refused(
    model: Translator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condgan.data.preprocessing.DECODED", 40 * 30)
    write_image(path := tmp_path / "large.png", 90, (40, 30))
    with pytest.raises(UserError, match="'large.png' is unreadable .*40 × 30 pixels"):
        uploaded(RUN, WHICH, path)


@pytest.mark.parametrize("number", [4, -1, "x", None])
def test_held_out_images_that_there_are_not(model: Translator, number: object) -> None:
    with pytest.raises(UserError, match="held-out image"):
        held_out_source(RUN, WHICH, number)


def test_threads_get_their_own_translations(model: Translator) -> None:
    def ask(number: int) -> tuple[ChosenPicture, np.ndarray]:
        source = held_out_source(RUN, WHICH, number % 4)
        wanted: list[Answer] = ["Blue_Ink" if number % 4 < 2 else "Red_Ink", []]
        return source, translated(RUN, source, wanted)

    alone = [ask(number)[1] for number in range(4)]
    with ThreadPoolExecutor(8) as pool:
        for number, (_, image) in enumerate(pool.map(ask, range(32))):
            assert np.array_equal(image, alone[number % 4])
