"""The page's layout on Gradio: which control calls which action. What actions do is told in the modules beside."""

import base64
import functools
import threading
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr  # pyright: ignore[reportMissingImports] - an extra
from gradio.exceptions import ServerFailedToStartError  # pyright: ignore[reportMissingImports]

from condgan.app.web import generators, markup, progress, served, translators
from condgan.app.web.port import require_free
from condgan.sampling.options import Sampling
from condgan.utils.arguments import whole
from condgan.utils.device import lacks_memory
from condgan.utils.errors import UserError, shown
from condgan.utils.figures import spread
from condgan.utils.files import different

UPLOAD = "32mb"
"""The largest file that is taken."""
WAITING, AT_ONCE = 64, 2
"""How many requests wait at most, and how many make images at once."""
SESSIONS = 128
"""Open pages of which is known what they show, up to some 20 MB each; of the oldest it is forgotten."""
KEPT_SECONDS = 600
"""How long uploaded files are kept."""
REFRESH_SECONDS = 5
FEW_CLASSES, MIXED = 12, 6
"""Classes up to which all are shown as boxes to tick; classes in a mixture at most."""
EQUAL_SHARE = 0.5
"""Of each class, until somebody changes it."""
FIRST_IMAGES, HELD_OUT = 24, 24
"""Images that are shown at first, and held-out ones to choose from."""
SIDE_BY_SIDE, MIXTURE = "each for itself", "mixed with each other"
SAVE = """zip => {
  const link = document.createElement('a');
  link.href = 'data:application/zip;base64,' + zip.data;
  link.download = zip.name;
  link.click();
}"""
"""Saves what the server made, without a file there."""
HEAVY: dict[str, Any] = {"concurrency_id": "images", "concurrency_limit": AT_ONCE, "api_visibility": "private"}
LIGHT: dict[str, Any] = {"concurrency_id": "texts", "concurrency_limit": AT_ONCE, "api_visibility": "private"}
DRAWN: dict[str, Any] = {"concurrency_id": "reports", "concurrency_limit": 1, "api_visibility": "private"}
"""Reports: one at a time, which nothing else waits for."""


def serve(runs: Sequence[Path], which: str, port: int) -> None:
    """Serve a page of some runs on this machine until Ctrl-C. Raises UserError where it cannot start."""
    blocks = page(runs, which)
    try:
        address = launch(blocks, port)
    except (ServerFailedToStartError, OSError):  # which of them, depends on how far it came
        require_free(port)  # it may have been taken meanwhile
        raise UserError("the page did not start within 5 seconds: try again when this machine has less to do") from None
    except ValueError as error:
        do = "if proxies are set, set no_proxy=127.0.0.1, too"
        raise UserError(f"the page cannot be reached at 127.0.0.1 ({shown(error)}): {do}") from None
    print(f"look at        {address}  (Ctrl-C ends it)", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
    finally:
        blocks.close(verbose=False)


def launch(blocks: gr.Blocks, port: int | None) -> str:
    """Begin to serve a page to this machine alone, and return its address. It asks nobody outside for anything."""
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    _, address, _ = blocks.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE, api_open=False).launch(
        server_name="127.0.0.1", server_port=port, share=False, quiet=True, prevent_thread_lock=True,
        max_file_size=UPLOAD, enable_monitoring=False, run_history=False, ssr_mode=False, pwa=False, mcp_server=False,
        state_session_capacity=SESSIONS, footer_links=[], theme=theme, css=markup.CSS,
    )  # fmt: skip
    return address


def page(runs: Sequence[Path], which: str = "best") -> gr.Blocks:
    """A page with a tab for each run. Raises UserError for a run that cannot be read."""
    names = different([shown(run.resolve().name, 60) for run in runs])
    with gr.Blocks(title="condgan", analytics_enabled=False, delete_cache=(60, KEPT_SECONDS)) as blocks, gr.Tabs():
        tabs, made = [], []
        for run, name in zip(runs, names, strict=True):
            with gr.Tab(name) as tab:
                tabs.append(tab)
                made.append(_run_tabs(run, which))
        timers, watched = [one.timer for one in made], [one.watched for one in made]
        for number, (tab, one) in enumerate(zip(tabs, made, strict=True)):
            if len(made) > 1:
                tab.select(functools.partial(_seen_alone, number), watched, timers, show_progress="hidden", **LIGHT)
            event = tab.select if number else blocks.load
            if (start := one.start) is not None:
                event(start.function, start.inputs, start.outputs, show_progress_on=start.grid, **HEAVY)
    return blocks


