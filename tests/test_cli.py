"""The command line: exit codes, one clear line, and nothing imported that is not needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from worldgen import __version__, cli
from worldgen.errors import BackendUnavailableError, InputError, RunError
from worldgen.files import write_json

COMMANDS = ("play", "record", "check", "train", "eval", "export", "bench", "info")


def run(capsys: pytest.CaptureFixture, *argv: object) -> tuple[int, str, str]:
    """-> exit code, standard output, standard error"""
    try:
        code = cli.main([str(word) for word in argv])
    except SystemExit as stop:  # of the options' own parser
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys: pytest.CaptureFixture, *argv: object, code: int = 2) -> str:
    """The one line that says why."""
    got, _, err = run(capsys, *argv)
    lines = err.strip().splitlines()
    assert got == code, err
    assert lines[-1].startswith("worldgen: ") and "Traceback" not in err
    return lines[-1]


def python(code: str, *blocked: str) -> subprocess.CompletedProcess:
    """Runs code in a new process in which some modules are not installed."""
    prelude = f"""
import sys
class Without:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {blocked!r} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""
    return subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True)


def command(*argv: object, blocked: tuple[str, ...]) -> subprocess.CompletedProcess:
    words = [str(word) for word in argv]
    return python(f"from worldgen.cli import main; sys.exit(main({words!r}))", *blocked)


# Help


def test_without_a_command_the_commands_are_listed(capsys: pytest.CaptureFixture):
    code, out, _ = run(capsys)
    assert code == 2 and all(f"\n  {name} " in out for name in COMMANDS)
    assert run(capsys, "--help")[:2] == (0, out) and run(capsys, "-h")[:2] == (0, out)


def test_the_version_is_said(capsys: pytest.CaptureFixture):
    assert run(capsys, "--version") == (0, __version__ + "\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture, name: str):
    code, out, _ = run(capsys, name, "--help")
    assert code == 0 and f"worldgen {name}" in out and "--json" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_refused_without_a_traceback(capsys: pytest.CaptureFixture, name: str):
    needed = {"record": ("toy", "--out", "x"), "check": ("x",), "train": ("x", "--out", "y")}
    line = refused(capsys, name, *needed.get(name, ()), "--colour", "blue")
    assert "--colour" in line and f"worldgen {name} --help" in line


@pytest.mark.parametrize(
    "argv, named",
    [
        (("play", "--headles"), ("--headles", "Perhaps you meant: --headless")),
        (("play", "--frames", "x"), ("--frames", "['x']")),
        (("record", "toy", "--frames", "5"), ("--out",)),
        (("record", "toy", "--frames", "5", "--out", "x", "--policy", "best"), ("'best'", "'scripted'")),
        (("train",), ("PATH", "--out")),
    ],
    ids=lambda x: x[0],
)
def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture, argv: tuple[str, ...], named: tuple[str, ...]):
    code, out, err = run(capsys, *argv)
    assert code == 2 and not out and len(err.splitlines()) == 1
    assert all(part in err for part in named) and f"worldgen {argv[0]} --help" in err


# Wrong usage


def test_an_unknown_command_is_refused_with_those_there_are(capsys: pytest.CaptureFixture):
    line = refused(capsys, "paly")
    assert "'paly'" in line and all(name in line for name in COMMANDS)


@pytest.mark.parametrize(
    "argv",
    [
        ("play", "atlantis", "--headless", "--frames", "1"),
        ("eval", "atlantis", "--data", "x"),
        ("export", "atlantis"),
        ("bench", "atlantis"),
        ("info", "atlantis"),
        ("train", "{data}", "--out", "{tmp}/w", "--from", "atlantis"),
    ],
    ids=lambda argv: argv[0],
)
def test_an_unknown_world_is_refused_with_both_ways_out(
    capsys: pytest.CaptureFixture, toy_recordings: Path, tmp_path: Path, argv: tuple[str, ...]
):
    line = refused(capsys, *(word.format(data=toy_recordings, tmp=tmp_path) for word in argv))
    assert "'atlantis'" in line and "folder" in line and "bundled" in line


@pytest.mark.parametrize("name", ["play", "bench"])
def test_an_unknown_backend_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture, tiny_world: Path, tmp_path: Path, name: str
):
    extra = ("--headless", "--frames", 1, "--out", tmp_path / "c.mp4") if name == "play" else ("--frames", 1)
    line = refused(capsys, name, tiny_world, "--backend", "coreml", *extra)
    assert "'coreml'" in line and "onnxruntime" in line and "torch" in line


