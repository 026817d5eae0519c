"""Figures of the sound: is what is heard with a frame what was heard in the game?

Held-out clips are played twice: `played`, the true first frames and then the world's own under the recorded actions,
and `listened`, all true frames, which judges the sound head alone; where the world hears, both after the true sound of
the first frames, from which music goes on. Beside them: silence, the true sound of another
clip (the right kind of sound at the wrong time), and the codec alone (as close as this world could come).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.backends import open_backend
from worldgen.bundle import load_network
from worldgen.errors import InputError
from worldgen.measure import WARMUP, percentiles
from worldgen.onsets import SLACK_SECONDS, is_silent, onsets
from worldgen.sound_library import SoundLibrary
from worldgen.sound_source import GRAPHS, open_sound
from worldgen.training import sound_metrics as metrics
from worldgen.training.held_out import HeldOut
from worldgen.training.recorded_sound import SoundFormat, recorded_sound
from worldgen.training.rollout import PROMPT, batch_of
from worldgen.world import World

SPAN_SECONDS = 3.0  # that a clip lasts after the prompt

KEYS = {
    "sample_rate, channels": "of the world's sound",
    "clips, clip_frames": "clips, and the frames of each after its prompt",
    "played": "the world's own frames under the recorded actions",
    "listened": "all frames are the recorded ones: the sound head alone",
    "stft_distance": "multi-resolution STFT distance to the recorded sound: mean difference of magnitudes, dB",
    "silence, shuffled, codec": "the same distance of silence, of another clip's true sound, and of the recorded sound "
    "through the codec; codec is null without torch",
    "share_of_the_way": "from shuffled (0) to the codec (1); null without torch",
    "hears": "whether the sound goes on from that of the prompt; worlds exported before that was possible do not",
    "onset_f1": "of sounds that begin within one frame of where they do in the recording, or 8 ms more, by which they "
    "are found too early or come late through the codec; null where there are none",
    "codec_onset_f1": "the same of the recorded sound through the codec: as high as it can be; null without torch",
    "shuffled_onset_f1": "the same of another clip's true sound: what chance gives",
    "onset_precision, onset_recall": "its parts",
    "onset_offset_ms": "mean distance in time of those that match",
    "onsets": "in the recordings",
    "silence_agreement": "share of frames that are silent in both or in neither",
    "silent_share": "of the recorded frames",
    "loudness_db": "root mean square of what is generated over that of what was recorded, dB",
    "click_rate, real_click_rate": "share of the borders between frames with a jump that nothing around it has",
    "ms_p50, ms_p95": "milliseconds that the sound of a frame takes, one game",
}


@dataclass(frozen=True)
class SoundPlay:
    """Sounds of the clips, (b, t, samples, channels) float32: recorded, played and listened to; and the frames that are
    seen with the first two, (b, t, h, w, 3) uint8."""

    real: np.ndarray
    played: np.ndarray
    listened: np.ndarray
    real_frames: np.ndarray
    played_frames: np.ndarray
    sample_rate: int


def sound_figures(
    folder: Path, world: World, held_out: HeldOut, data: Path, seed: int = 0
) -> tuple[dict[str, Any], SoundPlay] | str:
    """world: with sound, playing world.batch clips side by side. -> figures and the sounds, or why there are none"""
    if not held_out.has_actions:
        return "no recorded actions are known"
    batch = batch_of(world)
    assert world.sample_rate is not None
    fps = world.config.fps
    span = round(SPAN_SECONDS * fps)
    try:
        starts = held_out.clips(batch, PROMPT + span)
        sound = recorded_sound(
            held_out.cache, data, SoundFormat(world.samples, world.channels, world.sample_rate),
            say=lambda text: None, episodes=np.unique(held_out.episode_of(starts)),
        )  # fmt: skip
    except InputError as error:
        return str(error)
    starts = starts[sound.is_usable[held_out.episode_of(starts)]]
    if len(starts) < 2:
        return "fewer than two held-out clips of these recordings have sound"
    rows = np.resize(starts, batch)[:, None] + np.arange(PROMPT + span)  # repeated where too few fill the batch
    frames, actions = held_out.frames(rows), world.config.actions.values(held_out.actions[rows])
    count = len(starts)
    real = sound.rows(rows[:, PROMPT:])[:count]
    prompt = sound.rows(rows[:, :PROMPT]) if world.hears else None
    played, played_frames = _play(world, frames, actions, prompt, span, seed)
    listened = world.listen(frames, actions[:, :-1], prompt)
    heard = SoundPlay(
        real,
        played[:count],
        listened[:count, PROMPT:],
        frames[:count, PROMPT:],
        played_frames[:count],
        world.sample_rate,
    )
    codec = _codec(folder, sound.rows(rows)[:count])
    shuffled = np.roll(real, 1, axis=0)
    rate, within = world.sample_rate, tolerance(fps)
    distances = {
        "silence": _distance(np.zeros_like(real), real),
        "shuffled": _distance(shuffled, real),
        "codec": None if codec is None else _distance(codec, real),
    }
    figures = {
        "sample_rate": rate,
        "channels": world.channels,
        "clips": count,
        "clip_frames": span,
        **distances,
        "hears": world.hears,
        "codec_onset_f1": None if codec is None else _onset_figures(codec, real, rate, within)["onset_f1"],
        "shuffled_onset_f1": _onset_figures(shuffled, real, rate, within)["onset_f1"],
        "silent_share": float(is_silent(real).mean()),
        "real_click_rate": float(np.mean([metrics.click_rate(x) for x in real])),
        **{name: _figures(getattr(heard, name), real, rate, within, distances) for name in ("played", "listened")},
        **_cost(folder, world),
    }
    return figures, heard


def tolerance(fps: float) -> float:
    """Seconds by which an onset may be early or late: a frame, and what finding it is off by"""
    return 1 / fps + SLACK_SECONDS


def _play(
    world: World, frames: np.ndarray, actions: Any, prompt: np.ndarray | None, span: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """prompt: sound of the first frames, None where the world cannot hear it -> sound (b, span, samples, channels),
    frames (b, span, h, w, 3)"""
    seeds = [seed + i for i in range(batch_of(world))]
    world.reset(seeds, start=frames[:, :PROMPT], start_actions=actions[:, : PROMPT - 1], start_sound=prompt)
    steps = [world.step(actions[:, PROMPT - 1 + i]) for i in range(span)]
    return np.stack([s.sound for s in steps if s.sound is not None], axis=1), np.stack([s.image for s in steps], axis=1)


def _figures(
    made: np.ndarray, real: np.ndarray, rate: int, within: float, distances: dict[str, float | None]
) -> dict[str, Any]:
    distance, shuffled, codec = _distance(made, real), distances["shuffled"], distances["codec"]
    way = None
    if codec is not None and shuffled is not None and shuffled > codec:
        way = (shuffled - distance) / (shuffled - codec)
    return {
        "stft_distance": distance,
        "share_of_the_way": way,
        **_onset_figures(made, real, rate, within),
        "silence_agreement": float((is_silent(made) == is_silent(real)).mean()),
        "loudness_db": metrics.loudness_db(made) - metrics.loudness_db(real),
        "click_rate": float(np.mean([metrics.click_rate(x) for x in made])),
    }


def _distance(made: np.ndarray, real: np.ndarray) -> float:
    return float(np.mean([metrics.stft_distance(_line(a), _line(b)) for a, b in zip(made, real, strict=True)]))


def _onset_figures(made: np.ndarray, real: np.ndarray, rate: int, within: float) -> dict[str, Any]:
    matches = [
        metrics.match_onsets(onsets(_line(a), rate), onsets(_line(b), rate), within)
        for a, b in zip(made, real, strict=True)
    ]
    hits, num_made, num_real = (sum(getattr(m, name) for m in matches) for name in ("hits", "made", "real"))
    offsets = [abs(x) for m in matches for x in m.offsets]
    return {
        "onset_f1": metrics.f1(hits, num_made, num_real),
        "onset_precision": hits / num_made if num_made else None,
        "onset_recall": hits / num_real if num_real else None,
        "onset_offset_ms": 1000 * float(np.mean(offsets)) if offsets else None,
        "onsets": num_real,
    }


def _line(clip: np.ndarray) -> np.ndarray:
    """(t, samples, channels) -> (t * samples, channels)"""
    return clip.reshape(-1, clip.shape[-1])


def _codec(folder: Path, sound: np.ndarray) -> np.ndarray | None:
    """sound (b, PROMPT + t, samples, channels) through the codec: (b, t, samples, channels); None without torch"""
    try:
        import torch
    except ImportError:
        return None
    if not (folder / "sound_codec").is_dir():
        return None
    codec = load_network(folder, "sound_codec")
    with torch.inference_mode():
        wave = torch.from_numpy(sound)
        return codec.decode(codec.encode(wave), codec.empty_tail(len(wave)))[0].numpy()[:, PROMPT:]


def _cost(folder: Path, world: World, frames: int = 100) -> dict[str, float]:
    """Of the sound alone, hidden state in to samples out, one game"""
    backend = open_backend(folder, world.backend_name)
    source = open_sound(world.config, backend, world.sound, SoundLibrary.load(folder))
    if source is None:
        return {}
    spec = backend.specs[GRAPHS[world.sound]]
    hidden, action = (backend.asarray(spec.input(name).zeros(1)) for name in ("hidden", "action"))
    state, ms = source.empty(1), []
    for i in range(frames):
        began = time.perf_counter()
        _, state = source.play(hidden, action, state, np.zeros(1, np.uint64), np.full(1, i))
        ms.append(1000 * (time.perf_counter() - began))
    return percentiles(np.array(ms[WARMUP:]))
