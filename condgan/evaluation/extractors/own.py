"""Networks of users, made by a callable of theirs."""

import hashlib
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor, nn

from condgan.evaluation.extractors.base import Extractor, as_rgb, describe_output, one_line, state_hash
from condgan.utils.errors import UserError
from condgan.utils.imports import imported


def build_own_network(name: str, weights: Path | None) -> Extractor:
    """Build a user's network, module:callable. Raises UserError for what cannot be imported, called or is none."""
    given = {} if weights is None else {"weights": weights}
    module, make = imported("extractor", name, given, "weights=PATH" if given else "")
    called = name.partition(":")[2]
    try:
        network = make(**given)
    except Exception as error:  # it is the user's code
        raise UserError(f"extractor '{name}' cannot be made ({one_line(error)}): mend '{called}'") from None
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
