"""The colours of ToyGame's five kinds of landscape."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """Colours. Lists go from top to bottom or from light to dark."""

    sky: tuple[str, ...]
    sun: tuple[str, str]
    cloud: tuple[str, str]
    mountain: tuple[str, str, str]  # snow or rim, lit side, shaded side
    hill: tuple[str, str, str]  # rim, body, trees
    turf: tuple[str, str, str]
    earth: tuple[str, str, str, str]  # light, body, dark, outline
    brick: tuple[str, str, str]
    flowers: tuple[str, str]
    has_stars: bool = False


THEMES = (
    Theme(  # meadow
        ("#5aa9ee", "#86c8f6", "#b8e4fb", "#e3f6fb"), ("#fff6c8", "#ffe27a"), ("#ffffff", "#d3e9f7"),
        ("#f2f8fc", "#9cb9d9", "#7f9dc4"), ("#a8dcae", "#83c49c", "#589a80"),
        ("#b2ec62", "#6cc644", "#3f9638"), ("#c98f58", "#a86f43", "#87532f", "#43281f"),
        ("#f0b07a", "#cf7f4e", "#8a4a32"), ("#ff6b8b", "#fff0a8"),
    ),
    Theme(  # sunset
        ("#5b3a7d", "#a84d86", "#ee7a72", "#ffc27a"), ("#fff2c0", "#ffd27a"), ("#ffb0a0", "#d9788c"),
        ("#e08a8c", "#8d4f86", "#6f3d76"), ("#8a4a78", "#633765", "#4a2a55"),
        ("#f6c45a", "#d98a3c", "#a05a34"), ("#a5607a", "#824764", "#65344f", "#33182e"),
        ("#e8a08a", "#b8667a", "#74395c"), ("#ffe08a", "#ff8a7a"),
    ),
    Theme(  # night
        ("#0d1234", "#17204f", "#25326c", "#3a4a8c"), ("#f6f4da", "#cfd0c8"), ("#45548f", "#333f78"),
        ("#8fa0d8", "#37467f", "#2a3668"), ("#2f5a72", "#21425e", "#18324c"),
        ("#6fe0b0", "#2fa58c", "#1c6f70"), ("#5f5a92", "#4a4678", "#37345e", "#15132e"),
        ("#8a86c0", "#615c9a", "#3c386c"), ("#9ad8ff", "#f2b8ff"), has_stars=True,
    ),
    Theme(  # snow
        ("#7fb2dc", "#a8cdea", "#cfe4f4", "#f1f7fb"), ("#ffffff", "#fff3cf"), ("#ffffff", "#dbe8f3"),
        ("#ffffff", "#b4c9e2", "#94aed0"), ("#e8f2f8", "#bcd6e4", "#6f9fa8"),
        ("#ffffff", "#dcecf8", "#a9c8e4"), ("#8fa6c8", "#7288b0", "#596d96", "#27304f"),
        ("#bfe2f2", "#86b8d8", "#4f7fa8"), ("#e0526a", "#6fb8e8"),
    ),
    Theme(  # desert
        ("#3fb0c4", "#7fd0cc", "#c8ead0", "#fbeec4"), ("#fffbe0", "#ffe79a"), ("#fffdf0", "#f0dfc0"),
        ("#f6c79a", "#d9986c", "#bb7858"), ("#e8c4a0", "#d0a088", "#7f7f66"),
        ("#ffe9a0", "#f2c766", "#d09a48"), ("#e0a860", "#c48a4c", "#a06c3c", "#573420"),
        ("#f6d8a0", "#d8a468", "#946038"), ("#ff7a5a", "#8ad06a"),
    ),
)  # fmt: skip
