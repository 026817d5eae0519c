"""What every command does alike: reads its options, says how it goes, writes its figures and ends with an exit code.

0 success; 1 a failed run or verification; 2 wrong usage or bad input; 3 an explicitly requested backend that cannot
run here; 130 interrupted. What a user has caused is one line on standard error.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from worldgen.errors import BackendUnavailableError, InputError, MissingExtraError, RunError
from worldgen.files import check_writable, write_json

T = TypeVar("T")

EXTRA_OF_MODULE = {
    **dict.fromkeys(("torch", "diffusers", "accelerate", "einops", "safetensors", "onnx", "matplotlib"), "train"),
    **dict.fromkeys(("tensorboard", "pyarrow", "onnxscript"), "train"),
    "onnxruntime": "cpu",
    **dict.fromkeys(("mss", "pynput", "Xlib"), "screen"),
    "vizdoom": "games",
    "pyxel": "games",
    "ale_py": "atari",
}


def run(command: str, function: Callable[[], int]) -> int:
    """function's exit code, or that of the error that a user has caused."""
    try:
        return function()
    except (InputError, MissingExtraError) as error:
        return fail(2, str(error))
    except BackendUnavailableError as error:
        return fail(3, str(error))
    except RunError as error:
        return fail(1, str(error))
    except ModuleNotFoundError as error:
        extra = EXTRA_OF_MODULE.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        return fail(2, str(MissingExtraError(f"`worldgen {command}` imports {error.name} and", extra)))
    except OSError as error:  # a full disk, a folder that may not be written
        return fail(1, str(error))
    except MemoryError as error:
        return fail(1, f"out of memory ({str(error) or 'no more can be had'}): use a smaller batch")
    except KeyboardInterrupt as stop:
        return fail(130, f"interrupted; {stop.args[0] if stop.args else 'what was finished is kept'}")


def fail(code: int, message: str) -> int:
    print(f"worldgen: {message}", file=sys.stderr)
    return code


def parse(options: type[T], command: str, argv: Sequence[str], about: str | None) -> T:
    """The options that the words on the command line give. InputError for wrong usage, in one line, and where the
    figures could not be written to --json when the work is done."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            given = tyro.cli(options, args=list(argv), prog=f"worldgen {command}", description=about)
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        raise InputError(f"{_in_one_line(said.getvalue())}; see `worldgen {command} --help`") from None
    figures = getattr(given, "json", None)
    if figures not in (None, "-"):
        check_writable(Path(figures), "--json")
    return given


def _in_one_line(box: str) -> str:
    """What tyro draws a box around, without its repetition of the help."""
    lines = [line.strip(" │") for line in box.splitlines() if not line.lstrip().startswith(("╭", "╰"))]
    paragraphs = re.split(r"─{4,}", "\n".join(lines))
    kept = [" ".join(p.split()) for p in paragraphs if not p.strip().startswith(("For full helptext", "Argument help"))]
    return "; ".join(p.rstrip(".") for p in kept if p) or "wrong usage"


def say_beside(json_target: str | None) -> Callable[[str], None]:
    """What prints progress: to standard error when the figures go to standard output."""
    stream = sys.stderr if json_target == "-" else sys.stdout

    def say(text: str) -> None:
        # a file's name may hold what no terminal shows
        encoding = getattr(stream, "encoding", None) or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), file=stream, flush=True)

    return say


def write_figures(figures: Any, json_target: str | None) -> None:
    """--json FILE, or - for standard output"""
    if json_target == "-":
        print(json.dumps(figures, indent=2))
    elif json_target is not None:
        write_json(Path(json_target), figures)
