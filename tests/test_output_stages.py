"""Training super-resolution and sound as a user does: in a run of all stages, alone on another world, and refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import FPS, SIDE, TINY_DYNAMICS, TOY_ACTIONS, move, toy_frame

from worldgen.bundle import Starts, load_network, save_network
from worldgen.config import WorldConfig
from worldgen.data.cache import open_cache
from worldgen.data.dataset import split_episodes
from worldgen.data.recording import RecordingInfo, RecordingWriter
from worldgen.errors import InputError
from worldgen.sound_library import LIBRARY
from worldgen.world import World

pytest.importorskip("torch")
pytest.importorskip("accelerate")

from worldgen.training import presets
from worldgen.training.between_figures import between_figures
from worldgen.training.enlarge import nearest
from worldgen.training.evaluate import for_json
from worldgen.training.fit import Fit
from worldgen.training.held_out import open_held_out
from worldgen.training.large_picture import large_picture_figures
from worldgen.training.pipeline import train_world
from worldgen.training.presets import Preset
from worldgen.training.recipe import Recipe
from worldgen.training.recorded_sound import SoundFormat, recorded_sound
from worldgen.training.report_outputs import between_section, large_picture_section, sound_section
from worldgen.training.sound_figures import sound_figures

RATE = 8000
STAGES = ("tokenizer", "dynamics", "super_resolution", "between", "sound_codec", "sound", "sound_events")
HEADS = STAGES[2:]
LENGTHS = {"super_resolution": 2, "between": 3}  # of clips


def micro() -> Preset:
    fit = Fit(steps=2, batch=2, length=5, learning_rate=1e-3)
    return Preset(
        side=SIDE,
        context=4,
        tokenizer={"token_dim": 8, "channels": [8, 16], "num_convs": 1},
        latent_action={},
        dynamics=TINY_DYNAMICS,
        heads={"dim": 16},
        super_resolution={"channels": 8, "num_layers": 1},
        between={"channels": 8, "num_layers": 1},
        sound_codec={"latent_dim": 6, "dim": 16, "num_atoms": 8},
        sound={"dim": 16},
        sound_events={"dim": 16},
        fits={name: replace(fit, length=LENGTHS.get(name, 5)) for name in (*STAGES, "heads")},
    )


@pytest.fixture(autouse=True)
def micro_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "micro", micro)


def record(path: Path, seed: int, scale: int = 2, rate: int | None = RATE, num_frames: int = 50) -> None:
    rng, place, action = np.random.default_rng(seed), np.array([4, 6]), 0
    t = np.arange(RATE // FPS) / RATE
    beep = (16_000 * np.sin(2 * np.pi * 500 * t) * np.exp(-30 * t))[:, None].astype(np.int16)
    with RecordingWriter(path, RecordingInfo(FPS, TOY_ACTIONS, "toy", seed=seed), rate, 1) as writer:
        for _ in range(num_frames):
            writer.write(nearest(toy_frame(place, seed), scale), None if rate is None else beep * (action == 1))
            action = int(rng.integers(5))
            place = move(place, action)
            writer.act(action, 0.0, False)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loud")
    for i in range(5):
        record(folder / f"loud{i}.mkv", i)
    return folder


@pytest.fixture(scope="module")
def trained(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "loud"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "micro", micro)
        train(recordings, out, stages=STAGES)
    return out


def train(data: Path, out: Path, **choices) -> list[str]:
    said: list[str] = []
    train_world(Recipe(data, out, preset="micro", **choices), say=said.append)
    return said


def test_a_run_of_all_stages_gives_a_world_with_larger_frames_and_sound(trained: Path):
    assert WorldConfig.load(trained / "world.json").sound == "generated"
    for mode in ("generated", "retrieved"):
        world = World.load(trained, backend="torch", sound=mode)
        frame = world.reset(0)
        assert frame.image.shape == (2 * SIDE, 2 * SIDE, 3) and frame.sound.shape == (RATE // FPS, 1)
        assert np.isfinite(world.step(1).sound).all()
    world = World.load(trained, backend="torch", between=True)
    world.reset(0)
    assert world.step(1).between is None and world.step(1).between.shape == (2 * SIDE, 2 * SIDE, 3)


def test_starts_have_the_sound_that_was_recorded_with_them(trained: Path, recordings: Path, tmp_path: Path):
    starts = Starts.load(trained)
    assert starts.sound.shape == (*starts.frames.shape[:2], RATE // FPS, 1) and starts.sound.any()
    cache = open_cache(recordings, height=SIDE, width=SIDE)
    sound = recorded_sound(cache, recordings, SoundFormat(RATE // FPS, 1, RATE), say=lambda text: None)
    length = starts.frames.shape[1]
    for frames, heard in zip(starts.frames, starts.sound, strict=True):
        found = [i for i in range(cache.num_frames - length) if np.array_equal(cache.frames[i : i + length], frames)]
        assert any(np.array_equal(sound.sound[i : i + length], heard) for i in found)
    # a world whose starts have none gets it with a stage more, if they are of the same recordings
    shutil.copytree(trained, tmp_path / "world", ignore=shutil.ignore_patterns("sound"))
    replace(starts, sound=None).save(tmp_path / "world")
    train(recordings, tmp_path / "world", stages=("sound",))
    np.testing.assert_array_equal(Starts.load(tmp_path / "world").sound, starts.sound)
    shutil.rmtree(tmp_path / "world" / "sound")
    Starts(starts.frames[::-1], starts.actions[::-1]).save(tmp_path / "world")
    train(recordings, tmp_path / "world", stages=("sound",), resume=True)
    assert Starts.load(tmp_path / "world").sound is None


def test_starts_of_silent_recordings_or_of_another_codec_have_no_sound(trained: Path, recordings: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    for i in range(3):
        record(tmp_path / "data" / f"plain{i}.mkv", i, rate=None)
    train(tmp_path / "data", tmp_path / "mute", stages=("dynamics",), source=trained)  # the codec comes along
    assert (tmp_path / "mute" / "sound_codec").is_dir() and Starts.load(tmp_path / "mute").sound is None
    shutil.copytree(trained, tmp_path / "world", ignore=shutil.ignore_patterns("sound"))
    starts = Starts.load(trained)
    wrong = replace(starts, sound=starts.sound[:, :, :-1])
    wrong.save(tmp_path / "world")  # as a codec of another rate would leave them
    train(recordings, tmp_path / "world", stages=("sound",))
    np.testing.assert_array_equal(Starts.load(tmp_path / "world").sound, starts.sound)
    wrong.save(tmp_path / "world")
    with pytest.raises(InputError, match="train the stage sound again"):
        World.load(tmp_path / "world", backend="torch")


def test_the_sound_head_is_trained_alone_on_another_world(trained: Path, recordings: Path, tmp_path: Path):
    shutil.copytree(trained, tmp_path / "other", ignore=shutil.ignore_patterns("sound"))
    said = train(recordings, tmp_path / "other", stages=("sound",))
    assert (tmp_path / "other" / "sound").is_dir() and not any("sound_codec:" in line for line in said)
    with pytest.raises(InputError, match="already holds a trained sound"):
        train(recordings, tmp_path / "other", stages=("sound",))


def test_fine_tuning_begins_from_the_other_worlds_outputs(trained: Path, recordings: Path, tmp_path: Path):
    train(recordings, tmp_path / "mine", stages=("super_resolution", "sound_codec"), source=trained)
    assert (tmp_path / "mine" / "super_resolution").is_dir() and (tmp_path / "mine" / "sound").is_dir()
    assert (tmp_path / "mine" / LIBRARY).read_bytes() == (trained / LIBRARY).read_bytes()


def test_fine_tuning_to_other_actions_leaves_the_sound_of_the_former_ones_out(
    trained: Path, recordings: Path, tmp_path: Path
):
    shutil.copytree(trained, tmp_path / "other")
    for name in ("dynamics", "sound", "sound_events"):
        network = load_network(trained, name)
        arguments = {k: v for k, v in network.config.items() if not k.startswith("_")}
        save_network(type(network)(**arguments | {"action_sizes": [9]}), tmp_path / "other", name)
    out = tmp_path / "mine"
    said = train(recordings, out, stages=("dynamics",), source=tmp_path / "other")
    assert any("sound" in line and "follows other actions" in line for line in said)
    assert not (out / "sound").exists() and (out / "sound_codec").is_dir()
    train(recordings, out, stages=("heads",), source=tmp_path / "other")  # which brings them again
    assert not (out / "sound").exists()
    world = World.load(out, backend="torch")
    world.reset(0)
    assert world.sample_rate is None and world.step(0).sound is None


def test_a_users_own_sounds_need_the_stage_that_plays_them(trained: Path, recordings: Path, tmp_path: Path):
    with pytest.raises(InputError, match="--sounds belongs to --stages sound_events"):
        train(recordings, tmp_path / "world", stages=("sound",), sounds=tmp_path)
    shutil.copytree(trained, tmp_path / "world", ignore=shutil.ignore_patterns("sound_events"))
    (tmp_path / "own").mkdir()
    with pytest.raises(InputError, match="holds no .wav"):
        train(recordings, tmp_path / "world", stages=("sound_events",), sounds=tmp_path / "own")


def test_the_default_stages_are_those_that_the_recordings_allow(tmp_path: Path):
    from worldgen.training.run import Run

    record(tmp_path / "d.mkv", 0, scale=1, rate=None)  # with b and c it is not the one held out
    plain = Run(Recipe(tmp_path, tmp_path / "out", preset="micro"), micro(), say=lambda text: None)
    assert plain.default_stages() == ("tokenizer", "dynamics")
    record(tmp_path / "b.mkv", 1, scale=3)
    record(tmp_path / "c.mkv", 2, scale=3)
    rich = Run(Recipe(tmp_path, tmp_path / "out", preset="micro"), micro(), say=lambda text: None)
    assert rich.default_stages() == tuple(s for s in STAGES[:-1] if s != "between")  # for those who ask for it


@pytest.mark.parametrize("side", ["training", "held-out"])
def test_a_stage_that_one_side_of_the_split_lacks_is_left_out_and_refused_by_name(side: str, tmp_path: Path):
    """Not after hours, and each time that it is resumed."""
    from worldgen.training.run import Run

    plain, data = tmp_path / "plain", tmp_path / "data"
    data.mkdir()
    for i in range(4):
        record(plain / f"{i}.mkv", i, scale=1, rate=None)
    cache = open_cache(plain, height=SIDE, width=SIDE)
    held = {cache.episode_names[i] for i in np.searchsorted(cache.starts, split_episodes(cache)[1].starts)}
    for i, video in enumerate(sorted(plain.glob("*.mkv"))):
        if (video.name in held) == (side == "held-out"):
            for path in plain.glob(f"{video.stem}.*"):
                shutil.copy(path, data)
        else:  # most frames are large, whichever side they are of
            record(data / video.name, i, scale=3, num_frames=180 if side == "training" else 50)
    said: list[str] = []
    run = Run(Recipe(data, tmp_path / "out", preset="micro"), micro(), say=said.append)
    assert run.default_stages() == ("tokenizer", "dynamics")
    assert f"  super_resolution left out: no {side} recording holds 2 frames of 48x48 or larger" in said
    assert f"  sound_codec and sound left out: no {side} recording holds 5 frames with sound" in said
    for stage in ("super_resolution", "sound_codec", "sound", "sound_events"):
        with pytest.raises(InputError, match=f"no {side} recording holds .*, or leave {stage} out"):
            train(data, tmp_path / "out", stages=("tokenizer", "dynamics", stage))
    assert not (tmp_path / "out").exists()


def test_small_and_silent_recordings_are_refused_by_name(trained: Path, recordings: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    for i in range(2):
        record(tmp_path / "data" / f"plain{i}.mkv", i, scale=1, rate=None)
    shutil.copytree(trained, tmp_path / "world", ignore=shutil.ignore_patterns(*HEADS))
    with pytest.raises(InputError, match="less than twice the world's 16x16"):
        train(tmp_path / "data", tmp_path / "world", stages=("super_resolution",))
    with pytest.raises(InputError, match="no recording has sound"):
        train(tmp_path / "data", tmp_path / "world", stages=("sound_codec",))
    with pytest.raises(InputError, match="has no sound_codec: train it"):
        train(recordings, tmp_path / "world", stages=("sound",))


def test_both_are_measured_and_shown(trained: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("worldgen.training.sound_figures.SPAN_SECONDS", 1.0)
    world = World.load(trained, backend="torch", batch=3, upscale=False)
    held_out = open_held_out(trained, world.config, recordings, say=lambda text: None)
    found = large_picture_figures(world, held_out, recordings)
    assert not isinstance(found, str)
    figures, strip = found
    assert figures["scale"] == 2 and figures["area"]["nearest"]["psnr"] > 30  # each pixel of the toy is 2x2
    assert figures["area"]["scale2x"] is not None
    assert large_picture_section(for_json(figures), strip)[1][:4] == b"\x89PNG"
    halfway, strip = between_figures(world, held_out)
    assert halfway["recorded"]["network"]["psnr"] == pytest.approx(halfway["recorded"]["blend"]["psnr"], abs=1)
    assert halfway["recorded"]["repeat"]["flicker"] <= halfway["real_flicker"] + 1 and halfway["frames"] > 10
    assert between_section(for_json(halfway), strip)[1][:4] == b"\x89PNG"
    unknown = replace(held_out, facts=held_out.facts | {"actions": "random"})
    assert "no recorded actions" in sound_figures(trained, world, unknown, recordings)
    heard = sound_figures(trained, world, held_out, recordings)
    assert not isinstance(heard, str)
    sounds, play = heard
    assert sounds["hears"] and sounds["codec_onset_f1"] is not None
    assert sounds["shuffled"] > 0 and sounds["codec"] > 0 and 0 < sounds["silent_share"] < 1
    assert play.played.shape == play.real.shape == play.listened.shape == (sounds["clips"], 10, RATE // FPS, 1)
    retrieving = World.load(trained, backend="torch", batch=3, upscale=False, sound="retrieved")
    retrieved = sound_figures(trained, retrieving, held_out, recordings)
    assert not isinstance(retrieved, str) and set(retrieved[0]) == set(sounds) and retrieved[0]["ms_p50"] > 0
    assert not retrieved[0]["hears"]
    html, plot = sound_section(for_json(sounds), play, tmp_path)
    assert "generated frames" in html and plot[:4] == b"\x89PNG"
    assert (tmp_path / "sound_generated_1.mp4").stat().st_size > 1000
