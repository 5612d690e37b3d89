"""The scripts of examples/ do what they say. Its notebooks have tests of their own."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parent.parent / "examples" / "add_fakes.py"


def halves(root: str, count: int, seed: int, only: str | None = None) -> str:
    """Class folders of images whose left or right half is bright."""
    rng = np.random.default_rng(seed)
    for side, name in enumerate(("left", "right")):
        for number in range(count if only in (None, name) else 0):
            image = rng.integers(0, 120, (16, 20, 3), np.uint8)
            image[:, 10 * side : 10 * (side + 1)] += 90
            path = Path(root) / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


def test_fakes_of_a_folder_are_added_in_plain_torchvision(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fakes may be of some classes alone."""
    folders = [halves("real", 12, 0), halves("fakes", 20, 1, "right"), halves("test", 10, 2)]
    monkeypatch.setattr(sys, "argv", ["add_fakes.py", *folders, "--size", "16", "--epochs", "30", "--seeds", "2"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    *seeds, mean = capsys.readouterr().out.splitlines()
    found = [re.fullmatch(r"real ([\d.]+) %, real and fakes ([\d.]+) %, ([+-][\d.]+)", line) for line in seeds]
    assert len(found) == 2
    gains = [float(one[3]) for one in found if one is not None]
    assert all(float(one[2]) > 80 for one in found if one is not None), "it learns what can be seen"
    assert float(mean.removeprefix("mean ")) == pytest.approx(sum(gains) / 2, abs=0.11)
    assert "condgan" not in {line.split()[1].split(".")[0] for line in SCRIPT.read_text().splitlines()
                             if line.startswith(("import ", "from "))}  # fmt: skip
