"""The moving pictures of ToyGame, drawn as text: one letter a pixel."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

PIXEL = np.dtype("<u4")  # red, green, blue, 0: one number a pixel, so that drawing is one copy

COLOURS = {
    "K": "#2a1a2e",  # outline
    "R": "#d8343f", "H": "#f4665c", "r": "#9c1f3d",  # hood
    "S": "#ffd3a6", "s": "#e59f76", "E": "#2a1a2e", "W": "#ffffff",  # face
    "B": "#3f6fd0", "b": "#2a4a9a", "N": "#8a5a34", "n": "#5f3a26",  # tunic, boots
    "Y": "#ffd23e", "y": "#f0a020", "L": "#fff6b0",  # coin
    "P": "#8e4fc0", "p": "#64349a", "Q": "#c088ea",  # walker
    "G": "#42c060", "g": "#268a4c", "D": "#c9c9d8", "d": "#8a8aa2",  # flag, pole
}  # fmt: skip

HEAD = """
.....KKKK...
...KKRRRRK..
..KRRHHRRRK.
.KRRHRRRRRRK
.KRRRKKKKKRK
.KRRKSSSSSSK
.KRRKSEWSEWK
.KrRKSEESEEK
.KrrRKSSSSK.
..KKRRKKKK..
"""
BODY = {
    "stand": """
..KBBRRBBK..
.KSKBBBBKSK.
.KKKbbbbKKK.
...KnKKnK...
...KNNKNNK..
""",
    "run0": """
..KBBRRBBKK.
.KSKBBBBBKSK
.KKbbbbbbKK.
.KnnKKKKNNK.
.KnK....KNNK
""",
    "run1": """
..KBBRRBBK..
..KKSBBBBK..
..KKbbbbbK..
...KnKKNNK..
...KNNK.KNK.
""",
    "run2": """
..KBBRRBBK..
...KBSSBBK..
...KbbbbK...
...KNNKnnK..
...KKNNKKK..
""",
    "run3": """
..KBBRRBBK..
...KBBSKBK..
..KKbbbbbK..
..KnnKKNNK..
..KnK.KNNK..
""",
    "rise": """
.KSBBRRBBSK.
.KKKBBBBKKK.
...KbbbbbK..
..KnnKKNNNK.
.KnnK..KNNK.
""",
    "drop": """
KSKBBRRBBKSK
.KKKBBBBKKK.
...KbbbbK...
..KnnKKNNK..
..KNNK.KNNK.
""",
    "hurt": """
KSKBBRRBBKSK
.KKBBBBBBKK.
..KKbbbbKK..
.KNNKKKKNNK.
.KNNK..KNNK.
""",
    "cheer": """
.KKBBRRBBKK.
...KBBBBK...
...KbbbbK...
...KnKKnK...
...KNNKNNK..
""",
}
BLINK = HEAD.replace("KSEWSEW", "KSSSSSS").replace("KSEESEE", "KSEESEE")
HURT = HEAD.replace("KSEWSEW", "KSESSSE").replace("KSEESEE", "KSSEESS")
CHEER = HEAD.replace("..KKRRKKKK..", "KSKKRRKKKKSK")

WALKER = """
....KKKKKK..
..KKPPPPPPK.
.KPPPQQQPPPK
.KPPQQPPPPPK
KPPPKKPPPKKP
KPPPWWKPPWWK
KpPPWKKPPWKK
KppPPPPPPPPK
.KpppppppPK.
"""
FEET = ("..KNNKKNNK..\n..KKKK.KKKK.", ".KNNK..KNNK.\n.KKKK..KKKK.")
SQUASHED = """
...KKKKKK...
.KKPQQPPPKK.
KpPKKPPKKPPK
.KKKKKKKKKK.
"""
COINS = (
    """
..KKKK..
.KYYYYK.
KYLLYYyK
KYLYYyyK
KYLYYyyK
KYYYyyyK
.KyyyyK.
..KKKK..
""",
    """
..KKKK..
..KYYK..
.KLYYyK.
.KLYYyK.
.KLYYyK.
.KLYYyK.
..KyyK..
..KKKK..
""",
    """
