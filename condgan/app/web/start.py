"""What is checked before runs are served as a page, without Gradio."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from condgan.app.web.port import require_free
from condgan.runs.directory import require_run
from condgan.utils.arguments import whole
from condgan.utils.errors import UserError, to_install

PORT = 7860


def serve_runs(runs: Sequence[Path], which: str = "best", port: int = PORT) -> None:
    """Serve a page of some runs on this machine until Ctrl-C. Raises UserError where it cannot start."""
    whole("--port", port, 1, 65_535)
    for run in runs:
        require_run(run)
    if find_spec("gradio") is None:
        raise UserError(f"condgan app needs Gradio, which is not installed: {to_install('app')}")
    require_free(port)
    from condgan.app.web.page import serve

    serve(runs, which, port)
