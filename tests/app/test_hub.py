"""Models on the Hub: what is pushed comes back to the bit, and whatever is refused is one line."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import markdown
import numpy as np
import pytest
from huggingface_hub import ModelCard, constants, metadata_eval_result
from hypothesis import given
from hypothesis import strategies as st

import condgan as package
from condgan import hub as hub_module
from condgan.app.export import card
from condgan.app.export.push import pull, push
from condgan.app.export.write import export
from condgan.hub import HubName, hub_name, upload_model
from condgan.labels import LabelSpec
from condgan.recipes.load import load
from condgan.runs.directory import on_hub
from condgan.runs.schemas import DataRecord
from condgan.utils.errors import UserError, shown
from tests.app.test_export import BOTH, FRUIT, files, untrained
from tests.conftest import ROOT, write_image
from tests.helpers import condgan, refused
from tests.hub import Refusal, Repository, StandIn

METRICS: dict[str, Any] = {
    "coverage": 0.5,
    "fd_classifier": 7.25,
    "real": {"coverage": 0.9},
    "about": {
        "checkpoint": "16", "extractor": "classifier", "extractor_sha256": "0" * 64, "fakes": 60, "real": 50,
        "split": "held-out", "reference": "/home/me/secret/photos",
    },
    "verdict": ["Some kinds of pictures are missing (coverage 0.50 of 0.90)."],
}  # fmt: skip
EMA, STATE = "checkpoints/16/ema.safetensors", "checkpoints/16/state.json"
HOSTILE = (
    "</td><script>alert(1)</script>", "a | b", "![x](http://evil.example/x.png)", "x\n---\nlicense: none\n---\n", "`c`",
    "<img src=x onerror=alert(1)>", "[y](javascript:alert(1))", "www.evil.example", "{{ 7 * 7 }}", "1. one", "\x1b[31m",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, and with `model`, which is what is pushed of it."""
    place = tmp_path_factory.mktemp("made")
    run = untrained(place / "run", "digits-acgan", FRUIT)
    (run / "metrics.json").write_text(json.dumps(METRICS))
    export(run, place / "model")
    text = card.model_card(place / "model", load(run / "recipe.yaml"), None, "alice/fruit", "mit")
    (place / "model" / "README.md").write_text(text)
    return place


@pytest.fixture
def run(made: Path) -> Path:
    return Path(shutil.copytree(made / "run", "run"))


@pytest.fixture
def model(made: Path) -> dict[str, Path]:
    """The files of a model by their names in a repository."""
    return {name: made / "model" / name for name in files(str(made / "model"))}


@pytest.fixture
def pushed(model: dict[str, Path], hub: StandIn) -> Repository:
    return hub.new("alice/fruit", {name: path.read_bytes() for name, path in model.items()})


# ---- there and back


