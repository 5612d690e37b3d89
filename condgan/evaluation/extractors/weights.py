"""Files of weights: where they are, whether they are whole, and how they are downloaded and read."""

import hashlib
import http.client
import re
import socket
import sys
import textwrap
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from condgan.evaluation.extractors.base import one_line
from condgan.utils.errors import UserError
from condgan.utils.files import new_file

TIMEOUT = 30
"""Seconds without an answer after which a download is given up."""


def download(what: str, url: str, path: Path) -> Path:
    """The file of published weights, "the weights of …", downloaded if it is not there."""
    if path.exists():
        return path
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with new_file(path) as new:
            torch.hub.download_url_to_file(url, str(new), expected_hash(path.name), progress=sys.stderr.isatty())
    except (OSError, http.client.HTTPException, RuntimeError) as error:  # the last: of another hash
        raise UserError(
            f"{what} are needed, and {url} cannot be downloaded ({one_line(error)}): save it as '{path}' or give "
            "--weights PATH; --extractor classifier needs none"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return path


def read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """A state dict and the hash of its file, which must be that of the file's name if there is one in it."""
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"weights '{path}' cannot be read ({error.strerror}): give the file of a state dict") from None
    expected = expected_hash(path.name)
    if not sha256.startswith(expected):
        raise UserError(
            f"weights '{path}' are damaged or misnamed: their SHA-256 begins with {sha256[: len(expected)]}, the name "
            f"says {expected}: remove or rename the file"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # of how the file was written
            state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception:  # of damaged and hostile files it raises anything
        state = None
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise UserError(
            f"weights '{path}' are no state dict: give a whole .safetensors file, or one of "
            "torch.save(network.state_dict(), path)"
        )
    return state, sha256


def misfit(name: str, path: Path, error: Exception) -> UserError:
    """The error for weights that a network does not take."""
    details = re.sub(r"^Error\(s\) in loading state_dict for \w+: ", "", one_line(error))
    reason = textwrap.shorten(details, 160, placeholder=" …")
    return UserError(f"weights '{path}' do not fit '{name}' ({reason}): give a state dict of this network")


def file_of(url: str) -> str:
    """The name of the file at a URL."""
    return url.rpartition("/")[2]


def expected_hash(file_name: str) -> str:
    """The beginning of a file's SHA-256 by torch hub's convention of names; empty where it does not follow it."""
    match = re.search(r"-([0-9a-f]{8,})\.pth$", file_name)
    return match[1] if match else ""
