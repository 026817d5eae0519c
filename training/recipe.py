"""What a user chooses of a training, checked before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from worldgen.config import check_shaping
from worldgen.errors import InputError
from worldgen.training.compiled import COMPILED

STAGES = (
    "tokenizer", "latent_action", "dynamics", "heads", "super_resolution", "between", "sound_codec", "sound",
    "sound_events",
)  # fmt: skip
CRITICISED = ("tokenizer", "super_resolution")  # the stages that make pictures


@dataclass(frozen=True)
class Recipe:
    """What a user chose. steps: of every stage, instead of the preset's. minutes: of training in all, shared out.
    sounds: a folder of sounds for the stage sound_events to play instead of the recordings' own. sharpen: weight of the
    critic's losses in CRITICISED, 0 for none. labels: share of the training frames whose recorded action latent actions
    may learn from. shaping: what the heads' reward holds besides the recorded one (WorldConfig). shard: of several
    processes each holds a part of the network. compile: the stages COMPILED are."""

    data: Path
    out: Path
    preset: str = "tiny"
    actions: str = "recorded"
    minutes: float | None = None
    steps: int | None = None
    stages: tuple[str, ...] = ()
    source: Path | None = None
    resume: bool = False
    seed: int = 0
    name: str | None = None
    sounds: Path | None = None
    labels: float = 0.0
    sharpen: float = 0.0
    shard: bool = False
    compile: bool = False
    shaping: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.actions not in ("recorded", "latent"):
            raise InputError(f"unknown --actions {self.actions!r}; choose recorded or latent")
        if unknown := [s for s in self.stages if s not in STAGES]:
            raise InputError(f"unknown stage {unknown[0]!r}; choose {', '.join(STAGES)}")
        if self.minutes is not None and self.minutes <= 0:
            raise InputError(f"--minutes is above 0, got {self.minutes}")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"--steps is at least 1, got {self.steps}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"--seed is between 0 and 2**63, got {self.seed}")
        if self.sounds is not None and "sound_events" not in self.stages:
            raise InputError("--sounds belongs to --stages sound_events")
        if not 0 <= self.labels <= 1:
            raise InputError(f"--labels is a share of the frames, 0 to 1, got {self.labels}")
        if self.labels and self.actions != "latent":
            raise InputError("--labels belongs to --actions latent; recorded actions are all used")
        if not 0 <= self.sharpen <= 1:
            raise InputError(f"--sharpen is between 0 and 1, got {self.sharpen}")
        if self.sharpen and self.stages and not set(self.stages) & set(CRITICISED):
            raise InputError(f"--sharpen belongs to --stages {' '.join(CRITICISED)}")
        check_shaping(self.shaping)
        if self.shaping and self.stages and "heads" not in self.stages:
            raise InputError("--shaping belongs to --stages heads, which give the reward")
        if "latent_action" in self.stages and self.actions != "latent":
            raise InputError("the stage latent_action belongs to --actions latent")
        if self.compile and self.stages and not set(self.stages) & set(COMPILED):
            raise InputError(f"--compile belongs to --stages {' '.join(COMPILED)}: nothing else is compiled")
        if self.compile and self.shard:
            raise InputError("--compile and --shard do not go together: choose one")