def test_a_pushed_model_comes_back_to_the_bit(run: Path, hub: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    done = condgan(capsys, "push", run, "alice/fruit", "--license", "mit")
    assert done.code == 0, done.err
    assert (
        done.out == f"pushed to {hub.endpoint}/alice/fruit; others use it with: condgan sample alice/fruit --out DIR\n"
    )
    head = hub.repositories["alice/fruit"].head
    assert {*head.files} == {".gitattributes", "README.md", "metrics.json", "recipe.yaml", "sheet.png", EMA, STATE}
    assert not any(b"secret" in data for data in head.files.values())
    expected = package.load(run).sample(per_class=2)
    shutil.rmtree(run)
    done = condgan(capsys, "pull", "alice/fruit")
    assert done.code == 0, done.err
    assert done.out == "wrote runs/fruit; use it with: condgan sample runs/fruit --out DIR\n"
    assert files("runs/fruit") == {*head.files} - {".gitattributes"}
    for source in ("runs/fruit", "alice/fruit", f"alice/fruit@{head.sha}"):
        assert (package.load(source).sample(per_class=2) == expected).all()
    assert condgan(capsys, "sample", "alice/fruit", "--per-class", 2, "--out", "x.npz").code == 0
    assert (np.load("x.npz")["x"].reshape(expected.shape) == expected).all()
    assert condgan(capsys, "export", "alice/fruit", "--out", "again").code == 0
    assert package.Run("alice/fruit").results == METRICS | {"about": METRICS["about"] | {"reference": "photos"}}
    refused(condgan(capsys, "evaluate", "alice/fruit"), "has no data of its own: expected --data PATH")


def test_a_translator_comes_back_without_images_of_the_data(hub: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    star = untrained(Path("star"), "digits-stargan", BOTH)
    (star / "LICENSE").write_text("Do what you like.\n")
    done = condgan(capsys, "push", star, "alice/star", "--license", "other")
    assert done.out.endswith("others use it with: condgan translate alice/star IMAGE --every-domain --out DIR\n")
    held = hub.repositories["alice/star"].head.files
    assert {*held} == {
        ".gitattributes", "README.md", "LICENSE", "recipe.yaml", EMA, STATE, "checkpoints/16/discriminator.safetensors",
    }  # fmt: skip
    about = ModelCard(held["README.md"].decode())
    assert about.data.to_dict()["pipeline_tag"] == "image-to-image"
    assert "sheet.png" not in about.text
    assert 'condgan.load_translator("alice/star")' in about.text
    write_image(Path("a.png"))
    found, expected = (package.load_translator(one).every_domain("a.png")[0] for one in ("alice/star", star))
    assert {name: image.tobytes() for name, image in found.items()} == {
        name: image.tobytes() for name, image in expected.items()
    }
    assert "condgan translate runs/star IMAGE --every-domain" in condgan(capsys, "pull", "alice/star").out
    assert condgan(capsys, "translate", "alice/star", "a.png", "--every-domain", "--out", "strips").code == 0


def test_a_process_of_its_own_asks_where_the_environment_says(pushed: Repository, hub: StandIn) -> None:
    environment = os.environ | {
        "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": "cache", "HF_TOKEN": "hf_alice",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    script = "from condgan.runs.directory import run_directory; print(run_directory('alice/fruit'))"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip(), EMA).read_bytes() == pushed.head.files[EMA]
    assert Path("cache").is_dir()


# ---- one commit


def test_a_push_is_one_commit_that_replaces_the_model_alone(pushed: Repository, run: Path) -> None:
    first = pushed.head
    push(run, "alice/fruit", "mit")
    assert pushed.commits == [first], "nothing had changed"
    pushed.commit(first.files | {"notes.txt": b"mine", "LICENSE": b"mine"})
    Path("run/checkpoints/16").rename("run/checkpoints/32")
    state = Path("run/checkpoints/32/state.json")
    state.write_text(json.dumps(json.loads(state.read_text()) | {"images": 32}))
    push(run, "alice/fruit", "apache-2.0")
    assert len(pushed.commits) == 3
    assert {*pushed.head.files} == {
        ".gitattributes", "notes.txt", "LICENSE", "README.md", "recipe.yaml", "sheet.png", EMA.replace("16", "32"),
        STATE.replace("16", "32"),
    }  # fmt: skip
    assert pushed.head.files["LICENSE"] == b"mine"
    Path("run/LICENSE").write_text("ours")
    push(run, "alice/fruit", "apache-2.0")
    assert pushed.head.files["LICENSE"] == b"ours"
    assert package.load("alice/fruit").images == 32
    assert package.load(f"alice/fruit@{first.sha}").images == 16
    pushed.tags["v1"] = first.sha
    assert package.load("alice/fruit@v1").images == 16


def test_an_upload_that_ends_early_changes_nothing(
    pushed: Repository, model: dict[str, Path], hub: StandIn, tmp_path: Path
) -> None:
    before = pushed.head
    model["LICENSE"] = tmp_path / "LICENSE"
    model["LICENSE"].write_text("Do what you like.\n")

    def full() -> None:
        raise Refusal(500, "disk full")

    hub.before_commit = full
    with pytest.raises(UserError, match=r"^the Hub answers 500 of 'alice/fruit' \(.*disk full.*\): try again later$"):
        upload_model("alice/fruit", model, "more")
    assert pushed.head is before
    hub.before_commit = lambda: [pushed.commit(before.files)]
    with pytest.raises(UserError, match=r"^'alice/fruit' was changed meanwhile: push again$"):
        upload_model("alice/fruit", model, "more")
    assert pushed.head.files == before.files
    hub.before_commit = lambda: None
    upload_model("alice/fruit", model, "more")
    assert {*pushed.head.files} - {*before.files} == {"LICENSE"}


# ---- the card


def test_the_card_tells_numbers_with_how_they_were_measured(pushed: Repository, hub: StandIn) -> None:
    about = ModelCard(pushed.head.files["README.md"].decode())
    data = about.data.to_dict()
    assert data["license"] == "mit"
    assert data["library_name"] == "condgan"
    assert data["pipeline_tag"] == "unconditional-image-generation"
    assert {"gan", "condgan", "acgan"} == {*data["tags"]}
    assert ModelCard(str(about)).data.to_dict() == data
    coverage, distance = about.data.eval_results or []
    assert (coverage.metric_type, coverage.metric_value, coverage.dataset_split) == ("coverage", 0.5, "held-out")
    assert distance.metric_value == 7.25
    assert coverage.metric_args == {
        "extractor": "classifier", "extractor_sha256": "0" * 64, "n": 60, "n_real": 50, "split": "held-out",
        "checkpoint": "16", "real_images": 0.9,
    }  # fmt: skip
    alone = metadata_eval_result(
        model_pretty_name="fruit", task_pretty_name="", task_id="unconditional-image-generation",
        metrics_pretty_name="Coverage", metrics_id="coverage", metrics_value=0.5, dataset_pretty_name="photos",
        dataset_id="photos", dataset_split="held-out",
    )["model-index"][0]  # fmt: skip
    (index,) = data["model-index"]
    assert index["name"] == alone["name"]
    assert index["results"][0]["dataset"].items() <= alone["results"][0]["dataset"].items()
    assert {"type", "name", "value"} <= index["results"][0]["metrics"][0].keys()
    assert "![Generated images, a column per class](sheet.png)" in about.text
    assert "apple, banana, cherry" in about.text
    assert "In short: Some kinds of pictures are missing (coverage 0.50 of 0.90).\n" in about.text
    assert "| Coverage (↑ higher is better) | 50.0% | 90.0% |" in about.text


def test_no_text_of_others_breaks_the_card() -> None:
    name = f"/home/me/secret/{HOSTILE[0].replace('/', '')}"
    given = [f"description={json.dumps(' '.join(HOSTILE))}", f"data.source={json.dumps(name)}"]
    made = untrained(Path("hostile"), "digits-acgan", LabelSpec.of_classes(HOSTILE), *given)
    (made / "metrics.json").write_text(
        json.dumps(METRICS | {"verdict": [*HOSTILE], "about": {**METRICS["about"], "reference": name}})
    )
    export(made, "out")
    record = DataRecord(sha256="", train=10, held_out=2, classes=[*HOSTILE], skipped=[])
    text = card.model_card(Path("out"), load(made / "recipe.yaml"), record, "alice/x", "mit")
    about = ModelCard(text)
    assert about.data.to_dict()["license"] == "mit"
    assert about.text.lstrip().startswith("# digits-acgan\n")
    assert "secret" not in text
    page = markdown.markdown(about.text, extensions=["tables", "fenced_code"])
    assert {*re.findall(r"</?(\w+)", page)} <= {
        "h1", "h2", "p", "img", "ul", "li", "pre", "code", "table", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["sheet.png"]
    for one in HOSTILE:
        assert shown(one) in html.unescape(page)


@given(st.text(max_size=40))
def test_literal_texts_are_shown_letter_by_letter(text: str) -> None:
    page = markdown.markdown(f"It says {card.literal(text)} here.", extensions=["tables"])
    assert re.findall(r"<[^>]*>", page) == ["<p>", "</p>"]
    assert html.unescape(page) == f"<p>It says {shown(text, 2_000)} here.</p>"


def test_the_card_says_what_is_known_alone(hub: StandIn) -> None:
    made = untrained(Path("bare"), "digits-acgan", FRUIT)
    state = made / STATE
    state.write_text(json.dumps(json.loads(state.read_text()) | {"iteration": 0}))
    push(made, "alice/bare", "mit")
    text = hub.repositories["alice/bare"].head.files["README.md"].decode()
    assert "model-index" not in text
    assert "It was not evaluated" in text
    assert "It learned from photos.\n" in text
    assert "after 16 images" not in text, "nobody trained it here"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"iteration": 2}))
    push(made, "alice/bare", "mit")
    assert "after 16 images" in hub.repositories["alice/bare"].head.files["README.md"].decode()
    package.Run("alice/bare")
    push("alice/bare", "alice/again", "mit")
    assert "Not told.\n" in hub.repositories["alice/again"].head.files["README.md"].decode()


