"""The `worldgen` command. Each subcommand imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import tyro

from worldgen.bundle import DEFAULT_WORLD
from worldgen.command import fail, parse, run, say_beside, write_figures
from worldgen.errors import InputError
from worldgen.files import check_folder_writable, check_writable


def main(argv: Sequence[str] | None = None) -> int:
    # before torch is imported: two spinning threads on a busy machine cost 540 ms a step instead of 19
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from worldgen import __version__

        print(__version__)
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        return fail(2, f"unknown command {command!r}; choose {', '.join(COMMANDS)}")
    return run(command, lambda: COMMANDS[command](rest))


def _usage() -> str:
    rows = "\n".join(f"  {name:8}{function.__doc__}" for name, function in COMMANDS.items())
    return f"usage: worldgen COMMAND [OPTIONS]\n\n{rows}\n\n`worldgen COMMAND --help` tells the options of one."


def _parse(options: type, command: str, argv: Sequence[str]) -> Any:
    return parse(options, command, argv, COMMANDS[command].__doc__)


def _local(recordings: Path, say: Callable[[str], None]) -> Path:
    """The recordings of a URL, fetched; of a folder, where they are."""
    from worldgen.data.cache import cache_root
    from worldgen.data.remote import local_folder

    return local_folder(recordings, cache_root(), say)


def play(argv: Sequence[str]) -> int:
    """play a world: in a window, or without one to a clip and figures"""
    from worldgen.play.main import play as play_world
    from worldgen.play.options import PlayOptions

    play_world(_parse(PlayOptions, "play", argv))
    return 0


def record(argv: Sequence[str]) -> int:
    """record a real game: frames, sound, actions, rewards"""
    from worldgen.envs.record_command import RecordOptions, check_record_options, record_the_screen, record_with_bar

    options = _parse(RecordOptions, "record", argv)
    check_record_options(options)
    if options.screen:
        figures = record_the_screen(options)
    elif options.play:
        figures = _record_a_person(options)
    else:
        figures = record_with_bar(options)
    write_figures(figures, options.json)
    return 130 if figures.get("interrupted") else 0


def _record_a_person(options: Any) -> dict[str, Any]:
    """A real game in the player's window -> the figures of the play"""
    from worldgen.envs.catalogue import make_game
    from worldgen.envs.played_game import PlayedGame
    from worldgen.play.real_game import play_real_game

    check_folder_writable(options.out, "--out")
    game = PlayedGame(make_game(options.env, options.fps), options.out, options.seed)
    try:
        figures = play_real_game(game, seed=options.seed, frames=options.frames)
    finally:
        game.close()
    say_beside(options.json)(f"{game.num_frames} frames in {game.num_episodes} episodes: {options.out}")
    return {"env": options.env, "out": str(options.out), "episodes": game.num_episodes, **figures}


@dataclass(frozen=True)
class CheckOptions:
    folder: Annotated[Path, tyro.conf.Positional]
    """the recordings"""
    fix: Path | None = None
    """write cleaned recordings into this folder: cropped, cut at damage and cuts, without still stretches"""
    sheet: Path | None = None
    """write a picture (.png) with frames of every recording"""
    json: str | None = None
    """write the reports to this file, or - for standard output"""


def check(argv: Sequence[str]) -> int:
    """say of every recording in a folder what is usable, repaired or refused, and why"""
    from worldgen.data.check_command import check_and_fix

    options = _parse(CheckOptions, "check", argv)
    say = say_beside(options.json)
    figures = check_and_fix(_local(options.folder, say), options.fix, options.sheet, say)
    write_figures(figures, options.json)
    return 0 if figures["usable_minutes"] > 0 else 1


