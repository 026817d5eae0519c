"""What tests of several games share: playing them, comparing what they show, reading what was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np

from worldgen.envs.game import Game, GameFrame


def play(game: Game, seed: int, num_frames: int, action_seed: int = 0) -> list[GameFrame]:
    """The frames of an episode that random actions make, the first included."""
    frames = [game.reset(seed)]
    return frames + go_on(game, num_frames - 1, action_seed)


def go_on(game: Game, num_frames: int, action_seed: int = 0) -> list[GameFrame]:
    rng = np.random.default_rng(action_seed)
    frames: list[GameFrame] = []
    while len(frames) < num_frames and not (frames and is_over(frames[-1])):
        frames.append(game.step(game.actions.sample(rng)))
    return frames


def is_over(frame: GameFrame) -> bool:
    return frame.terminated or frame.truncated


def assert_same(first: list[GameFrame], second: list[GameFrame], has_same_sound: bool = True) -> None:
    assert len(first) == len(second)
    for t, (a, b) in enumerate(zip(first, second, strict=True)):
        assert np.array_equal(a.image, b.image), f"frame {t}"
        assert not has_same_sound or np.array_equal(a.sound, b.sound), f"sound of frame {t}"
        assert (a.reward, a.terminated, a.truncated) == (b.reward, b.terminated, b.truncated), f"frame {t}"
        assert a.state == b.state, f"state of frame {t}"


def read_recording(path: Path) -> tuple[np.ndarray, np.ndarray | None, list[dict[str, Any]]]:
    """-> frames (t, h, w, 3) uint8, sound (samples, channels) int16 or None, rows."""
    with av.open(str(path)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    with av.open(str(path)) as container:
        sound = None
        if container.streams.audio:
            channels = container.streams.audio[0].channels
            blocks = [f.to_ndarray() for f in container.decode(audio=0)]  # packed: (1, samples * channels)
            sound = np.concatenate([b.reshape(-1, channels) for b in blocks])
    rows = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    return frames, sound, rows


def recordings(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.mkv"))