@pytest.mark.parametrize(
    "options, named",
    [
        (("--preset", "gigantic"), ("'gigantic'", "tiny, fine, pixel, small, base")),
        (("--stages", "tokeniser"), ("'tokeniser'", "tokenizer, latent_action, dynamics, heads")),
        (("--actions", "guessed"), ("'guessed'", "recorded or latent")),
        (("--steps", "0"), ("--steps", "0")),
        (("--minutes", "-1"), ("--minutes", "-1")),
        (("--stages", "dynamics"), ("no tokenizer", "--stages tokenizer")),
    ],
    ids=lambda x: x[0],
)
def test_a_wrong_choice_of_training_is_refused(
    capsys: pytest.CaptureFixture,
    toy_recordings: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    named: tuple[str, ...],
):
    line = refused(capsys, "train", toy_recordings, "--out", tmp_path / "w", *options)
    assert all(part in line for part in named)


@pytest.mark.parametrize("name", ["check", "train"])
def test_a_folder_without_videos_is_refused(capsys: pytest.CaptureFixture, tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    out = ("--out", tmp_path / "w") if name == "train" else ()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        assert str(folder) in refused(capsys, name, folder, *out)


def test_a_missing_network_is_refused_with_its_command(capsys: pytest.CaptureFixture, tiny_world: Path, tmp_path: Path):
    world = Path(shutil.copytree(tiny_world, tmp_path / "tiny"))
    shutil.rmtree(world / "dynamics")
    line = refused(capsys, "export", world)
    assert "no dynamics" in line and f"worldgen train DIR --out {world} --stages dynamics" in line


def test_an_unknown_target_of_export_is_refused(capsys: pytest.CaptureFixture, tiny_world: Path):
    assert "'coreml'" in refused(capsys, "export", tiny_world, "--to", "coreml")


@pytest.mark.parametrize(
    "argv",
    [
        ("record", "toy", "--frames", "10", "--out", "{tmp}/out"),
        ("train", "{data}", "--out", "{tmp}/out"),
        ("check", "{data}"),
        ("eval", "{world}", "--data", "{data}"),
        ("export", "{world}"),
        ("bench", "{world}"),
        ("info", "{world}"),
        ("play", "{world}", "--headless"),
    ],
    ids=lambda argv: argv[0],
)
def test_figures_that_could_not_be_written_are_refused_before_the_work(
    capsys: pytest.CaptureFixture, toy_recordings: Path, tiny_world: Path, tmp_path: Path, argv: tuple[str, ...]
):
    (tmp_path / "file").touch()
    words = [word.format(data=toy_recordings, world=tiny_world, tmp=tmp_path) for word in argv]
    assert f"{tmp_path / 'file'} is a file" in refused(capsys, *words, "--json", tmp_path / "file" / "new" / "x.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_could_not_be_written_is_refused_before_the_work(
    capsys: pytest.CaptureFixture, toy_recordings: Path, tiny_world: Path, tmp_path: Path
):
    (tmp_path / "file").touch()
    for argv in (("train", toy_recordings, "--out"), ("eval", tiny_world, "--data", toy_recordings, "--report")):
        assert f"{tmp_path / 'file'} is a file" in refused(capsys, *argv, tmp_path / "file")


@pytest.mark.parametrize("name", ["bench.bmp", "bench"])
def test_a_picture_that_could_not_be_drawn_is_refused_before_the_work(
    capsys: pytest.CaptureFixture, tiny_world: Path, tmp_path: Path, name: str
):
    line = refused(capsys, "bench", tiny_world, "--plot", tmp_path / name)
    assert f"--plot {tmp_path / name}" in line and ".png" in line
    assert not list(tmp_path.iterdir())


def test_stale_graphs_are_refused_with_their_command(capsys: pytest.CaptureFixture, tiny_world: Path, tmp_path: Path):
    world = Path(shutil.copytree(tiny_world, tmp_path / "tiny"))
    with (world / "onnx" / "weights.bin").open("ab") as file:
        file.write(b"!")
    line = refused(capsys, "play", world, "--headless", "--frames", 1, "--out", tmp_path / "c.mp4")
    assert f"worldgen export {world} --to onnx" in line


# Exit codes


@pytest.mark.parametrize(
    "error, code",
    [
        (InputError("no such thing"), 2),
        (RunError("went wrong"), 1),
        (BackendUnavailableError("not here"), 3),
        (OSError(28, "No space left on device", "weights.bin"), 1),
        (KeyboardInterrupt(), 130),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2),
        (ModuleNotFoundError("No module named 'vizdoom.x'", name="vizdoom.x"), 2),
    ],
    ids=lambda x: type(x).__name__,
)
def test_each_kind_of_error_has_its_code(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
):
    def fails(argv: object) -> int:
        raise error

    monkeypatch.setitem(cli.COMMANDS, "info", fails)
    line = refused(capsys, "info", code=code)
    if isinstance(error, ModuleNotFoundError):
        extra = "train" if error.name == "torch" else "games"
        assert f"pip install 'worldgen[{extra}]'" in line and "worldgen info" in line


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch):
    def fails(argv: object) -> int:
        import worldgen_has_no_such_module  # noqa: F401

    monkeypatch.setitem(cli.COMMANDS, "info", fails)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["info"])