def _seen_alone(number: int, *watched: bool) -> list[gr.Timer]:
    """The timers of several runs where one is looked at: its own, if its progress is seen, and no other."""
    return [gr.Timer(active=other == number and seen) for other, seen in enumerate(watched)]


class FirstLook(NamedTuple):
    """What is called when a run's tab is looked at first."""

    function: Callable[..., Any]
    inputs: list[Any]
    outputs: list[Any]
    grid: gr.HTML
    """Where the page says that it works."""


class RunTabs(NamedTuple):
    """What a run's tabs have to do with other runs'."""

    start: FirstLook | None
    """None where nothing can be made yet."""
    timer: gr.Timer
    """By which its progress is read anew."""
    watched: gr.State
    """Whether its progress is what is seen of it."""


def _run_tabs(run: Path, which: str) -> RunTabs:
    """A run's images, where it has any yet, its progress and its report."""
    with gr.Tabs():
        with gr.Tab("Images") as images:
            if served.checkpoint_names(run):
                start = _translator_tab(run, which) if served.translates(run) else _generator_tab(run, which)
            else:
                start = None
                _html(markup.remark("This run has no checkpoint yet: start the page again once it has one."))
        with gr.Tab("Progress") as training:
            bar = _html()
            timer, watched = gr.Timer(REFRESH_SECONDS, active=False), gr.State(False)
        with gr.Tab("Report") as report:
            again = gr.Button("Refresh", size="sm")
            frame = _html()

    @_told
    def look() -> tuple[str, gr.Timer, bool]:
        return markup.progress_bar(progress.run_progress(run)), gr.Timer(active=True), True

    @_told
    def read() -> str:
        return markup.report_frame(progress.report_of(run))

    training.select(look, None, [bar, timer, watched], **LIGHT)
    timer.tick(lambda: look()[0], None, bar, show_progress="hidden", **LIGHT)
    for other in (images, report):
        other.select(lambda: (gr.Timer(active=False), False), None, [timer, watched], **LIGHT)
    gr.on([report.select, again.click], read, None, frame, **DRAWN)
    return RunTabs(start, timer, watched)


