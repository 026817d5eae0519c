"""The real game beside the generated one: the world plays the actions of a recording, both pictures in step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worldgen.play.fork import Beside
from worldgen.play.recorded_clips import PROMPT, RecordedClip, RecordedClips

if TYPE_CHECKING:
    import numpy as np

    from worldgen.play.loop import Player

CLIP_SECONDS = 10.0


class RealBeside:
    """Chooses the actions (an ActionSource) and gives the real picture for each frame (a LivePlayer's companion). At
    the end of a clip the next one begins."""

    def __init__(self, clips: RecordedClips):
        self._clips = clips
        self.clip: RecordedClip = clips.next()

    @property
    def start(self) -> np.ndarray:
        """What the Player begins from."""
        return self.clip.prompt

    def __call__(self, player: Player) -> Any:
        at = PROMPT - 1 + player.position
        # after its own end the world would begin anew and fall out of step
        if at >= len(self.clip.actions) or bool(player.frame.terminated):
            self.clip = self._clips.next()
            player.restart(start=self.clip.prompt)
            at = PROMPT - 1
        return self.clip.actions[at]

    def beside(self, player: Player) -> Beside:
        frames = self.clip.frames
        name = f"real: {self.clip.path.name}"
        return Beside(frames[min(PROMPT - 1 + player.position, len(frames) - 1)], name, "generated", is_left=True)