# Figures


def test_figures_go_to_a_file_or_alone_to_standard_output(
    capsys: pytest.CaptureFixture, tiny_world: Path, tmp_path: Path
):
    path = tmp_path / "new" / "facts.json"
    code, out, _ = run(capsys, "info", tiny_world, "--json", path)
    assert code == 0 and "16x16" in out
    code, out, err = run(capsys, "info", tiny_world, "--json", "-")
    assert code == 0 and json.loads(out) == json.loads(path.read_text())
    assert json.loads(out)["name"] == "tiny" and "16x16" in err


def test_a_damaged_recording_is_found_by_check(capsys: pytest.CaptureFixture, toy_recordings: Path, tmp_path: Path):
    data = Path(shutil.copytree(toy_recordings, tmp_path / "data"))
    (data / "broken.mkv").write_bytes(b"no video")
    code, out, _ = run(capsys, "check", data, "--json", "-")
    reports = {Path(report["path"]).name: report for report in json.loads(out)["files"]}
    assert code == 0 and reports["broken.mkv"]["status"] == "refused" and reports["broken.mkv"]["reason"]
    assert reports["toy0.mkv"]["status"] != "refused"
    for video in data.glob("toy*"):
        video.unlink()
    assert run(capsys, "check", data)[0] == 1


# What is imported


HEAVY = ("torch", "gymnasium", "pygame", "onnxruntime", "diffusers", "tensorrt", "accelerate")


