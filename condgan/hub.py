"""Models on the Hugging Face Hub: their names, what is downloaded of them, and commits to them."""

import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from condgan.utils.errors import UserError, shown, to_install
from condgan.utils.limits import ENCODED, TABLE, TEXT, WEIGHTS, TooLarge, require_at_most

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelCard
    from huggingface_hub.hf_api import ModelInfo

RECIPE_FILE = "recipe.yaml"
CARD = "README.md"
LICENSE = "LICENSE"
WEIGHTS_FILES = "checkpoints/*/ema.safetensors"
LIMITS = {
    RECIPE_FILE: TEXT,
    CARD: TEXT,
    LICENSE: TEXT,
    "metrics.json": TABLE,
    "sheet.png": ENCODED,
    "checkpoints/*/state.json": TABLE,
    WEIGHTS_FILES: WEIGHTS,
    "checkpoints/*/discriminator.safetensors": WEIGHTS,
}
"""The files of a model by their patterns, and how many bytes each may have: nothing else is downloaded or removed."""
OF_WEIGHTS = [pattern for pattern, limit in LIMITS.items() if limit == WEIGHTS]
"""Those of weights, which a checkpoint's state.json sets tighter limits."""
MOST_FILES = 100
_PLACE = re.compile(r"[\w.]+|checkpoints/[0-9]+/[\w.]+", re.ASCII)
"""Where files of a model are: a pattern's * may be anything."""
MADE_BY_THE_HUB = (".gitattributes", CARD, LICENSE)
"""What a new repository may hold."""
_NAME = re.compile(r"(?!.*\.\.)([a-z0-9][\w.-]*/[a-z0-9][\w.-]*)(?:@([a-z0-9][\w./-]*))?", re.ASCII | re.IGNORECASE)