def _generator_tab(run: Path, which: str) -> FirstLook:
    model = served.generator_of(run, Sampling(served.resolved(run, which)))
    many = len(model.classes) > FEW_CLASSES
    first = [model.classes[number] for number in spread(len(model.classes), FEW_CLASSES // 2 if many else FEW_CLASSES)]
    most = generators.most_images(run)
    seen, picks = gr.State(), gr.State([])
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            of_classes: dict[str, Any] = {"value": first, "visible": len(model.classes) > 1}
            if (scale := model.spec.range) is not None:
                ends = f"from {scale.low:.4g} to {scale.high:.4g}, with commas between; none: ten over the range"
                chosen = gr.Textbox("", label=model.spec.fields[0].name, info=ends)
            elif not model.spec.exclusive:
                chosen = gr.Dropdown(
                    generators.attribute_choices(run, Sampling(served.resolved(run, which))), multiselect=True,
                    value=[], label="What to show (type to find it)",
                    info="The rest is as in training images; none: each attribute.",
                )  # fmt: skip
            elif many:
                chosen = gr.Dropdown(
                    [*model.classes], multiselect=True, label="Classes (type to find one)", **of_classes
                )
            else:
                chosen = gr.CheckboxGroup([*model.classes], label="Classes", **of_classes)
            together = gr.Radio(
                [SIDE_BY_SIDE, MIXTURE],
                value=SIDE_BY_SIDE,
                label="Several classes",
                visible=model.spec.exclusive and len(model.classes) > 1,
            )
            shares = [gr.Slider(0, 1, EQUAL_SHARE, step=0.05, visible=False) for _ in range(MIXED)]
            per_class = gr.Slider(
                1,
                most,
                max(1, min(most, FIRST_IMAGES) // len(first)),
                step=1,
                label="Images of each class, or of the mixture" if model.spec.exclusive else "Images of each",
            )
            seed = gr.Number(0, label="Seed", info="The same seed gives the same images.", precision=0, minimum=0)
            other = gr.Button("Another seed", size="sm")
            truncation = gr.Slider(
                0, 2, 0, step=0.05, label="Truncation", info="Lower is more typical and less varied; 0: none."
            )
            with gr.Accordion("More", open=False):
                standing = gr.Slider(
                    0, generators.MOST_STANDING, 0, step=1, label="Standing statistics",
                    info="Batches over which batch norms' statistics are measured anew; 0: as they were kept.",
                )  # fmt: skip
                checkpoint = _checkpoints(run, which)
            make = gr.Button("Make images", variant="primary")
            with gr.Accordion("Find a picture of yours", open=False):
                upload = gr.File(
                    label="The nearest image in each class", file_types=["image"], type="filepath", height=120
                )
        with gr.Column(scale=2, min_width=300, elem_classes="result"):
            grid = _html(markup.remark("Images come here."), js_on_load=markup.PICKS)
            line = _html()
            save = gr.Button("Download all (zip)", size="sm")
            large = _html(markup.remark("Choose an image to see it large."))
            with gr.Row(equal_height=True):
                distance = gr.Slider(
                    0, 1, 0.3, step=0.05, label="How different", info="0: the same, 1: nothing in common.", scale=2
                )
                like = gr.Button("More like this", scale=1)
            picked = _html(markup.remark("Choose two images to see what lies between them."))
            between = gr.Button("The way between the last two")
            with gr.Accordion("Directions and neighbors", open=False):
                with gr.Row(equal_height=True):
                    direction = gr.Slider(
                        1, generators.most_directions(run, Sampling(served.resolved(run, which))), 1, step=1,
                        label="Direction", info="Those first that move images most.", scale=1,
                    )  # fmt: skip
                    reach = gr.Slider(0.5, 20, 5, step=0.5, label="How far", info="On either side.", scale=1)
                along = gr.Button("Move it along the direction")
                neighbors = gr.Button("What is like it?")
                like_it = _html()
    zipped = gr.JSON(visible=False)
    asked = [chosen, together, seed, per_class, truncation, standing, checkpoint, *shares]
    shows = [seen, grid, line]

    @_told
    def made(
        names: list[str], how: str, seed: Any, count: Any, truncation: float, batches: Any, which: str, *parts: float
    ) -> tuple[generators.Grid, str, str]:
        batches = whole("batches of standing statistics", batches, 0, generators.MOST_STANDING)
        sampling = Sampling(
            served.resolved(run, which), whole("seed", seed), float(truncation) or None, standing=batches or None
        )
        if not model.spec.exclusive:
            asked = generators.asked_from(run, sampling, names)
            return shown_grid(generators.asked_grid(run, sampling, asked, count))
        if how != MIXTURE:
            return shown_grid(generators.sample_grid(run, sampling, names, count))
        if len(names) > MIXED:
            raise UserError(f"{len(names)} classes to mix given: expected at most {MIXED}; take some away")
        return shown_grid(generators.mixture_grid(run, sampling, dict(zip(names, parts, strict=False)), count))

    def shown_grid(made: generators.Grid) -> tuple[generators.Grid, str, str]:
        images = markup.image_buttons(generators.grid_images(made), made.captions)
        return made, images, markup.command(made.about["command"]) if "command" in made.about else ""

    @_told
    def start(seen: generators.Grid | None, *asked: Any) -> Any:
        return (gr.skip(),) * 3 if seen else made(*asked)

    @_told
    def choose(
        seen: generators.Grid | None, picks: list[tuple[Any, generators.Picked]], clicked: gr.EventData
    ) -> tuple[list[Any], str, str, str]:
        seen = _made(seen)
        one = generators.pick(seen, clicked.number)
        image = generators.grid_images(seen)[clicked.number].copy()  # alone, without the grid that it is of
        picks = [*picks[-1:], (image, one)]
        return (
            picks,
            markup.large(image, f"{one.caption}, seed {one.sampling.seed}", one.file.replace("/", "-")),
            markup.picked_images([(image, one.caption) for image, one in picks]),
            "",
        )

    @_told
    def more(picks: list[tuple[Any, generators.Picked]], distance: float) -> tuple[generators.Grid, str, str]:
        return shown_grid(generators.nearby_grid(run, _last(picks), distance))

    @_told
    def way(picks: list[tuple[Any, generators.Picked]]) -> tuple[generators.Grid, str, str]:
        if len(picks) < 2:
            raise UserError("fewer than two images chosen: click on one and then on another")
        return shown_grid(generators.between_grid(run, picks[0][1], picks[1][1]))

    @_told
    def move(picks: list[tuple[Any, generators.Picked]], number: Any, reach: float) -> tuple[generators.Grid, str, str]:
        return shown_grid(generators.along_grid(run, _last(picks), number, reach))

    @_told
    def find(path: str, which: str) -> tuple[generators.Grid, str, str]:
        found, image = generators.inverted_grid(run, served.resolved(run, which), Path(path))
        made, images, _ = shown_grid(found)
        said = markup.remark("Under each image stand its class and its error: root mean square, of pixels of 0 to 255.")
        return made, images, said + markup.figures([image], ["the picture, as the run would see it"])

    @_told
    def like_what(picks: list[tuple[Any, generators.Picked]]) -> str:
        found = generators.alike(run, _last(picks))
        return markup.remark(found.said) + markup.figures(found.images, found.captions)

    @_told
    def all_of_it(seen: generators.Grid | None) -> dict[str, str]:
        return _download(run, generators.grid_zip(_made(seen)))

    def named(names: list[str], how: str, **reset: Any) -> list[gr.Slider]:
        told = [*names[:MIXED], *([""] * (MIXED - len(names)))]
        return [gr.Slider(label=f"Share of {name}", visible=how == MIXTURE and bool(name), **reset) for name in told]

    def of_others(names: list[str], how: str) -> list[gr.Slider]:
        return named(names, how, value=EQUAL_SHARE)

    if model.spec.exclusive:
        chosen.change(of_others, [chosen, together], shares, show_progress="hidden", **LIGHT)
    together.change(named, [chosen, together], shares, show_progress="hidden", **LIGHT)
    on_grid: dict[str, Any] = HEAVY | {"show_progress_on": grid}
    gr.on([make.click, seed.submit], made, asked, shows, **on_grid)
    other.click(lambda seed: (seed or 0) + 1, seed, seed, show_progress="hidden", **LIGHT).then(
        made, asked, shows, **on_grid
    )
    grid.click(choose, [seen, picks], [picks, large, picked, like_it], show_progress="hidden", **HEAVY)
    like.click(more, [picks, distance], shows, **on_grid)
    between.click(way, picks, shows, **on_grid)
    along.click(move, [picks, direction, reach], shows, **on_grid)
    neighbors.click(like_what, picks, like_it, **HEAVY)
    upload.upload(find, [upload, checkpoint], shows, **on_grid)
    _saving(save.click(all_of_it, seen, zipped, **HEAVY), zipped)
    return FirstLook(start, [seen, *asked], shows, grid)


def _translator_tab(run: Path, which: str) -> FirstLook:
    model = served.translator_of(run, served.resolved(run, which))
    asks = translators.questions(model.spec)
    source = gr.State()
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            upload = gr.File(label="A picture of yours", file_types=["image"], type="filepath", height=120)
            with gr.Accordion("Or an image that the run was not trained on"):
                held_out = _html(js_on_load=markup.PICKS)
            controls = [
                gr.Radio(one.choices, label=one.label) if one.one else gr.CheckboxGroup(one.choices, label=one.label)
                for one in asks
            ]
            change = gr.Button("Translate", variant="primary")
            with gr.Accordion("More", open=False):
                checkpoint = _checkpoints(run, which)
        with gr.Column(scale=2, min_width=300, elem_classes="result"):
            about = _html()
            grid = _html(markup.remark("Choose a picture to see it in every domain."), js_on_load=markup.PICKS)
            save = gr.Button("Download all (zip)", size="sm")
            large = _html(markup.remark("Choose one of them to see it beside the picture."))
    zipped = gr.JSON(visible=False)
    shows = [source, about, grid, large, *controls]

    def shown_source(one: translators.ChosenPicture) -> list[Any]:
        every = translators.in_every_domain(run, one)
        images = markup.image_buttons([translators.picture_of(one), *every.values()], ["the picture", *every])
        said = markup.remark(f"{shown(one.name)}{': ' * bool(one.note)}{one.note}")
        first = next(iter(every))
        return [one, said, images, beside(one, every[first], first), *translators.answers(one.labels)]

    def beside(one: translators.ChosenPicture, image: Any, name: str) -> str:
        return markup.remark(f"The picture, and then {name}") + markup.pair(
            translators.picture_of(one), image, f"{one.name.replace('/', '-')}-{name}.png"
        )

    @_told
    def start(source: translators.ChosenPicture | None, which: str) -> list[Any]:
        try:
            split = served.held_out_of(run)
        except UserError as error:
            return [markup.remark(f"They are not here: {error}"), *(gr.skip() for _ in shows)]
        few = translators.held_out_few(run, HELD_OUT)
        shows_first = [gr.skip() for _ in shows] if source else of_held_out(0, which)
        return [
            markup.image_buttons(few, [shown(split.names[i]) if split.names else str(i) for i in range(len(few))]),
            *shows_first,
        ]

    def of_held_out(number: int, which: str) -> list[Any]:
        which = served.resolved(run, which)
        return shown_source(translators.held_out_source(run, which, number))

    @_told
    def of_upload(path: str, which: str) -> list[Any]:
        which = served.resolved(run, which)
        return shown_source(translators.uploaded(run, which, Path(path)))

    @_told
    def choose_held_out(which: str, clicked: gr.EventData) -> list[Any]:
        return of_held_out(clicked.number, which)

    @_told
    def of_checkpoint(source: translators.ChosenPicture | None, which: str) -> list[Any]:
        if source is None:
            return [gr.skip() for _ in shows]
        return shown_source(translators.by_checkpoint(run, source, served.resolved(run, which)))

    @_told
    def choose(source: translators.ChosenPicture | None, clicked: gr.EventData) -> str:
        one = _there(source)
        every = translators.in_every_domain(run, one)
        names = ["the picture", *every]
        number = whole("image", clicked.number, 0, len(every))
        return beside(one, [translators.picture_of(one), *every.values()][number], names[number])

    @_told
    def apply(source: translators.ChosenPicture | None, *wanted: Any) -> str:
        one = _there(source)
        return beside(one, translators.translated(run, one, wanted), "translated")

    @_told
    def all_of_it(source: translators.ChosenPicture | None) -> dict[str, str]:
        return _download(run, translators.translations_zip(run, _there(source)))

    on_grid: dict[str, Any] = HEAVY | {"show_progress_on": grid}
    upload.upload(of_upload, [upload, checkpoint], shows, **on_grid)
    held_out.click(choose_held_out, checkpoint, shows, **on_grid)
    checkpoint.input(of_checkpoint, [source, checkpoint], shows, **on_grid)
    grid.click(choose, source, large, show_progress="hidden", **HEAVY)
    change.click(apply, [source, *controls], large, **HEAVY)
    _saving(save.click(all_of_it, source, zipped, **HEAVY), zipped)
    return FirstLook(start, [source, checkpoint], [held_out, *shows], grid)


def _html(value: str = "", js_on_load: str | None = None) -> gr.HTML:
    """A piece of HTML in our own style alone."""
    return gr.HTML(value, apply_default_css=False, js_on_load=js_on_load)


def _saving(made: Any, zipped: gr.JSON) -> None:
    """Save a zip once it is made, and forget it."""
    made.success(None, zipped, js=SAVE).then(lambda: None, None, zipped, show_progress="hidden", **LIGHT)


def _made(grid: generators.Grid | None) -> generators.Grid:
    if grid is None:
        raise UserError("no images made yet: press Make images first")
    return grid


def _last(picks: Sequence[tuple[Any, generators.Picked]]) -> generators.Picked:
    """The image that was clicked on last."""
    if not picks:
        raise UserError("no image chosen: click on one first")
    return picks[-1][1]


def _there(source: translators.ChosenPicture | None) -> translators.ChosenPicture:
    if source is None:
        raise UserError("no picture given: upload one, or choose a held-out image")
    return source


def _checkpoints(run: Path, which: str) -> gr.Dropdown:
    """A choice of the checkpoints that there are when the page is opened."""
    known = ["best", "latest"]
    box = gr.Dropdown(
        [*dict.fromkeys([*known, which])], value=which, label="Checkpoint", info="best, latest, or after so many images"
    )
    box.focus(
        lambda: gr.Dropdown(choices=[*known, *served.checkpoint_names(run)]), None, box, show_progress="hidden", **LIGHT
    )
    return box


def _download(run: Path, content: bytes) -> dict[str, str]:
    return {"name": f"{run.resolve().name}.zip", "data": base64.b64encode(content).decode()}


def _told(action: Callable[..., Any]) -> Callable[..., Any]:
    """An action whose errors of use become a line on the page."""

    @functools.wraps(action)
    def told(*given: Any) -> Any:
        try:
            return action(*given)
        except UserError as error:
            said = str(error)
        except OSError as error:
            said = f"{error.strerror or error}: {error.filename}"
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not lacks_memory(error):
                raise
            said = "not enough memory: ask for fewer images"
        raise gr.Error(escape(shown(said, 600)), title="", print_exception=False)

    return told