# ---- names


def test_a_path_that_is_there_wins(run: Path, pushed: Repository, hub: StandIn) -> None:
    hub.asked.clear()
    shutil.copytree(run, "alice/fruit")
    assert package.load("alice/fruit").images == 16
    assert on_hub("alice/other") is None, "the folder alice is here"
    with pytest.raises(UserError, match=r"^'alice/other' is no run directory"):
        package.load("alice/other")
    with pytest.raises(UserError, match=r"^'bob/fruit' is no run directory"):
        package.load(Path("bob/fruit"))
    with pytest.raises(UserError, match=r"^'runs/fruit' is no run directory"):
        package.load("runs/fruit")
    assert hub.asked == []
    assert on_hub("bob/fruit@v1") == HubName("bob/fruit", "v1")


@pytest.mark.parametrize(
    "text", ["digits", "a/b/c", "/a/b", "./a/b", "../a", "a/..", "a/b@", "a/b@../x", "a /b", "~/b", "", "a/b\n", "a/é"]
)
def test_what_cannot_be_a_name_is_a_path(text: str) -> None:
    assert hub_name(text) is None


def test_names_have_revisions() -> None:
    assert hub_name("a/b") == HubName("a/b")
    assert hub_name("a-1/b.c_d@refs/pr/1") == HubName("a-1/b.c_d", "refs/pr/1")
    assert str(HubName("a/b", "v1")) == "a/b@v1"


