"""What `worldgen play` can be told, and what of it can be known to be wrong before a world is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from worldgen.config import NFE_CHOICES, SOUND_CHOICES
from worldgen.errors import InputError
from worldgen.files import check_folder_writable, check_writable
from worldgen.play.clip import CLIP_SUFFIXES


@dataclass(frozen=True)
class PlayOptions:
    """What `worldgen play` can be told."""

    world: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="WORLD")] = None
    """A bundled world or a world's folder. Without one: that of the session to replay; in a window the start screen;
    else doom."""
    seed: int = 0
    """Decides the start, the noise and random actions."""
    backend: str = "auto"
    """auto, onnxruntime, torch or tensorrt; with a suffix for a device or precision, such as onnxruntime:fp16."""
    nfe: int | None = None
    """Denoising steps a frame: 1, 2 or 4; by default the world's."""
    sound: str | None = None
    """generated, retrieved (from recorded sounds) or off; by default the world's."""
    upscale: bool = True
    """Show larger frames, where the world has super-resolution."""
    between: bool = True
    """Show the frame half way to each too, where the world has in-between frames: twice the rate."""
    start: str | None = None
    """A picture or clip to start from, or the number of one of the world's own starts."""
    replay: Path | None = None
    """A session file to play again."""
    headless: bool = False
    """No window, no pacing."""
    frames: int | None = None
    """Stop after so many frames; headless: by default as many as the actions, else 300."""
    actions: str | None = None
    """"random" or a file with one action per frame (.jsonl, .json, .csv, .parquet, a session); repeated when short."""
    out: Path | None = None
    """A clip of the play to write: .mp4, or .gif without sound."""
    json: str | None = None
    """A file for the figures of the play, - for standard output."""
    record: Path | None = None
    """A session file (.json) to write, which --replay plays again."""
    recordings: Path | None = None
    """A folder to write the play to as recordings, to train on or look at."""
    scale: int = 4
    """How many times the world's own size a clip has, to the nearest whole multiple of the frames that are shown."""
    legend: bool = True
    """Show the pressed keys under the picture of a clip."""
    fullscreen: bool = False
    """Open the window over the whole screen."""
    auto: bool = True
    """While frames take too long: no in-between frames, then fewer denoising steps, then no super-resolution."""
    worlds: tuple[Path, ...] = (Path("."),)
    """Folders whose worlds the start screen shows beside the bundled ones."""
    captures: Path = Path(".")
    """Where screenshots, and recordings begun in the window, go."""
    terminal: bool = False
    """Play in this terminal, drawn with half blocks."""
    beside: Path | None = None
    """A recording, or a folder of them: play its actions, the real picture beside the generated one."""
    blind: Path | None = None
    """A folder of recordings for a blind test: short clips, real or generated?"""
    tally: Path = Path("blind-test.json")
    """Where the answers of the blind test are kept; a test goes on where it was."""


def check_options(options: PlayOptions, has_window: bool) -> None:
    """Raises InputError for all that can be known to be wrong before a world is loaded and played."""
    if options.frames is not None and options.frames < 1:
        raise InputError(f"--frames is at least 1, got {options.frames}")
    if options.sound is not None and options.sound not in SOUND_CHOICES:
        raise InputError(f"--sound is one of {', '.join(SOUND_CHOICES)}, got {options.sound!r}")
    if options.nfe is not None and options.nfe not in NFE_CHOICES:
        raise InputError(f"--nfe is one of {NFE_CHOICES}, got {options.nfe}")
    if options.replay is not None and (options.actions is not None or options.start is not None):
        raise InputError("--replay brings its own actions and start: leave out --actions and --start")
    modes = [f"--{name}" for name in ("replay", "terminal", "beside", "blind") if getattr(options, name)]
    if len(modes) > 1 and modes != ["--replay", "--terminal"]:
        raise InputError(f"{' and '.join(modes)}: one at a time")
    if options.terminal and options.headless:
        raise InputError("--terminal shows the game and --headless does not: choose one")
    if options.beside is not None and (options.actions is not None or options.start is not None):
        raise InputError("--beside brings its own actions and start: leave out --actions and --start")
    for name, real in (("beside", options.beside), ("blind", options.blind)):
        if real is not None and not real.exists():
            raise InputError(f"--{name} {real}: no such file or folder")
    if options.blind is not None and not has_window:
        raise InputError("--blind asks a person: it needs a window")
    of_a_game = [n for n in ("start", "actions", "out", "record", "recordings") if getattr(options, n) is not None]
    if options.blind is not None and of_a_game:
        raise InputError(f"--blind asks about clips and plays no game: leave out --{of_a_game[0]}")
    if options.scale < 1:
        raise InputError(f"--scale is at least 1, got {options.scale}")
    if options.out is not None and options.out.suffix not in CLIP_SUFFIXES:
        raise InputError(f"--out {options.out}: a clip is {' or '.join(CLIP_SUFFIXES)}")
    if options.actions not in (None, "random") and not Path(options.actions).is_file():
        raise InputError(f"--actions {options.actions}: no such file (or say random)")
    tally = options.tally if options.blind is not None else None
    for flag, path in (("out", options.out), ("record", options.record), ("json", options.json), ("tally", tally)):
        if path is not None and str(path) != "-":
            check_writable(Path(path), f"--{flag}")
    if options.recordings is not None:
        check_folder_writable(options.recordings, "--recordings")
