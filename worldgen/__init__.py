"""worldgen turns recorded gameplay video into a world that can be played.

Importing it loads neither torch nor gymnasium nor pygame.
"""

from worldgen.actions import ActionMap
from worldgen.config import WorldConfig
from worldgen.errors import BackendUnavailableError, InputError, MissingExtraError, RunError
from worldgen.world import Frame, State, World

__version__ = "0.1.0"

__all__ = [
    "ActionMap",
    "BackendUnavailableError",
    "Frame",
    "InputError",
    "MissingExtraError",
    "RunError",
    "State",
    "World",
    "WorldConfig",
]