def test_importing_worldgen_is_light():
    done = python("import worldgen; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert not {name.split(".")[0] for name in done.stdout.split()} & set(HEAVY)


def test_help_is_light():
    done = python("from worldgen.cli import main\nmain(['--help'])\nprint(*sys.modules, file=sys.stderr)")
    assert done.returncode == 0
    assert not {name.split(".")[0] for name in done.stderr.split()} & set(HEAVY)


def test_a_world_plays_on_onnxruntime_without_torch(tiny_world_onnx: Path):
    pytest.importorskip("onnxruntime")
    code = f"""
from worldgen import World
for backend in ("auto", "onnxruntime"):
    world = World.load({str(tiny_world_onnx)!r}, backend=backend, batch=2)
    world.reset(0)
    for action in range(5):
        frame = world.step([action, 0])
    print(world.backend_name, frame.image.shape)
"""
    done = python(code, "torch", "diffusers", "einops", "safetensors", "onnx", "gymnasium", "pygame", "accelerate")
    assert done.stdout.split("\n")[:2] == ["onnxruntime (2, 16, 16, 3)"] * 2, done.stderr


def test_a_missing_extra_is_one_line_with_the_pip_command(toy_recordings: Path, tmp_path: Path):
    done = command("train", toy_recordings, "--out", tmp_path / "w", blocked=("torch",))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "pip install 'worldgen[train]'" in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
def test_an_engine_that_was_asked_for_and_is_not_there_is_exit_code_3(tiny_world: Path, tmp_path: Path, name: str):
    play = ("play", tiny_world, "--headless", "--frames", 1, "--out", tmp_path / "c.mp4", "--backend", name)
    done = command(*play, blocked=(name,))
    assert done.returncode == 3 and "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert name in line and "pip install 'worldgen[" in line


def test_no_engine_at_all_is_a_missing_extra(tiny_world_onnx: Path, tmp_path: Path):
    play = ("play", tiny_world_onnx, "--headless", "--frames", 1, "--out", tmp_path / "c.mp4")
    done = command(*play, blocked=("torch", "onnxruntime"))
    assert done.returncode == 2 and "pip install 'worldgen[cpu]'" in done.stderr.strip().splitlines()[-1]


# From recordings to a clip


def use_micro_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    from worldgen.training import presets
    from worldgen.training.fit import Fit

    def micro() -> presets.Preset:
        fit = Fit(steps=3, batch=4, length=5, learning_rate=1e-3)
        return presets.Preset(
            side=16,
            context=4,
            tokenizer={"token_dim": 8, "channels": [8, 16], "num_convs": 1},
            latent_action={"dim": 16},
            dynamics={"dim": 32, "num_layers": 2, "num_heads": 2},
            heads={"dim": 16},
            fits=dict.fromkeys(("tokenizer", "latent_action", "dynamics", "heads"), fit),
        )

    monkeypatch.setitem(presets.PRESETS, "micro", micro)


def test_a_world_that_cannot_be_measured_is_trained_all_the_same(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tiny_world: Path, toy_recordings: Path, tmp_path
):
    world, summary = Path(shutil.copytree(tiny_world, tmp_path / "tiny")), tmp_path / "summary.json"
    names = [video.name for video in toy_recordings.glob("*.mkv")]
    write_json(world / "training" / "data.json", {"data": "x", "train": names, "held_out": []})
    trained = {"world": str(world), "preset": "tiny", "stages": {"heads": {"steps": 600, "seconds": 9.0}}}
    monkeypatch.setattr("worldgen.training.pipeline.train_world", lambda recipe, say: dict(trained))
    monkeypatch.setattr("worldgen.export.to_onnx.export_onnx", lambda world, say: {"parity": {}})
    given = ("--out", world, "--stages", "heads", "--json", summary)
    code, out, err = run(capsys, "train", toy_recordings, *given)
    assert code == 0, err
    why = f"the world was trained on all 4 episodes of {toy_recordings}"
    assert f"no report: {why}" in out and f"play it: worldgen play {world}" in out
    assert json.loads(summary.read_text()) == trained | {"parity": {}, "evaluation": None}
    card = (world / "card.md").read_text()
    assert f"Not measured: {why}" in card and "heads 600 steps in 9 s" in card and "has not been measured" in card


@pytest.mark.slow
def test_recordings_are_trained_exported_measured_and_played(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, toy_recordings: Path, tmp_path: Path
):
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    use_micro_preset(monkeypatch)
    world, summary, clip = tmp_path / "toy", tmp_path / "summary.json", tmp_path / "clip.mp4"
    code, out, err = run(capsys, "train", toy_recordings, "--out", world, "--preset", "micro", "--json", summary)
    assert code == 0, err
    assert f"worldgen play {world}" in out
    figures = json.loads(summary.read_text())
    assert list(figures["stages"]) == ["tokenizer", "dynamics", "heads"]
    assert {"encode", "denoise", "commit", "decode", "frame_2"} <= set(figures["parity"]) and figures["evaluation"]
    assert "toy" in (world / "card.md").read_text()
    assert list((world / "training" / "report").iterdir())
    stats = tmp_path / "stats.json"
    play = ("play", world, "--headless", "--frames", 5, "--actions", "random", "--out", clip, "--json", stats)
    assert run(capsys, *play)[0] == 0
    assert json.loads(stats.read_text())["backend"] == "onnxruntime" and clip.stat().st_size > 300


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("WORLDGEN_TEST_LATENT"), reason="half a minute: set WORLDGEN_TEST_LATENT=1")
def test_video_alone_becomes_a_world_whose_codes_are_named_and_played(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, toy_recordings: Path, tmp_path: Path
):
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    use_micro_preset(monkeypatch)
    monkeypatch.setattr("worldgen.training.action_reader.STEPS", 20)
    videos = tmp_path / "videos"
    shutil.copytree(toy_recordings, videos, ignore=shutil.ignore_patterns("*.json*", "*.parquet", "*.csv"))
    assert not [p for p in videos.iterdir() if p.suffix != ".mkv"]
    world, clip, summary = tmp_path / "toy", tmp_path / "clip.mp4", tmp_path / "summary.json"
    given = ("--out", world, "--preset", "micro", "--actions", "latent", "--json", summary)
    code, _, err = run(capsys, "train", videos, *given)
    assert code == 0, err
    figures = json.loads(summary.read_text())
    assert list(figures["stages"]) == ["tokenizer", "latent_action", "dynamics"]
    scored = figures["evaluation"]["latent_actions"]
    assert scored["nmi"] is None and scored["why_not_compared"] == "no actions are recorded" and scored["usage"]
    assert run(capsys, "actions", world, "--name", "0=hop", "--key", "0=space")[0] == 0
    assert "space = hop" in run(capsys, "info", world)[1]
    play = ("play", world, "--headless", "--frames", 4, "--actions", "random", "--out", clip)
    assert run(capsys, *play)[0] == 0 and clip.stat().st_size > 300
    import gymnasium

    env = gymnasium.make("worldgen.envs:worldgen/World-v0", world=str(world))
    env.reset(seed=0)
    assert env.step(0)[0].shape == (16, 16, 3)
    env.close()