# ---- what is downloaded


def test_only_files_of_a_model_are_downloaded(pushed: Repository, hub: StandIn) -> None:
    others = ("evil.pkl", "checkpoints/16/optimizers.pt", "checkpoints/16/generator.safetensors", "condgan.py")
    pushed.commit(pushed.head.files | dict.fromkeys(others, b"evil"))
    pull("alice/fruit", "here")
    assert files("here") == {"README.md", "metrics.json", "recipe.yaml", "sheet.png", EMA, STATE}
    assert not any(path.endswith(others) for _, path, _ in hub.asked)


def test_what_is_no_model_or_too_large_is_not_downloaded(
    pushed: Repository, hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.asked.clear()
    hub.new("alice/text", {"model.bin": b"1"})
    hub.new("alice/deep", pushed.head.files | {"checkpoints/../../x/checkpoints/1/state.json": b"{}"})
    for name in ("alice/text", "alice/deep"):
        with pytest.raises(UserError, match=rf"^'{name}' is no model of condgan, it has no recipe.yaml and weights"):
            pull(name, "here")
    hub.new("alice/many", pushed.head.files | {f"checkpoints/{n}/state.json": b"{}" for n in range(100)})
    with pytest.raises(UserError, match=r"^'alice/many' is not downloaded \(it has 105 files, more than 100\)"):
        pull("alice/many", "here")
    monkeypatch.setitem(hub_module.LIMITS, "recipe.yaml", 10)
    with pytest.raises(UserError, match=r"^'alice/fruit' is not downloaded \(recipe.yaml has [\d,]+ bytes, more than"):
        pull("alice/fruit", "here")
    assert not any("/resolve/" in path for _, path, _ in hub.asked)
    assert not Path("here").exists()


def test_weights_larger_than_their_networks_are_not_downloaded(
    pushed: Repository, hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.asked.clear()
    pushed.commit(pushed.head.files | {EMA: pushed.head.files[EMA] + bytes(9_000)})
    monkeypatch.setattr("condgan.utils.weights.SLACK", 9_000)
    with pytest.raises(
        UserError, match=rf"^'alice/fruit' is not downloaded \({EMA} has [\d,]+ bytes, more than [\d,]+\)"
    ):
        pull("alice/fruit", "here")
    other = EMA.replace("16", "17")
    pushed.commit(pushed.commits[0].files | {other: b"x"})
    with pytest.raises(UserError, match=rf"^'alice/fruit' is not downloaded \({other} has 1 bytes, more than 0\)"):
        pull("alice/fruit", "here")
    assert not any(path.endswith(".safetensors") for _, path, _ in hub.asked)
    assert not Path("here").exists()


def test_what_is_downloaded_is_of_one_commit(pushed: Repository, hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    first, listing = pushed.head, hub_module._listing
    monkeypatch.setattr(
        hub_module,
        "_listing",
        lambda name: (listing(name), pushed.commit(first.files | {"recipe.yaml": b"evil: 1"}))[0],
    )
    with pytest.raises(UserError, match=r"^'alice/fruit' was changed meanwhile: repeat it$"):
        pull("alice/fruit", "here")
    assert not [*Path("cache").rglob("refs/main")], "without a network, no part of the new commit is taken for it"
    pull(f"alice/fruit@{first.sha}", "here")
    assert Path("here/recipe.yaml").read_bytes() == first.files["recipe.yaml"]


def test_a_damaged_model_is_not_pulled(pushed: Repository) -> None:
    pushed.commit(pushed.head.files | {EMA: pushed.head.files[EMA][:-1] + b"x"})
    with pytest.raises(UserError, match=r"^'alice/fruit' cannot be used \(all .*ema.safetensors does not match its"):
        pull("alice/fruit", "here")
    assert not Path("here").exists()


def test_a_download_that_breaks_off_goes_on(pushed: Repository, hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cuts["*/resolve/*/ema.safetensors"] = 1
    pull("alice/fruit", "here")
    assert Path("here", EMA).read_bytes() == pushed.head.files[EMA]
    ranges = [asked for method, path, asked in hub.asked if method == "GET" and path.endswith("ema.safetensors")]
    assert ranges == ["", f"bytes={len(pushed.head.files[EMA]) // 2 // 1000}000-"]


def test_without_a_network_the_cache_is_enough(
    pushed: Repository, hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = package.load("alice/fruit").sample(per_class=1)
    hub.new("bob/fruit", pushed.head.files)
    not_there = r"^'bob/fruit' is no path here, http.* cannot be reached, and the Hub's cache does not hold it"
    for name, value in (("HF_HUB_OFFLINE", True), ("ENDPOINT", "http://127.0.0.1:9")):
        with monkeypatch.context() as gone, warnings.catch_warnings(record=True) as said:
            gone.setattr(constants, name, value)
            assert (package.load("alice/fruit").sample(per_class=1) == expected).all()
            with pytest.raises(UserError, match=not_there):
                package.load("bob/fruit")
        noted = "http://127.0.0.1:9 cannot be reached: 'alice/fruit' is taken from the Hub's cache"
        assert [str(one.message) for one in said] == ([noted] if name == "ENDPOINT" else [])


# ---- what is refused


def test_what_the_hub_refuses_is_one_line(
    run: Path, pushed: Repository, hub: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.new("bob/gated", pushed.head.files).gated = True
    hub.new("alice/other", {"config.json": b"{}"})
    hub.new("bob/fruit", pushed.head.files)
    Path("there").mkdir()
    license = ["--license", "mit"]
    for command, *said in (
        (["push", run, "alice/x"], "missing option '--license'"),
        (["push", "nowhere", "alice/x", *license], "'nowhere' is no run directory"),
        (["push", run, "digits", *license], "'digits' given: expected OWNER/NAME"),
        (["push", run, "alice/x@v1", *license], "expected OWNER/NAME, since what is pushed becomes its main branch"),
        (["push", run, "alice/x", *license, "--checkpoint", "7"], "has no checkpoint 7: it has 16"),
        (["pull", "digits"], "'digits' given: expected OWNER/NAME on the Hub"),
        (["pull", "alice/none"], f"'alice/none' is no path here and no model on {hub.endpoint}, or a private one"),
        (["pull", "alice/fruit@v9"], "'alice/fruit@v9' has no revision 'v9': give a branch, tag or commit"),
        (["pull", "bob/gated"], f"'bob/gated' is gated: ask for access at {hub.endpoint}/bob/gated"),
        (["pull", "alice/other"], "'alice/other' is no model of condgan"),
        (["pull", "alice/fruit", "--out", "there"], "'there' is there already: give a new folder with --out"),
        (["pull", "alice/fruit", "--out", "run/samples"], "which belongs to run"),
        (["sample", "alice/none", "--out", "x"], "'alice/none' is no path here and no model on"),
        (["sample", "alice/none"], "missing option '--out'"),
        (["evaluate", "alice/none"], "'alice/none' is no path here and no model on"),
    ):
        refused(condgan(capsys, *command), *said)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused(condgan(capsys, "pull", "alice/fruit"), "the Hub refuses the token: `hf auth login` anew")
    monkeypatch.setenv("HF_TOKEN", "")
    refused(condgan(capsys, "pull", "alice/none"), "'alice/none' is no path here and no model on")
    monkeypatch.setattr(hub_module, "find_spec", lambda _name: None)
    refused(condgan(capsys, "pull", "alice/fruit"), "huggingface_hub is not installed: cd ", "-e '.[hub]'")
    assert os.listdir("there") == []


def test_what_the_hub_refuses_of_a_push_is_one_line(
    run: Path, model: dict[str, Path], hub: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.new("alice/other", {"config.json": b"{}"})
    hub.new("bob/fruit")
    done = condgan(capsys, "push", run, "alice/x", "--license", "mine")
    refused(done, "the Hub refuses the model's card (", '"license" must be one of', "give another --license")
    for token, name, said in (
        ("hf_alice", "alice/x--y", "'alice/x--y' cannot be a repository's name"),
        ("hf_alice", "alice/other", "which holds something else, such as 'config.json': give another"),
        ("hf_alice", "bob/fruit", "the token may not do that with 'bob/fruit'"),
        ("hf_alice", "bob/new", "the token may not do that with 'bob/new'"),
        ("hf_reader", "alice/x", "the token may not do that with 'alice/x'"),
        ("hf_wrong", "alice/x", "the Hub refuses the token: `hf auth login` anew, or correct HF_TOKEN"),
        ("", "alice/x", "'alice/x' to push to, and no token of the Hub: `hf auth login` once, or set HF_TOKEN"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(UserError, match=re.escape(said)):
            upload_model(name, model, "more")
    assert {*hub.repositories} == {"alice/other", "bob/fruit"}
    assert {*hub.repositories["alice/other"].head.files} == {".gitattributes", "config.json"}
