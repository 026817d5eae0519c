"""Retrieved sound: a library cut from recordings, the mixer, the event head, and a world that plays it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import FPS, TOY_ACTIONS, move, toy_frame

from worldgen.bundle import save_network
from worldgen.config import WorldConfig
from worldgen.data.cache import open_cache
from worldgen.data.dataset import all_segments
from worldgen.data.recording import RecordingInfo, RecordingWriter
from worldgen.errors import InputError
from worldgen.files import write_json
from worldgen.sound_library import LIBRARY, Mixer, SoundLibrary
from worldgen.world import World

torch = pytest.importorskip("torch")

from worldgen.training.recorded_sound import choose_format, recorded_sound  # noqa: E402
from worldgen.training.sound_events import event_loss  # noqa: E402
from worldgen.training.sound_files import replace_with  # noqa: E402
from worldgen.training.sound_library import build_library  # noqa: E402

RATE = 16_000
SAMPLES = RATE // FPS
LENGTH = 2400  # of a sound, samples


def tone(pitch: float) -> np.ndarray:
    """(LENGTH, 1) int16"""
    t = np.arange(LENGTH) / RATE
    return (16_000 * np.sin(2 * np.pi * pitch * t) * np.exp(-12 * t))[:, None].astype(np.int16)


def two_sounds(channels: int = 1) -> SoundLibrary:
    sound = np.concatenate([tone(300), tone(2000)]).repeat(channels, 1)
    return SoundLibrary(sound, np.array([0, LENGTH, 2 * LENGTH]), ("low", "high"), RATE, SAMPLES)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, int]]]:
    """Low tones at frames 5, 20, ... and high ones at 12, 27, ..., 300 samples after the frame began"""
    folder = tmp_path_factory.mktemp("tones")
    line, events = np.zeros((60 * SAMPLES, 1), np.int16), []
    for frame in range(5, 56, 7):
        kind = len(events) % 2
        events.append((frame, kind))
        begin = frame * SAMPLES + 300
        line[begin : begin + LENGTH] += tone((300, 2000)[kind])
    place = np.array([4, 6])
    with RecordingWriter(folder / "tones.mkv", RecordingInfo(FPS, TOY_ACTIONS, "toy"), RATE, 1) as writer:
        for t in range(60):
            writer.write(toy_frame(place, 0), line[t * SAMPLES : (t + 1) * SAMPLES])
            place = move(place, t % 5)
            writer.act(t % 5, 0.0, False)
    return folder, events


def test_the_library_holds_each_sound_once_and_every_event_in_its_frame(recordings):
    folder, true_events = recordings
    cache = open_cache(folder, height=16, width=16)
    recorded = recorded_sound(cache, folder, choose_format(cache, folder), say=lambda text: None)
    library, events = build_library(recorded, all_segments(cache), say=lambda text: None)
    assert len(library) == 2 and (library.sample_rate, library.samples) == (RATE, SAMPLES)
    assert [e.frame for e in sorted(events, key=lambda e: e.frame)] == [frame for frame, _ in true_events]
    kinds = [e.kind for e in sorted(events, key=lambda e: e.frame)]
    assert kinds in ([k for _, k in true_events], [1 - k for _, k in true_events])
    assert all(abs(e.place - 300 / SAMPLES) < 0.1 and 0.8 < e.gain < 1.25 for e in events)


def test_silent_recordings_have_nothing_to_retrieve(tmp_path: Path):
    with RecordingWriter(tmp_path / "a.mkv", RecordingInfo(FPS, TOY_ACTIONS, "toy"), RATE, 1) as writer:
        for _ in range(20):
            writer.write(toy_frame(np.array([4, 6]), 0), np.zeros((SAMPLES, 1), np.int16))
            writer.act(0, 0.0, False)
    cache = open_cache(tmp_path, height=16, width=16)
    recorded = recorded_sound(cache, tmp_path, choose_format(cache, tmp_path), say=lambda text: None)
    with pytest.raises(InputError, match="no sound begins"):
        build_library(recorded, all_segments(cache))


def test_a_users_own_sounds_stand_in_for_those_most_like_them(tmp_path: Path):
    import wave

    for name, pitch in (("deep", 330.0), ("bright", 1900.0)):
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(tone(pitch).tobytes())
    assert replace_with(two_sounds(), tmp_path, say=lambda text: None).names == ("deep", "bright")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no .wav"):
        replace_with(two_sounds(), tmp_path / "empty")
    with wave.open(str(tmp_path / "silent.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
    with pytest.raises(InputError, match=r"silent.wav: there is no sound in it: remove it"):
        replace_with(two_sounds(), tmp_path)


def test_a_saved_library_is_the_same_and_a_damaged_one_is_refused(tmp_path: Path):
    two_sounds(2).save(tmp_path)
    again = SoundLibrary.load(tmp_path)
    assert again.names == ("low", "high") and again.channels == 2
    np.testing.assert_array_equal(again.sound, two_sounds(2).sound)
    replace(two_sounds(), starts=np.array([0, 10, 20])).save(tmp_path)
    with pytest.raises(InputError, match="do not fit together"):
        SoundLibrary.load(tmp_path)
    (tmp_path / LIBRARY).write_bytes(b"no archive")
    with pytest.raises(InputError, match="is damaged"):
        SoundLibrary.load(tmp_path)
    assert SoundLibrary.load(tmp_path / "nowhere") is None


def test_clips_play_to_their_end_across_frames_and_over_one_another():
    library = two_sounds()
    mixer = Mixer(library)
    voices = mixer.start(mixer.empty(1)[0], 0, 100, 0.5)
    voices = mixer.start(voices, 1, 0, 1.0)
    heard = []
    for _ in range(4):
        sound, voices = mixer.play(voices)
        assert sound.shape == (SAMPLES, 1)
        heard.append(sound)
    expected = np.zeros((4 * SAMPLES, 1), np.float32)
    expected[100 : 100 + LENGTH] += 0.5 * library.clip(0) / 32768
    expected[:LENGTH] += library.clip(1) / 32768
    np.testing.assert_allclose(np.concatenate(heard), np.clip(expected, -1, 1), atol=1e-6)
    assert (voices[:, 0] == -1).all()


def test_the_loss_is_least_for_the_right_sound_at_the_right_place():
    kind, place = torch.tensor([[2, 0, 2, 1]]), torch.rand(1, 4, 2)
    logit, kinds = 8 * (1 - 2 * (kind == 2).float()), 8 * torch.nn.functional.one_hot(kind, 3).float()[..., :2]
    tracks, batch = kinds.clone(), {"kind": kind, "place": place, "track": kinds.argmax(-1)}
    right = event_loss(logit, kinds, place, tracks, batch)
    wrong = event_loss(logit.roll(1, 1), kinds.flip(-1), place.flip(1), tracks.flip(-1), batch)
    assert all(float(x) < 0.5 for x in right) and all(float(b) > float(a) for a, b in zip(right, wrong, strict=True))


def test_the_head_learns_when_which_sound_begins_and_lets_as_many_begin(recordings):
    """What it sees is whether the tone of frames to come is low, high or neither; one frame in two it sees nothing."""
    from worldgen.data.dataset import ClipSampler
    from worldgen.models.sound_events import SoundEvents
    from worldgen.training.hidden_states import HiddenStates
    from worldgen.training.sound_events import SoundEventsStage

    folder, true_events = recordings
    cache = open_cache(folder, height=16, width=16)
    segments = all_segments(cache)
    recorded = recorded_sound(cache, folder, choose_format(cache, folder), say=lambda text: None)
    _, events = build_library(recorded, segments, say=lambda text: None)
    hidden = np.random.default_rng(0).normal(size=(60, 3, 4)).astype(np.float16)
    for frame, kind in true_events:
        hidden[frame, 1, kind] += 6
    torch.manual_seed(0)
    network = SoundEvents(hidden_dim=4, action_kind="discrete", action_sizes=[5], num_sounds=2, dim=16)
    known = (
        HiddenStates(segments, np.array([0, 60]), np.stack([hidden, hidden]), stretch=20),
        ClipSampler(cache, segments, 20, with_sound=False),
    )
    actions = np.zeros((60, 1), np.int64)
    stage = SoundEventsStage(network, TOY_ACTIONS, actions, events, np.zeros(60, np.int64), known, known, batch=8)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(80):
        loss, _ = stage.loss(network, stage.batch(np.random.default_rng(step)), torch.Generator(), 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    stage.finish(network)
    figures, _ = stage.validate(network)
    assert figures["onset_f1"] > 0.9 and figures["right_kind"] > 0.9


@pytest.fixture(scope="module")
def retrieving(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with an untrained event head, to be run by torch"""
    from worldgen.models.sound_events import SoundEvents

    folder = tmp_path_factory.mktemp("worlds") / "retrieving"
    shutil.copytree(tiny_world, folder, ignore=shutil.ignore_patterns("onnx"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = SoundEvents(hidden_dim=32, action_kind="discrete", action_sizes=[5], num_sounds=2, dim=8)
    save_network(head, folder, "sound_events")
    two_sounds().save(folder)
    config = WorldConfig.load(folder / "world.json")
    write_json(folder / "world.json", replace(config, sound="retrieved").to_json())
    return folder


def test_a_world_plays_its_library_and_rewinds_it(retrieving: Path):
    world = World.load(retrieving, backend="torch")
    assert (world.sample_rate, world.channels) == (RATE, 1)
    world.reset(0)
    for action in (1, 2, 3):
        world.step(action)
    state = world.snapshot()
    first = [world.step(a).sound for a in (1, 0, 4, 2)]
    world.restore(state)
    for before, again in zip(first, (world.step(a).sound for a in (1, 0, 4, 2)), strict=True):
        assert before.shape == (SAMPLES, 1) and before.dtype == np.float32
        np.testing.assert_array_equal(before, again)
    assert any(sound.any() for sound in first)


def test_a_library_that_does_not_fit_its_head_is_named(retrieving: Path, tmp_path: Path):
    shutil.copytree(retrieving, tmp_path / "world")
    (tmp_path / "world" / LIBRARY).unlink()
    with pytest.raises(InputError, match="has no recorded sounds and a head for 2"):
        World.load(tmp_path / "world", backend="torch")
    assert World.load(tmp_path / "world", backend="torch", sound="off").reset(0).sound is None


def test_a_published_world_has_its_library_and_needs_no_starts(retrieving: Path, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    from worldgen.export.publish import publish

    shutil.copytree(retrieving, tmp_path / "world", ignore=shutil.ignore_patterns("starts"))
    publish(tmp_path / "world", tmp_path / "published", say=lambda text: None)
    world = World.load(tmp_path / "published", backend="onnxruntime")
    world.reset(0, start=toy_frame(np.array([4, 6]), 0))
    assert world.step(1).sound.shape == (SAMPLES, 1)


def test_a_world_that_retrieves_its_sound_can_be_timed(retrieving: Path):
    from worldgen.export.benchmark import benchmark

    figures = benchmark(retrieving, backends=("torch",), nfe=(1,), frames=2, long=101, say=lambda text: None)
    engine = figures["engines"]["torch"]
    assert engine["graphs"]["sound_events"]["a_frame"] == 1 and engine["long_game"]["frames"] == 101