class HubName(NamedTuple):
    """A repository, OWNER/NAME, and a branch, tag or commit of it; without one its main branch."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def hub_name(text: str) -> HubName | None:
    """What a text such as alice/digits or alice/digits@v1 names on the Hub; None for one that cannot be a name."""
    match = _NAME.fullmatch(text)
    return match and HubName(*match.groups())


def require_name(text: str) -> HubName:
    """The same. Raises UserError for a text that cannot be a name."""
    name = hub_name(text)
    if name is None:
        raise UserError(
            f"'{shown(text)}' given: expected OWNER/NAME on the Hub, such as alice/digits or alice/digits@v1"
        )
    return name


def download_model(name: HubName, largest_weights: Callable[[Path], Mapping[str, int]]) -> Path:
    """Bring a model's files into the Hub's cache; the folder there that holds them.

    All are of one commit. Texts come first: by the folder that holds them, `largest_weights` tells how many bytes
    which files of weights may have. Without a network what the cache holds is taken. Raises UserError for a repository
    that is absent, closed or holds no model of condgan, and for files that are larger than such may be.
    """
    with _told(name):
        from huggingface_hub import constants, snapshot_download

        listing = _listing(name)
        if listing is None:
            where = snapshot_download(
                name.repository, revision=name.revision, allow_patterns=[*LIMITS], local_files_only=True
            )
            if not constants.HF_HUB_OFFLINE:
                from condgan.utils.console import note

                note(f"{constants.ENDPOINT} cannot be reached: '{name}' is taken from the Hub's cache")
            return Path(where)
        sizes, commit = _sizes(listing), listing.sha
        _require_model(name, sizes)
        texts = [one for one in LIMITS if one not in OF_WEIGHTS]
        where = snapshot_download(name.repository, revision=commit, allow_patterns=texts)
        _require_fitting(name, sizes, largest_weights(Path(where)))
        snapshot_download(name.repository, revision=commit, allow_patterns=[*LIMITS])
        now = _listing(name)
        if now is None or now.sha != commit:
            raise UserError(f"'{name}' was changed meanwhile: repeat it")
        # so that the cache knows the commit by its branch, too
        snapshot_download(name.repository, revision=name.revision, allow_patterns=[RECIPE_FILE])
        return Path(where)


def upload_model(repository: str, files: Mapping[str, Path], message: str) -> str:
    """Let a repository hold these files, where it is new or holds a model: in one commit or not at all; its page.

    What else it holds stays, but for the files of the model before; its LICENSE is replaced at most. Raises UserError
    where nobody is logged in, for a card that the Hub refuses, and for a repository that holds something else.
    """
    name = HubName(repository)
    with _told(name):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, ModelCard, get_token

        if get_token() is None:
            raise UserError(f"'{name}' to push to, and no token of the Hub: `hf auth login` once, or set HF_TOKEN")
        api = _api()
        api.whoami()  # refuses a wrong token before anything is made
        _validate(ModelCard(files[CARD].read_text(encoding="utf-8")))
        page = api.create_repo(repository, exist_ok=True)
        listing = api.model_info(repository, files_metadata=True)
        there = _sizes(listing)
        if not (is_model(there) or {*there} <= {*MADE_BY_THE_HUB}):
            other = next(one for one in there if one not in MADE_BY_THE_HUB)
            raise UserError(f"'{name}' to push to, which holds something else, such as '{shown(other)}': give another")
        added = [CommitOperationAdd(path, str(file)) for path, file in files.items()]
        removed = [CommitOperationDelete(path) for path in _models_own(there) if path not in {*files, LICENSE}]
        api.create_commit(repository, [*added, *removed], commit_message=message, parent_commit=listing.sha)
        return str(page)


def is_model(files: Collection[str]) -> bool:
    """Whether a repository with files of these names holds a model."""
    return all(any(fnmatchcase(one, pattern) for one in files) for pattern in (RECIPE_FILE, WEIGHTS_FILES))


def _api() -> "HfApi":
    from huggingface_hub import HfApi

    from condgan import __version__

    return HfApi(library_name="condgan", library_version=__version__)


def _listing(name: HubName) -> "ModelInfo | None":
    """What the Hub says of a repository, or None where it cannot be asked."""
    from huggingface_hub import errors

    try:
        return _api().model_info(name.repository, revision=name.revision, files_metadata=True)
    except errors.HfHubHTTPError:
        raise
    except (errors.HTTPError, errors.OfflineModeIsEnabled):  # pyright: ignore[reportPrivateImportUsage]
        return None


def _sizes(listing: "ModelInfo") -> dict[str, int]:
    return {one.rfilename: one.size or 0 for one in listing.siblings or ()}


def _models_own(files: Iterable[str]) -> list[str]:
    return [one for one in files if _is_one_of(one, LIMITS)]


def _is_one_of(file: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(file, pattern) for pattern in patterns)


def _require_model(name: HubName, sizes: Mapping[str, int]) -> None:
    """Raises UserError for a repository that holds no model, or a larger one than there can be."""
    own = _models_own(sizes)
    if not is_model(sizes) or not all(_PLACE.fullmatch(file) for file in own):
        raise UserError(f"'{name}' is no model of condgan, it has no {RECIPE_FILE} and weights: give one that is")
    with _too_large(name):
        if len(own) > MOST_FILES:
            raise TooLarge(f"it has {len(own):,} files, more than {MOST_FILES}")
        for file in own:
            require_at_most(sizes[file], min(LIMITS[one] for one in LIMITS if fnmatchcase(file, one)), file)
        require_at_most(sum(sizes[file] for file in own), WEIGHTS)


def _require_fitting(name: HubName, sizes: Mapping[str, int], largest: Mapping[str, int]) -> None:
    """Raises UserError for weights of more bytes than those of their networks."""
    with _too_large(name):
        for file in _models_own(sizes):
            if _is_one_of(file, OF_WEIGHTS):
                require_at_most(sizes[file], largest.get(file, 0), file)


@contextmanager
def _too_large(name: HubName) -> Iterator[None]:
    try:
        yield
    except TooLarge as error:
        raise UserError(f"'{name}' is not downloaded ({shown(error)}): no model of condgan is that large") from None


def _validate(card: "ModelCard") -> None:
    """Raises UserError for a card that the Hub refuses."""
    from huggingface_hub import errors

    try:
        card.validate()
    except errors.HfHubHTTPError:
        raise
    except ValueError as error:
        raise UserError(f"the Hub refuses the model's card ({shown(error)}): give another --license") from None


@contextmanager
def _told(name: HubName) -> Iterator[None]:
    """Say in one line what goes wrong between here and the Hub."""
    if find_spec("huggingface_hub") is None:
        raise UserError(
            f"'{name}' given, a model on the Hub, for which huggingface_hub is not installed: {to_install('hub')}"
        )
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    quiet = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    hub, page = constants.ENDPOINT, f"{constants.ENDPOINT}/{name.repository}"
    told: tuple[tuple[type[Exception], str], ...] = (
        (errors.GatedRepoError, f"'{name}' is gated: ask for access at {page}, then `hf auth login` or set HF_TOKEN"),
        (errors.RevisionNotFoundError, f"'{name}' has no revision '{name.revision}': give a branch, tag or commit"),
        (
            errors.RepositoryNotFoundError,
            f"'{name}' is no path here and no model on {hub}, or a private one: check it; if it is yours, "
            "`hf auth login` or set HF_TOKEN",
        ),
        (
            errors.LocalEntryNotFoundError,
            f"'{name}' is no path here, {hub} cannot be reached, and the Hub's cache does not hold it: check the "
            "network, and HF_HUB_OFFLINE",
        ),
        (errors.HFValidationError, f"'{name}' cannot be a repository's name: give OWNER/NAME, such as alice/digits"),
    )
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # the libraries below raise whatever they like
        for kind, said in told:
            if isinstance(error, kind):
                raise UserError(said) from None
        if isinstance(error, errors.HfHubHTTPError):
            said = error.server_message or error
            raise UserError(_refused(name, error.response.status_code, shown(said))) from None
        if isinstance(error, OSError) and error.filename is not None:  # the system's own
            raise
        cause = error.__cause__ or error
        raise UserError(f"{hub} was not to be reached for '{name}' ({shown(cause)}): repeat it, it goes on") from None
    finally:
        if quiet:
            enable_progress_bars()


def _refused(name: HubName, status: int, said: str) -> str:
    """What an answer of the Hub means."""
    known = {
        401: "the Hub refuses the token: `hf auth login` anew, or correct HF_TOKEN",
        403: f"the token may not do that with '{name}': give it the right to write, or ask the owner",
        412: f"'{name}' was changed meanwhile: push again",
    }
    return known.get(status, f"the Hub answers {status} of '{name}' ({said}): try again later")
