"""ToyGame: the project's own platformer, whose every number, pixel and sample is known exactly.

    game = ToyGame(fps=30)
    frame = game.reset(seed=0)
    frame = game.step(2)  # run right; frame.image, frame.sound, frame.reward, frame.state
    game.masks()["player"]  # which pixels of that picture are the player

Run, jump, collect coins, stomp on walkers or avoid them, do not fall into the pits, reach the flag. A jump starts when
jump is pressed anew; holding it jumps higher. After death or the flag the picture closes for 0.6 s, then `terminated`.
Pure numpy, and rules in whole numbers only: the same seed and actions give the same frames and sounds.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.envs.game import GameFrame
from worldgen.envs.toy_level import SUB, Level, generate_level
from worldgen.envs.toy_physics import DEAD, PLAYING, REWARDS, TICK_RATE, TIME_LIMIT, WON, PlayState, advance
from worldgen.envs.toy_scenery import Scenery
from worldgen.envs.toy_sound import SAMPLE_RATE, effects, mix
from worldgen.envs.toy_view import draw_labels, draw_picture, find_camera
from worldgen.errors import InputError

ACTIONS = ActionMap.discrete(
    names=("idle", "left", "right", "jump", "left+jump", "right+jump"),
    keys=((), ("left",), ("right",), ("space",), ("left", "space"), ("right", "space")),
)
FRAME_RATES = (10, 12, 15, 20, 30, 60)  # each divides the ticks and the samples of a second
SAMPLES_PER_TICK = SAMPLE_RATE // TICK_RATE
NUM_NEAREST = 3  # walkers that `state` tells of
SAVE_FORMAT = "toy-game-1"


class ToyGame:
    """A Game that can be forked. A frame is one or more ticks of 1/60 s, so that a play sounds and ends the same at
    every frame rate; the picture is drawn at its own size, a window on a level 128 pixels high."""

    name = "toy"
    licence = "Apache-2.0"
    actions = ACTIONS
    sample_rate: int | None = SAMPLE_RATE
    channels = 1

    def __init__(self, fps: float = 30, height: int = 128, width: int = 128):
        if fps not in FRAME_RATES:
            raise InputError(f"ToyGame cannot run at {fps} fps; choose {', '.join(map(str, FRAME_RATES))}")
        if not (32 <= height <= 512 and 32 <= width <= 512):
            raise InputError(f"ToyGame cannot draw {width}x{height} pixels; choose 32 to 512 on each side")
        self.fps = float(fps)
        self.height, self.width = height, width
        self.ticks_per_frame = TICK_RATE // int(fps)
        self._level: Level | None = None
        self._scenery: Scenery | None = None
        self._play: PlayState | None = None
        self._voices: list[tuple[str, int]] = []  # effect, sample it started at

    @property
    def level(self) -> Level:
        if self._level is None:
            raise InputError("ToyGame has no level yet: call reset(seed) first")
        return self._level

    @property
    def play(self) -> PlayState:
        """The state of the play; a player may copy it and look ahead with toy_physics.advance."""
        if self._play is None:
            raise InputError("ToyGame has not started: call reset(seed) first")
        return self._play

    def reset(self, seed: int) -> GameFrame:
        self._enter(seed)
        self._play, self._voices = PlayState.at_start(self.level), []
        silence = np.zeros((SAMPLES_PER_TICK * self.ticks_per_frame, 1), np.int16)
        return GameFrame(self.image(), silence, state=self.state())

    def step(self, action: Any) -> GameFrame:
        if action not in range(6):
            raise InputError(f"action {action!r} is outside {ACTIONS.describe()}")
        if self.play.is_over or self._is_out_of_time():
            raise InputError("this game has ended: call reset(seed) to play another")
        play, reward, begin = self.play, 0.0, self.play.tick * SAMPLES_PER_TICK
        for i in range(self.ticks_per_frame):
            for event in advance(self.level, play, int(action)):
                reward += REWARDS.get(event, 0.0)
                self._voices.append((event, begin + i * SAMPLES_PER_TICK))
        return GameFrame(
            image=self.image(),
            sound=self._sound(begin),
            reward=reward,
            terminated=play.is_over,
            truncated=self._is_out_of_time(),
            state=self.state(),
        )

    def close(self) -> None:
        pass

    def save(self) -> bytes:
        """Everything that decides the future, as JSON: any ToyGame can load it, whatever its frame rate or size."""
        saved = {"format": SAVE_FORMAT, "seed": self.level.seed, "play": asdict(self.play), "voices": self._voices}
        return json.dumps(saved).encode()

    def load(self, state: bytes) -> None:
        seed, play, voices = _read_save(state)
        self._enter(seed)
        self._play, self._voices = play, voices

    def image(self) -> np.ndarray:
        """The current picture, (h, w, 3) uint8"""
        assert self._scenery is not None
        return draw_picture(self._scenery, self.level, self.play)

    def masks(self) -> dict[str, np.ndarray]:
        """Which pixels of the current picture are what, each (h, w) bool: player, walkers, coins, flag, ground.
        A pixel belongs to at most one: the thing that is seen there."""
        assert self._scenery is not None
        return draw_labels(self._scenery, self.level, self.play)

    def state(self) -> dict[str, float]:
        """Exact numbers. Positions are pixels in the level, the top left of the box that touches; speeds are pixels a
        second. A walker that does not exist has is_alive 0 and position 0."""
        level, play = self.level, self.play
        camera_x, camera_y = find_camera(self.height, self.width, level, play)
        out = {
            "x": play.x / SUB,
            "y": play.y / SUB,
            "vx": play.vx * TICK_RATE / SUB,
            "vy": play.vy * TICK_RATE / SUB,
            "on_ground": int(play.on_ground),
            "facing": play.facing,
            "is_dead": int(play.outcome == DEAD),
            "has_won": int(play.outcome == WON),
            "camera_x": camera_x,
            "camera_y": camera_y,
            "coins": len(play.taken),
            "stomps": len(play.stomped),
            "tick": play.tick,
            "flag_x": level.flag[0],
        }
        for i, (x, y, way) in enumerate(self._nearest_walkers()):
            out |= {f"walker{i}_alive": int(way != 0), f"walker{i}_x": x, f"walker{i}_y": y, f"walker{i}_facing": way}
        return out

    def _nearest_walkers(self) -> list[tuple[float, int, int]]:
        """x, y, direction of the living walkers nearest to the player; direction 0 where there are too few."""
        play = self.play
        alive = [w for i, w in enumerate(self.level.walkers) if i not in play.stomped]
        places = [(*w.position(play.tick), w.y) for w in alive]
        places.sort(key=lambda place: abs(place[0] - play.x))
        nearest = [(x / SUB, y, way) for x, way, y in places[:NUM_NEAREST]]
        return nearest + [(0.0, 0, 0)] * (NUM_NEAREST - len(nearest))

    def _sound(self, begin: int) -> np.ndarray:
        count = SAMPLES_PER_TICK * self.ticks_per_frame
        sound = mix(self._voices, begin, count)
        self._voices = [(n, at) for n, at in self._voices if at + len(effects()[n]) > begin + count]
        return sound

    def _is_out_of_time(self) -> bool:
        return self.play.outcome == PLAYING and self.play.tick >= TIME_LIMIT

    def _enter(self, seed: int) -> None:
        """Lay out and paint the level, unless it is the one that is there."""
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise InputError(f"seed {seed!r} is not a whole number of 0 or more")
        if self._level is None or self._level.seed != seed:
            self._level = generate_level(int(seed))
            self._scenery = Scenery(self._level, self.height, self.width)


def _read_save(state: bytes) -> tuple[int, PlayState, list[tuple[str, int]]]:
    """-> seed, play, voices"""
    try:
        saved = json.loads(state)
        written = saved["format"]
        play = saved["play"]
        for table in ("taken", "stomped"):  # JSON has no whole-number keys
            play[table] = {int(k): int(v) for k, v in play[table].items()}
        voices = [(str(name), int(at)) for name, at in saved["voices"]]
        out = int(saved["seed"]), PlayState(**play), voices
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not a saved ToyGame ({type(error).__name__}: {error})") from None
    if written != SAVE_FORMAT:
        raise InputError(f"a saved game of format {written!r}, but this version reads {SAVE_FORMAT!r}")
    return out