@dataclass(frozen=True)
class TrainOptions:
    data: Annotated[Path, tyro.conf.Positional]
    """folder of recordings or plain videos"""
    out: Path
    """the world's folder"""
    preset: str = "tiny"
    """tiny (two CPU cores), fine (the same with 8x8-pixel tokens, for small things), pixel (for games drawn pixel by
    pixel, 128 wide or high), small (one GPU) or base"""
    actions: str = "recorded"
    """recorded, or latent: learn actions from video that has none"""
    labels: float = 0.0
    """with --actions latent: share of the frames whose recorded action may be seen, 0.01 for example"""
    minutes: float | None = None
    """stop early, after this long in all; schedules still follow the steps"""
    steps: int | None = None
    """steps of every stage, instead of the preset's"""
    stages: tuple[str, ...] = ()
    """only these: tokenizer latent_action dynamics heads super_resolution between sound_codec sound sound_events"""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """fine-tune: begin from this world's weights"""
    resume: bool = False
    """go on where a killed run was"""
    seed: int = 0
    name: str | None = None
    """what the world is called; by default its folder's name"""
    sounds: Path | None = None
    """with --stages sound_events: play the sounds of this folder instead, each for those most like it, or as the
    folder's sounds.json says in words"""
    sharpen: float = 0.0
    """0.05 to 0.2: the tokenizer and super-resolution also learn to pass for recorded; sharper, less exact"""
    shard: bool = False
    """processes of torchrun share the network out among them (FSDP2), for one that does not fit into each"""
    shaping: tuple[str, ...] = ()
    """shape the reward by what the recordings know of the game's state, NAME=WEIGHT each: damage_taken=-1 takes 1 away
    for each point of damage"""
    compile: bool = False
    """compile the dynamics, also where the heads learn from it (minutes, once a run; needs a C++ compiler and Python's
    headers): on a processor with AMX 2.4 times as many steps a second, with AVX-512 BF16 1.5 times"""
    json: str | None = None
    """write the summary to this file, or - for standard output"""


def train(argv: Sequence[str]) -> int:
    """train a world from recordings: all stages in order, then export and a first report"""
    options = _parse(TrainOptions, "train", argv)
    say = say_beside(options.json)
    # all of them now: what is not installed is said before hours of training
    import_module("matplotlib")
    from worldgen.data.shaping import parse_shaping
    from worldgen.export.to_onnx import export_onnx
    from worldgen.training.card import write_card
    from worldgen.training.evaluate import evaluate
    from worldgen.training.pipeline import train_world
    from worldgen.training.processes import is_main
    from worldgen.training.recipe import Recipe

    facts = {k: v for k, v in vars(options).items() if k != "json"}
    facts["shaping"] = parse_shaping(options.shaping)  # before recordings are fetched
    facts["data"] = _local(options.data, say)
    summary = train_world(Recipe(**facts), say=say)
    if not is_main():  # one of several processes: the first exports and evaluates
        return 0
    if (options.out / "world.json").is_file():  # --from brings a dynamics before one is trained
        summary["parity"] = export_onnx(options.out, say=say)["parity"]
        report, why_not = options.out / "training" / "report", ""
        try:
            summary["evaluation"] = evaluate(
                options.out, facts["data"], horizons=(1, 4, 16, 64), report=report, say=say
            )
        except InputError as error:  # the world itself is trained and plays
            summary["evaluation"], why_not = None, str(error)
            say(f"no report: {why_not}")
        write_card(options.out, summary["evaluation"], summary, why_not)
        say(f"play it: worldgen play {options.out}")
    write_figures(summary, options.json)
    return 0


@dataclass(frozen=True)
class EvalOptions:
    world: Annotated[str, tyro.conf.Positional] = DEFAULT_WORLD
    """a bundled world or a world's folder"""
    data: Path = Path("recordings")
    """held-out recordings; episodes that the world was trained on are left out"""
    backend: str = "auto"
    """auto, onnxruntime or torch"""
    nfe: int | None = None
    """denoising steps a frame: 1, 2 or 4; by default the world's"""
    clips: int = 32
    """how many held-out clips to play"""
    horizons: tuple[int, ...] = (1, 4, 16, 64, 256, 1000)
    """frames after the prompt at which it is compared; those that no recording is long enough for are left out"""
    stability: int = 1100
    """frames of the long games that show drift; 0 leaves them out"""
    fid_weights: Path | None = None
    """InceptionV3 as TorchScript, for FID: frames (n, 3, h, w) uint8 -> features (n, d)"""
    fvd_weights: Path | None = None
    """I3D as TorchScript, for FVD: clips (n, 3, t, h, w) float 0..255 -> features (n, d)"""
    seed: int = 0
    json: str | None = None
    """write the figures to this file, or - for standard output"""
    report: Path | None = None
    """write a page with plots, contact sheets and a video into this folder"""


def evaluate(argv: Sequence[str]) -> int:
    """measure a world against held-out recordings: picture, control, motion, stability, cost"""
    options = _parse(EvalOptions, "eval", argv)
    from worldgen.envs.catalogue import make_game
    from worldgen.training.encoders import Encoders
    from worldgen.training.evaluate import evaluate as evaluate_world

    if options.report is not None:  # what would stop it at the end is said now
        import_module("matplotlib")
        check_folder_writable(options.report, "--report")
    figures = evaluate_world(
        options.world,
        _local(options.data, say_beside(options.json)),
        backend=options.backend,
        nfe=options.nfe,
        clips=options.clips,
        horizons=options.horizons,
        encoders=Encoders(options.fid_weights, options.fvd_weights),
        stability=options.stability,
        make_game=make_game,
        seed=options.seed,
        report=options.report,
        say=say_beside(options.json),
    )
    write_figures(figures, options.json)
    return 0


