"""Atari 2600 games through the Arcade Learning Environment: `ale:NAME` for the ROMs in ale-py's wheel.

The console runs at 60 frames a second; one frame here is a whole number of them (4 at the default 15 fps) with the
action held throughout, the last one shown (no pooling), no sticky actions. Its sound is 512 samples per console frame
at 30,720 Hz: unsigned and off-centre, so the mean is filtered out with a filter that runs through frame borders.

The emulator is GPL-2.0 and the ROMs are commercial: recordings serve to measure, not to publish.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.envs.catalogue import did_you_mean
from worldgen.envs.game import GameFrame
from worldgen.errors import InputError, MissingExtraError

try:
    import ale_py
    from ale_py import roms
except ImportError:
    raise MissingExtraError("recording Atari games", "atari") from None

ROMS = Path(roms.__file__).parent
CONSOLE_FPS = 60
SAMPLES = 512  # per console frame
MAX_IDLE_START = 30  # console frames that pass before frame 0, by seed: no two episodes start alike
LICENCE = "ALE: GPL-2.0; commercial ROM: recordings are for measuring only, do not publish clips or weights"
# what a state column is called, and the byte of the console's memory that holds it
MEMORY = {
    "breakout": {"ball_x": 99, "ball_y": 101, "player_x": 72},
    "pong": {"ball_x": 49, "ball_y": 54, "player_y": 51, "enemy_y": 50},
}
KEYS = {"LEFT": "left", "RIGHT": "right", "UP": "up", "DOWN": "down", "FIRE": "space"}


def rom_names() -> list[str]:
    return sorted(p.stem for p in ROMS.glob("*.bin"))


class AleGame:
    """An Atari game as a Game that can be saved and loaded: picture, memory and score exactly, sound but for the phase
    of its oscillators, which ALE does not save."""

    licence = LICENCE
    channels = 1

    def __init__(self, rom: str, fps: float | None = None):
        if rom not in rom_names():
            raise InputError(f"unknown game ale:{rom}: {did_you_mean(rom, rom_names())}")
        self.rom = rom
        self.name = f"ale:{rom}"
        self.fps = 15.0 if fps is None else float(fps)
        self.skip = round(CONSOLE_FPS / self.fps) if self.fps > 0 else 0
        if self.skip < 1 or CONSOLE_FPS / self.skip != self.fps:
            raise InputError(f"--fps {fps:g}: the console runs at 60; choose 60, 30, 20, 15, 12 or 10")
        self.sample_rate: int | None = CONSOLE_FPS * SAMPLES
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale = self._boot(seed=0)
        self._buttons = self._ale.getMinimalActionSet()
        pressed = [_pressed(b.name) for b in self._buttons]
        self.actions = ActionMap.discrete(
            [" + ".join(p).lower() or "idle" for p in pressed], [[KEYS[b] for b in p] for p in pressed]
        )
        self._filter = HighPass()

    def reset(self, seed: int) -> GameFrame:
        self._ale = self._boot(seed)
        for _ in range(int(np.random.default_rng(seed).integers(MAX_IDLE_START + 1))):
            self._ale.act(0)
        self._filter, self._score = HighPass(), 0.0
        self._filter(self._ale.getAudio())  # settles; frame 0 itself is silent
        return self._see(np.zeros((self.skip * SAMPLES, 1), np.int16), reward=0.0)

    def step(self, action: Any) -> GameFrame:
        if self._ale.game_over():
            raise InputError(f"{self.name}: the episode is over: call reset(seed)")
        reward, sound = 0.0, []
        for _ in range(self.skip):
            if not self._ale.game_over():
                reward += self._ale.act(self._buttons[int(action)])
                sound.append(self._ale.getAudio().copy())
            else:  # inside the last frame: the level that sounded last, which is silence
                sound.append(np.full(SAMPLES, sound[-1][-1]))
        self._score += reward
        return self._see(self._filter(np.concatenate(sound))[:, None], reward)

    def close(self) -> None:
        pass

    def save(self) -> bytes:
        extra = json.dumps({"game": self.name, "score": self._score, "filter": self._filter.state}).encode()
        return extra + b"\n" + self._ale.cloneState(include_rng=True).serialize()

    def load(self, state: bytes) -> None:
        head, _, body = state.partition(b"\n")
        try:
            extra = json.loads(head)
            game, self._score, memory = extra["game"], extra["score"], tuple(extra["filter"])
        except (ValueError, KeyError, TypeError):
            raise InputError(f"not a saved state of {self.name}") from None
        if game != self.name:
            raise InputError(f"a saved state of {game} does not fit {self.name}")
        self._filter = HighPass(memory)
        self._ale.restoreState(ale_py.ALEState(body))

    def _see(self, sound: np.ndarray, reward: float) -> GameFrame:
        memory = self._ale.getRAM()
        state = {"score": self._score, "lives": float(self._ale.lives())}
        state |= {k: float(memory[i]) for k, i in MEMORY.get(self.rom, {}).items()}
        is_cut = self._ale.game_truncated()
        is_over = self._ale.game_over(with_truncation=False)
        return GameFrame(self._ale.getScreenRGB(), sound, float(reward), is_over, is_cut and not is_over, state)

    def _boot(self, seed: int) -> ale_py.ALEInterface:
        ale = ale_py.ALEInterface()
        ale.setInt("random_seed", seed % 2**31)
        ale.setInt("frame_skip", 1)
        ale.setFloat("repeat_action_probability", 0.0)
        ale.setBool("sound_obs", True)
        ale.loadROM(ROMS / f"{self.rom}.bin")
        ale.reset_game()
        return ale


class HighPass:
    """Takes the mean out of a stream of unsigned 8-bit samples, block after block, without a click between them."""

    keep = 0.995  # one pole near 25 Hz at 30,720 Hz
    gain = 128.0  # the full 8-bit swing stays within int16

    def __init__(self, state: tuple[float, ...] = ()):
        self.state = state  # the last sample in and the last out

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """block (n,) uint8 -> (n,) int16"""
        x = block.astype(np.float64) - 128.0
        last_in, last_out = self.state or (x[0], 0.0)
        # y[i] = keep * (y[i - 1] + x[i] - x[i - 1]), unrolled
        powers = self.keep ** np.arange(1, len(x) + 1)
        y = powers * (last_out + np.cumsum(np.diff(x, prepend=last_in) * self.keep / powers))
        self.state = (float(x[-1]), float(y[-1]))
        return (y * self.gain).clip(-32768, 32767).astype(np.int16)


def _pressed(name: str) -> list[str]:
    """UPRIGHTFIRE -> UP, RIGHT, FIRE"""
    return [b for b in ("UP", "DOWN", "LEFT", "RIGHT", "FIRE") if b in name]
