"""Music: found in recordings, played with crossfades; and a user's own files, chosen by likeness or in words."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from worldgen.data.dataset import Segments
from worldgen.errors import InputError
from worldgen.sound_library import SoundLibrary
from worldgen.sound_music import FADE_SECONDS, MusicPlayer
from worldgen.training.recorded_sound import RecordedSound, SoundFormat
from worldgen.training.sound_files import replace_with, text_scores
from worldgen.training.sound_library import build_library
from worldgen.training.sound_music import find_music, looped
from worldgen.training.sound_onsets import recorded_onset_places

RATE, SAMPLES = 8000, 400


def chord(pitches: tuple[float, ...], seconds: float) -> np.ndarray:
    """(n, 1) float32, never quiet"""
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * sum(np.sin(2 * np.pi * p * t) for p in pitches) / len(pitches))[:, None].astype(np.float32)


def library() -> SoundLibrary:
    """One effect and two tracks of music of a constant value each, so that gains can be read off"""
    clips = [np.full((n, 1), v, np.int16) for n, v in ((900, 100), (3000, 8192), (5000, -16384))]
    return SoundLibrary.of(clips, ["sound 1", "music 1", "music 2"], RATE, SAMPLES, num_music=2)


def test_two_tracks_of_recorded_music_are_told_apart_and_loop_without_a_seam():
    line = np.concatenate([chord((220, 330), 16), np.zeros((8 * RATE, 1), np.float32), chord((700, 1900), 12)])
    sound = (line * 32767).astype(np.int16).reshape(-1, SAMPLES, 1)
    segments = Segments(np.array([0]), np.array([len(sound)]))
    found = find_music(RecordedSound(SoundFormat(SAMPLES, 1, RATE), sound, np.array([True]), ()), segments)
    seconds = (np.arange(len(sound)) + 0.5) * SAMPLES / RATE
    truth = np.where(seconds < 16, 0, np.where(seconds < 24, 2, 1))
    assert len(found.tracks) == 2 and (found.track == truth).all()
    jumps = np.abs(np.diff(np.concatenate([found.tracks[0], found.tracks[0]])[:, 0].astype(int)))
    assert jumps[len(found.tracks[0]) - 1] <= jumps.max() and jumps.max() < 0.2 * 32767


def test_notes_of_the_music_are_no_sounds_of_their_own():
    line = 0.1 * chord((220, 330), 16)
    beat, effect = 3 * chord((2500,), 0.06), 3 * chord((900,), 0.1)
    for i in range(30):
        line[4000 + i * RATE // 2 :][: len(beat)] += beat
    line = np.concatenate([line, np.zeros((4 * RATE, 1), np.float32)])
    for second in (16.5, 17.5, 18.5, 19.2):
        line[round(second * RATE) :][: len(effect)] += effect
    sound = (np.clip(line, -1, 1) * 32767).astype(np.int16).reshape(-1, SAMPLES, 1)
    recorded = RecordedSound(SoundFormat(SAMPLES, 1, RATE), sound, np.array([True]), ())
    segments = Segments(np.array([0]), np.array([len(sound)]))
    library, events = build_library(recorded, segments, find_music(recorded, segments), say=lambda text: None)
    assert (library.num_effects, library.num_music) == (1, 1)
    assert [round(e.frame * SAMPLES / RATE, 1) for e in events] == [16.5, 17.5, 18.5, 19.2]


def test_a_sound_that_begins_with_a_frame_is_that_frames_however_it_was_found():
    sound = np.zeros((80, 333, 1), np.int16)  # a frame is no whole number of the hops that onsets are found in
    for frame in range(5, 80, 10):
        sound[frame : frame + 2] = (chord((600,), 666 / RATE) * 32767).astype(np.int16).reshape(2, 333, 1)
    recorded = RecordedSound(SoundFormat(333, 1, RATE), sound, np.array([True]), ())
    places = recorded_onset_places(recorded, Segments(np.array([0]), np.array([80])))
    assert np.flatnonzero(places >= 0).tolist() == list(range(5, 80, 10)) and places.max() < 0.2


def test_recordings_of_effects_alone_have_no_music():
    line = np.zeros((20 * RATE, 1), np.float32)
    for second in range(0, 20, 2):
        line[second * RATE : second * RATE + 800] = chord((500,), 0.1)
    sound = (line * 32767).astype(np.int16).reshape(-1, SAMPLES, 1)
    segments = Segments(np.array([0]), np.array([len(sound)]))
    found = find_music(RecordedSound(SoundFormat(SAMPLES, 1, RATE), sound, np.array([True]), ()), segments)
    assert found.tracks == [] and (found.track == 0).all()


def test_the_end_of_a_loop_fades_into_its_beginning():
    ramp = np.linspace(-0.5, 0.5, 2 * RATE)[:, None]
    out = looped(ramp, RATE) / 32767
    assert abs(out[0, 0] - ramp[len(out), 0]) < 1e-3  # goes on where the piece would have


def test_music_begins_when_it_is_asked_for_long_enough_and_fades_into_the_next():
    player = MusicPlayer(library())
    state, heard = player.empty(1)[0], []
    per_second = RATE / SAMPLES
    for i in range(round(5 * per_second)):
        wanted = 0 if i < 2 * per_second else 1
        wanted = 1 - wanted if i % 17 == 5 else wanted  # a frame's mistake changes nothing
        sound, state = player.play(state, wanted)
        assert sound.shape == (SAMPLES, 1)
        heard.append(sound)
    line = np.concatenate(heard)[:, 0]
    assert line[0] == 0 and np.isclose(line[int(1.8 * RATE)], 0.25, atol=1e-3) and np.isclose(line[-1], -0.5, atol=1e-3)
    assert np.abs(np.diff(line)).max() < 0.75 * np.pi / 2 / (FADE_SECONDS * RATE) * 1.1  # it never jumps
    restored, _ = player.play(state.copy(), 1)
    np.testing.assert_array_equal(restored, player.play(state, 1)[0])


def test_no_music_fades_out_to_exact_silence():
    player = MusicPlayer(library())
    state = player.empty(1)[0]
    for i in range(80):
        sound, state = player.play(state, 0 if i < 40 else -1)
    assert not sound.any() and state[0] == -1


def write(path: Path, sound: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound * 32767).astype(np.int16).tobytes())


def recorded() -> SoundLibrary:
    clips = [(x * 32767).astype(np.int16) for x in (chord((400,), 0.3), chord((220, 330), 8))]
    return SoundLibrary.of(clips, ["sound 1", "music 1"], RATE, SAMPLES, num_music=1)


def test_own_files_stand_in_by_likeness_or_in_words_and_music_for_music(tmp_path: Path):
    write(tmp_path / "fx" / "SwordHit.wav", chord((1500,), 0.3))
    write(tmp_path / "fx" / "beep.wav", chord((410,), 0.3))
    write(tmp_path / "calm" / "piano.wav", chord((210, 340), 7))
    write(tmp_path / "battle" / "drums.wav", chord((900, 1300), 7))
    assert replace_with(recorded(), tmp_path, say=lambda text: None).names == ("beep", "piano")
    (tmp_path / "sounds.json").write_text(json.dumps({"sound 1": "sword hits metal", "music 1": "battle"}))
    said: list[str] = []
    chosen = replace_with(recorded(), tmp_path, said.append)
    assert chosen.names == ("SwordHit", "drums") and chosen.num_music == 1 and len(chosen.music(0)) > 6 * RATE
    assert "'sword hits metal'" in said[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [('{"sound 9": "x"}', "the library has no 'sound 9'; it has sound 1"),
     ('{"sound 1": "violin"}', "is like 'violin'"), ("[]", "not of the form")],
)  # fmt: skip
def test_a_query_that_cannot_be_answered_is_named(tmp_path: Path, text: str, reason: str):
    write(tmp_path / "beep.wav", chord((410,), 0.3))
    (tmp_path / "sounds.json").write_text(text)
    with pytest.raises(InputError, match=reason):
        replace_with(recorded(), tmp_path, say=lambda text: None)


def test_an_encoder_finds_words_of_like_meaning_and_one_that_is_missing_is_named(monkeypatch, tmp_path: Path):
    meaning = {"coin pickup": [1.0, 0.0], "door slam": [0.0, 1.0], "money": [0.9, 0.1]}
    scores = text_scores("money", ["door slam", "coin pickup"], lambda texts: np.array([meaning[t] for t in texts]))
    assert scores.argmax() == 1 and (text_scores("money", ["door slam", "coin pickup"]) == 0).all()
    write(tmp_path / "beep.wav", chord((410,), 0.3))
    (tmp_path / "sounds.json").write_text('{"sound 1": "beep"}')
    monkeypatch.setenv("WORLDGEN_TEXT_ENCODER", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="sentence-transformers|is no folder"):
        replace_with(recorded(), tmp_path, say=lambda text: None)