@dataclass(frozen=True)
class ExportOptions:
    world: Annotated[str, tyro.conf.Positional] = DEFAULT_WORLD
    """a bundled world or a world's folder"""
    to: str = "onnx"
    """onnx (any machine), or tensorrt (engines for the GPU of this one)"""
    precision: str | None = None
    """onnx: fp32 (default), fp16 (for GPUs) or int8 (for CPUs); tensorrt: fp16 (default), bf16, fp32 or fp8"""
    batch: int = 64
    """the most games at once that TensorRT engines are built for"""
    json: str | None = None
    """write the manifest to this file, or - for standard output"""


def export(argv: Sequence[str]) -> int:
    """export a world's graphs and verify them against torch"""
    options = _parse(ExportOptions, "export", argv)
    from worldgen.bundle import find_world
    from worldgen.export.to_onnx import export_world

    world = find_world(options.world)
    manifest = export_world(world, options.to, options.precision, options.batch, say_beside(options.json))
    write_figures(manifest, options.json)
    return 0


@dataclass(frozen=True)
class BenchOptions:
    world: Annotated[str, tyro.conf.Positional] = DEFAULT_WORLD
    """a bundled world or a world's folder"""
    backend: tuple[str, ...] = ("auto",)
    """one or more of auto, onnxruntime, torch, tensorrt, with options as in onnxruntime:cpu:int8 or torch:compiled;
    several are interleaved"""
    batch: tuple[int, ...] = (1,)
    """games side by side; several sizes are compared"""
    frames: int = 200
    """frames to time"""
    long: int = 0
    """also compare this frame of a long game with its frame 100, 10000 for example"""
    plot: Path | None = None
    """draw the figures into this picture"""
    json: str | None = None
    """write the figures to this file, or - for standard output"""


def bench(argv: Sequence[str]) -> int:
    """time a world: per graph and per frame"""
    options = _parse(BenchOptions, "bench", argv)
    from worldgen.export.bench_plot import check_picture, plot
    from worldgen.export.benchmark import benchmark

    if options.plot is not None:  # what would stop it at the end is said now
        import_module("matplotlib")
        check_picture(options.plot)
        check_writable(options.plot, "--plot")
    figures = benchmark(
        options.world,
        backends=options.backend,
        batch=options.batch,
        frames=options.frames,
        long=options.long,
        say=say_beside(options.json),
    )
    write_figures(figures, options.json)
    if options.plot is not None:
        plot(figures, options.plot)
    return 0


def actions(argv: Sequence[str]) -> int:
    """show what each action of a world does; name latent actions and bind keys to them"""
    from worldgen.training.actions_command import ActionsOptions, actions_of

    options = _parse(ActionsOptions, "actions", argv)
    say = say_beside(options.json)
    data = None if options.data is None else _local(options.data, say)
    write_figures(actions_of(options, data, say), options.json)
    return 0


@dataclass(frozen=True)
class InfoOptions:
    world: Annotated[str, tyro.conf.Positional] = DEFAULT_WORLD
    """a bundled world or a world's folder"""
    json: str | None = None
    """write the facts to this file, or - for standard output"""


def info(argv: Sequence[str]) -> int:
    """say what a world is: size, rate, actions, keys, networks, graphs"""
    from worldgen.bundle import bundled_worlds, describe

    options = _parse(InfoOptions, "info", argv)
    say = say_beside(options.json)
    world = describe(options.world)
    keys = [f"{' + '.join(held) or 'nothing'} = {name}" for name, held in world["keys"].items()]
    heads = [name for name in ("reward", "terminated") if world[f"has_{name}"]]
    size = f"{world['width']}x{world['height']} at {world['fps']:g} fps, {world['megabytes']:.1f} MB"
    say(f"{world['name']}: {size}, {world['folder']}")
    say(f"  actions: {', '.join(world['actions'])}")
    say(f"  keys: {', '.join(keys) or 'none'}")
    say(f"  heads: {', '.join(heads) or 'none'}")
    say(f"  networks: {', '.join(world['networks']) or 'none'}")
    say(f"  graphs: {', '.join(world['graphs']) or f'none, run `worldgen export {options.world} --to onnx`'}")
    say(f"bundled worlds: {', '.join(bundled_worlds()) or 'none'}")
    write_figures(world, options.json)
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "play": play,
    "record": record,
    "check": check,
    "train": train,
    "eval": evaluate,
    "export": export,
    "bench": bench,
    "actions": actions,
    "info": info,
}

if __name__ == "__main__":
    sys.exit(main())