...KK...
..KYyK..
..KLyK..
..KLyK..
..KLyK..
..KLyK..
..KYyK..
...KK...
""",
)
SPARKLE = (
    """
...W...
...L...
...L...
WLL.LLW
...L...
...L...
...W...
""",
    """
W.....W
.L...L.
.......
...W...
.......
.L...L.
W.....W
""",
    """
L..W..L
.......
.......
W.....W
.......
.......
L..W..L
""",
)


@dataclass(frozen=True)
class Sprite:
    """pixels (h, w) PIXEL, mask (h, w) bool"""

    pixels: np.ndarray
    mask: np.ndarray

    @classmethod
    def from_text(cls, text: str, colours: Mapping[str, str] = COLOURS) -> Sprite:
        rows = text.strip("\n").split("\n")
        pixels = np.array([[colour(colours[c]) if c != "." else 0 for c in row] for row in rows], PIXEL)
        return cls(pixels, np.array([[c != "." for c in row] for row in rows]))

    @property
    def flipped(self) -> Sprite:
        return Sprite(np.ascontiguousarray(self.pixels[:, ::-1]), np.ascontiguousarray(self.mask[:, ::-1]))


def colour(code: str) -> int:
    """ "#rrggbb" -> the number of that pixel"""
    return int(code[1:3], 16) | int(code[3:5], 16) << 8 | int(code[5:7], 16) << 16


@functools.cache
def sprites() -> dict[str, Sprite]:
    """Every sprite by name; "<name left" faces left."""
    heads = {"hurt": HURT, "cheer": CHEER}
    out = {pose: Sprite.from_text(heads.get(pose, HEAD).strip("\n") + body) for pose, body in BODY.items()}
    out["blink"] = Sprite.from_text(BLINK.strip("\n") + BODY["stand"])
    out |= {f"walker{i}": Sprite.from_text(WALKER.strip("\n") + "\n" + feet) for i, feet in enumerate(FEET)}
    out |= {f"{name} left": sprite.flipped for name, sprite in out.items()}
    out["squashed"] = Sprite.from_text(SQUASHED)
    for i, coin in enumerate((COINS[0], COINS[1], COINS[2], COINS[1])):
        out[f"coin{i}"] = Sprite.from_text(coin) if i < 3 else Sprite.from_text(coin).flipped
    out |= {f"sparkle{i}": Sprite.from_text(text) for i, text in enumerate(SPARKLE)}
    out |= {f"flag{i}": _flag(i) for i in range(4)}
    out |= {f"dust{i}": _dust(i) for i in range(3)}
    return out


def _flag(phase: int) -> Sprite:
    """A pole with a waving flag, its pole's foot at the bottom left."""
    height, width = 44, 19
    letters = np.full((height, width), ".")
    letters[2:, 0:4] = "K"
    letters[3:, 1], letters[3:, 2] = "D", "d"
    letters[0:4, 0:4] = [list(".KK."), list("KLYK"), list("KYyK"), list(".KK.")]
    for x in range(4, width):
        shift = (0, 0, 1, 1, 1, 0, 0, -1, -1, -1, 0, 0)[(x - 4 + phase * 3) % 12] if x > 5 else 0
        top = 6 + shift + max(0, x - 15)
        bottom = 18 + shift - max(0, x - 15)
        letters[top:bottom, x] = "G" if shift >= 0 else "g"
        letters[top, x] = letters[bottom - 1, x] = "K"
        if 8 <= x <= 12:
            letters[top + 4 : bottom - 4, x] = "W"
        if x == width - 1:
            letters[top:bottom, x] = "K"
    return Sprite.from_text("\n".join("".join(row) for row in letters))


def _dust(age: int) -> Sprite:
    """Two puffs that part and thin out."""
    letters = np.full((4, 18), ".")
    reach, size = (5, 3, 1)[age], (3, 3, 2)[age]
    for left in (reach, 18 - reach - size):
        letters[4 - size - age // 2 : 4 - age // 2, left : left + size] = "W" if age < 2 else "D"
        letters[3 - age // 2, left] = "D"
    return Sprite.from_text("\n".join("".join(row) for row in letters))
