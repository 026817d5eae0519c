"""WorldConfig: the facts of a world, saved as world.json. Everything a runtime needs besides the graphs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from worldgen.actions import ActionMap
from worldgen.errors import InputError

FORMAT_VERSION = 1
MAX_WORLD_FPS = 240
NFE_CHOICES = (1, 2, 4)
SOUND_CHOICES = ("generated", "retrieved", "off")


@dataclass(frozen=True)
class WorldConfig:
    """The facts of a world.

    name: what it is called.
    height, width: of a frame that the world generates, in pixels.
    fps: frames a second; one action a frame.
    actions: what it accepts, with names and keys.
    context: frames that the dynamics can look back on.
    nfe: default number of function evaluations (denoising steps) a frame: 1, 2 or 4.
    context_sigma: noise level at which finished frames are shown to the dynamics (1 noise .. 0 clean).
    has_reward, has_terminated: whether trained heads give them; without one the value is 0.0 or False.
    action_source: "recorded" or "latent".
    sound: "generated" by a sound head, "retrieved" from a library of recorded sounds, or "off": what is played unless
        World.load() is told otherwise.
    end_threshold: probability above which the game has ended; training chooses the one of the best F1.
    shaping: what its reward holds besides the game's own: state columns of the recordings, and what it counts that one
        rose by 1 ({"damage_taken": -1.0}).
    """

    name: str
    height: int
    width: int
    fps: float
    actions: ActionMap
    context: int
    nfe: int = 1
    context_sigma: float = 0.1
    has_reward: bool = False
    has_terminated: bool = False
    action_source: str = "recorded"
    sound: str = "off"
    end_threshold: float = 0.5
    shaping: dict[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("height", "width", "context", "nfe"):
            if not isinstance(getattr(self, name), int):
                raise InputError(f"{name} is a whole number, got {getattr(self, name)!r}")
        if self.height < 8 or self.width < 8:
            raise InputError(f"a frame is at least 8x8, got {self.width}x{self.height}")
        if not 0 < self.fps <= MAX_WORLD_FPS:
            raise InputError(f"fps is between 0 and {MAX_WORLD_FPS}, got {self.fps}")
        if self.context < 1:
            raise InputError(f"context is at least 1 frame, got {self.context}")
        if self.nfe not in NFE_CHOICES:
            raise InputError(f"nfe is one of {NFE_CHOICES}, got {self.nfe}")
        if not 0 <= self.context_sigma < 1:
            raise InputError(f"context_sigma is in [0, 1), got {self.context_sigma}")
        if not 0 < self.end_threshold < 1:
            raise InputError(f"end_threshold is a probability above 0 and below 1, got {self.end_threshold}")
        if self.action_source not in ("recorded", "latent"):
            raise InputError(f"action_source is 'recorded' or 'latent', got {self.action_source!r}")
        check_shaping(self.shaping)
        if self.sound not in SOUND_CHOICES:
            raise InputError(f"sound is one of {', '.join(SOUND_CHOICES)}, got {self.sound!r}")

    def to_json(self) -> dict[str, Any]:
        facts = {"format_version": FORMAT_VERSION, **asdict(self), "actions": self.actions.to_json()}
        return facts if self.shaping else {k: v for k, v in facts.items() if k != "shaping"}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> WorldConfig:
        if not isinstance(raw, dict):
            raise InputError(f"a world's facts are an object, got {raw!r}")
        version = raw.get("format_version")
        if version != FORMAT_VERSION:
            raise InputError(
                f"world format {version!r}; this worldgen reads {FORMAT_VERSION}: update worldgen or retrain"
            )
        facts = {k: v for k, v in raw.items() if k != "format_version"}
        try:
            return cls(**{**facts, "actions": ActionMap.from_json(facts["actions"])})
        except (KeyError, TypeError) as error:
            raise InputError(f"not a world's facts ({error})") from None

    @classmethod
    def load(cls, path: Path) -> WorldConfig:
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(f"{path.parent} is not a world: no {path.name} in it") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not JSON ({error})") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def check_shaping(shaping: object) -> None:
    """Raises InputError where these are no names of state columns with a finite number each."""
    if not isinstance(shaping, dict):
        raise InputError(f"shaping is an object of state columns and their weights, got {shaping!r}")
    for name, weight in shaping.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise InputError(f"the weight of {name} in shaping is a finite number, got {weight!r}")
