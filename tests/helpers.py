"""Running the command line in this process, a generator that need not be trained, a classifier that hardly is."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from condgan.app.cli.main import main
from condgan.evaluation.downstream import SMALL_RESNET, find_classifier
from condgan.labels import Labels, LabelSpec
from condgan.sampling.model import Model
from condgan.types import Generator

ABC = LabelSpec.of_classes(["apple", "banana", "cherry"])


class Outcome:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def condgan(capsys: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    """Run `condgan ARGUMENTS`."""
    before, sys.argv = sys.argv, ["condgan", *map(str, arguments)]
    capsys.readouterr()
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        sys.argv = before
    return Outcome(int(stop.value.code or 0), *capsys.readouterr())


def refused(outcome: Outcome, *parts: str) -> None:
    """That a command was refused in one line on stderr that says all the parts."""
    lines = outcome.err.strip().splitlines()
    assert outcome.code == 2, outcome.err
    assert lines[-1].startswith("condgan: ")
    assert "Traceback" not in outcome.err
    assert len(lines) == 1, outcome.err
    for part in parts:
        assert part in lines[-1]


def weights(run: Path) -> dict[str, bytes]:
    """The files of a run's last checkpoint but its description, which holds scores."""
    last = max((run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    return {path.name: path.read_bytes() for path in last.iterdir() if path.name != "state.json"}


class Tiny(Generator):
    """8 × 8 images by one linear layer, a batch norm and, in between, what is to be tested."""

    def __init__(self, spec: LabelSpec, channels: int = 1, between: nn.Module | None = None) -> None:
        super().__init__()
        self.latent_dim = 4
        self.linear = nn.Linear(4 + spec.width, 8 * 8 * 8)
        self.norm = nn.BatchNorm2d(8, momentum=0.3)
        self.between = between or nn.Identity()
        self.output = nn.Conv2d(8, channels, 1)

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b c h w"]:
        x = self.linear(torch.cat([latent, labels.vector()], 1)).unflatten(1, (8, 8, 8))
        return torch.tanh(self.output(self.between(self.norm(x))))


def tiny(channels: int = 1, between: nn.Module | None = None, spec: LabelSpec = ABC) -> Model:
    """An untrained model."""
    return Model(Tiny(spec, channels, between).eval().requires_grad_(False), spec, 0)


def linear_classifier(name: str, classes: int, size: int) -> Callable[[], nn.Module]:
    """In the small network's place one of a millisecond."""
    if name == SMALL_RESNET:
        return lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))
    return find_classifier(name, classes, size)
