"""The command line: thin verbs over the library, and bad input as one line.

Each verb imports itself what it needs beyond its form, torch first of all: help and errors of usage come at once.
"""

import errno
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from condgan import __version__
from condgan.app.cli.app import app_command
from condgan.app.cli.convert import convert_command
from condgan.app.cli.data import data_command, prepare_command, recipes_command
from condgan.app.cli.ema import ema_command
from condgan.app.cli.evaluate import evaluate_command, report_command, statistics_command, utility_command
from condgan.app.cli.export import export_command
from condgan.app.cli.latent import directions_command, invert_command, neighbors_command, tree_command
from condgan.app.cli.push import pull_command, push_command
from condgan.app.cli.sample import attention_command, interpolate_command, sample_command, truncation_command
from condgan.app.cli.streams import own_words
from condgan.app.cli.train import train_command
from condgan.app.cli.translate import translate_command
from condgan.app.cli.usage import Commands, in_one_line
from condgan.app.interrupt import interrupt
from condgan.runs.directory import on_hub, require_run
from condgan.utils.errors import Diverged, FailedElsewhere, Interrupted, UserError
from condgan.utils.files import path_of

app = Commands(help="Train, judge and sample conditional image GANs.")
click.version_option(__version__, message="condgan %(version)s")(app)
for command in (
    train_command, sample_command, interpolate_command, attention_command, truncation_command, directions_command,
    invert_command, neighbors_command, tree_command, translate_command, evaluate_command, statistics_command,
    utility_command, report_command, app_command, ema_command, export_command, push_command, pull_command, data_command,
    prepare_command, convert_command, recipes_command,
):  # fmt: skip
    app.verb(command)
SHARED = ("train", "evaluate", "statistics", "truncation")
"""Verbs that several processes may do together."""
NO_SPACE = {
    errno.ENOSPC: "no space left on the device for",
    errno.EDQUOT: "no space left of your quota for",
    errno.EFBIG: "larger than files may be here:",
}
NO_MEMORY = "not enough memory: lower data.size, schedule.batch or the number of images asked for"


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit code 2."""
    with own_words(), _interruptible():
        code = _run(sys.argv[1:] or ["--help"])
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Run a command line; the exit code."""
    leads = True
    try:
        with _joined(arguments[0]) as leads:
            code = app.main(arguments, "condgan", standalone_mode=False)
        sys.stdout.flush()
    except FailedElsewhere:
        code = _fail("stopped, because another process failed or is gone", 1)
    except click.MissingParameter as error:
        code = _fail(_without_run(error) or in_one_line(error, arguments, app), 2)
    except click.ClickException as error:
        code = _fail(in_one_line(error, arguments, app), 2)
    except UserError as error:
        code = _fail(str(error), 2)
    except Interrupted as error:
        code = _fail(str(error), error.exit_code, leads)
    except Diverged as error:
        code = _fail(str(error), 1, leads)
    except (KeyboardInterrupt, click.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # which click takes for an interruption
            raise error.__cause__ from None
        code = _fail("interrupted", 130)
    except MemoryError:
        code = _fail(NO_MEMORY, 2)
    except RuntimeError as error:
        from condgan.utils.device import lacks_memory

        if not lacks_memory(error):
            raise
        code = _fail(NO_MEMORY, 2)
    except OSError as error:
        code = _fail(_system_error(error), 2)
    return code or 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the command, also while it imports."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _without_run(error: click.MissingParameter) -> str | None:
    """What is wrong with the run that was given to a command that lacks something else, if anything is."""
    params = error.ctx.params if error.ctx else {}
    given = params.get("directory", params.get("run"))
    try:
        if given is not None and on_hub(given) is None:
            require_run(path_of(given))
    except UserError as wrong:
        return str(wrong)
    return None


@contextmanager
def _joined(verb: str) -> Iterator[bool]:
    """Be one of torchrun's processes meanwhile, if this is one; whether this is the one that speaks."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield True
        return
    from condgan.utils import distributed

    with distributed.joined():
        if not distributed.is_main():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        if distributed.size() > 1 and verb not in SHARED:
            raise UserError(
                f"condgan {verb} given to {distributed.size()} processes: expected one, or a command that they share, "
                f"{', '.join(SHARED)}; start it without torchrun"
            )
        yield distributed.is_main()


def _fail(message: str, code: int, aloud: bool = True) -> int:
    if aloud:
        sys.stderr.write(f"condgan: {' '.join(message.split())}\n")  # at once, since other processes may speak, too
    return code


def _system_error(error: OSError) -> str:
    where = f" '{error.filename}'" if error.filename else ""
    if error.errno in NO_SPACE:
        where = where or " what is printed"
        free = f" ({_free(Path(os.fsdecode(error.filename)))})" if error.filename else ""
        return f"{NO_SPACE[error.errno]}{where}{free}: make room and repeat the command, it goes on where it stopped"
    return f"{error.strerror or error}{where}: check the path and its permissions"


def _free(path: Path) -> str:
    """How much room there is where a file was to be."""
    folder = next(one for one in path.absolute().parents if one.is_dir())
    usage = shutil.disk_usage(folder)
    return f"{usage.free / 2**20:,.1f} of {usage.total / 2**20:,.1f} MiB free in '{folder}'"
