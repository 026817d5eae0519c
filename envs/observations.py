"""What an agent sees of a world: its pictures, or what the world makes them from."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from worldgen.envs.env_errors import EnvError
from worldgen.world import Frame, World

OBSERVATIONS = ("frames", "upscaled", "tokens", "hidden")
LARGEST = np.finfo(np.float32).max  # tokens and hidden states have no bounds, which Gymnasium warns of


class Observer:
    """kind: "frames" of the world's own size, (h, w, 3) uint8; "upscaled", those that super-resolution makes larger;
    "tokens" (n, d), the frame as the tokenizer has it; "hidden" (m, c), what the heads read, both float32.
    as_torch: as tensors, where the engine has them."""

    def __init__(self, world: World, kind: str, as_torch: bool):
        if kind not in OBSERVATIONS:
            raise EnvError(f"unknown observation {kind!r}; choose {', '.join(OBSERVATIONS)}")
        is_upscaled = world.image_size != (world.config.height, world.config.width)
        if kind == "upscaled" and not is_upscaled:
            raise EnvError(
                f"world {world.config.name!r} has no super-resolution, or was loaded with upscale=False: "
                'choose observation="frames"'
            )
        if kind == "frames" and is_upscaled:
            raise EnvError(
                f"world {world.config.name!r} was loaded with super-resolution: load it with upscale=False, or choose "
                'observation="upscaled"'
            )
        self._world, self._kind, self.as_torch = world, kind, as_torch
        self._what = {"frames": "image", "upscaled": "image"}.get(kind, kind)
        world.keeps_hidden = world.keeps_hidden or kind == "hidden"

    @property
    def draws(self) -> bool:
        """Whether the world has to give its picture as an array."""
        return self._what == "image" and not self.as_torch

    def space(self) -> spaces.Box:
        if self._what == "image":
            return spaces.Box(0, 255, (*self._world.image_size, 3), np.uint8)
        shape = self._world.tokens_shape if self._kind == "tokens" else self._world.hidden_shape
        return spaces.Box(-LARGEST, LARGEST, shape, np.float32)

    def observe(self, frame: Frame | None = None) -> Any:
        """frame: what the world has just given, None after restore() -> the caller's own"""
        if frame is not None and self.draws:
            return frame.image
        return self._world.observe(self._what, as_tensor=self.as_torch)


def as_torch_too(observations: Any, *arrays: np.ndarray) -> tuple[Any, ...]:
    """Arrays as tensors beside the observations."""
    import torch

    return tuple(torch.from_numpy(np.array(x)).to(observations.device) for x in arrays)


def own_copy(observation: Any) -> Any:
    return observation.clone() if hasattr(observation, "clone") else observation.copy()
