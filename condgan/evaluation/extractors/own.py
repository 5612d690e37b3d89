"""Networks of users, made by a callable of theirs."""

import hashlib
import importlib
import inspect
import os
import sys
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor, nn

from condgan.evaluation.extractors.base import Extractor, as_rgb, describe_output, one_line, state_hash
from condgan.utils.errors import UserError


def build_own_network(name: str, weights: Path | None) -> Extractor:
    """Build a user's network, module:callable. Raises UserError for what cannot be imported, called or is none."""
    module_name, _, attribute = name.partition(":")
    sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"extractor '{name}' cannot be imported ({error}): '{module_name}' has to be installed, or a module of the "
            "current folder"
        ) from None
    except Exception as error:  # it is the user's code
        raise UserError(f"extractor '{name}' cannot be imported ({one_line(error)}): mend '{module_name}'") from None
    finally:
        sys.path.pop()
    if not hasattr(module, attribute):
        raise UserError(f"extractor '{name}': '{module_name}' has no '{attribute}'; give the name of one it has")
    make = getattr(module, attribute)
    given = {} if weights is None else {"weights": weights}
    try:
        inspect.signature(make).bind(**given)
    except TypeError as error:
        call = f"{attribute}({'weights=PATH' if given else ''})"
        raise UserError(f"extractor '{name}' cannot be called as {call} ({error}): change what it takes") from None
    try:
        network = make(**given)
    except Exception as error:  # it is the user's code
        raise UserError(f"extractor '{name}' cannot be made ({one_line(error)}): mend '{attribute}'") from None
    if not isinstance(network, nn.Module):
        raise UserError(f"extractor '{name}' makes {describe_output(network)}, expected a torch.nn.Module: return one")
    code = Path(module.__file__).read_bytes() if module.__file__ else b""  # what it does to images is in it
    sha256 = hashlib.sha256(code + state_hash(network).encode()).hexdigest()
    return Extractor(name, sha256, "by the network itself", OwnNetwork(name, network))


class OwnNetwork(nn.Module):
    """A user's network."""

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        self.name, self.body = name, network

    def forward(self, images: UInt8[Tensor, "b c h w"]) -> Any:
        return self.body(as_rgb(images, self.name))
