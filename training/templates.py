"""Where is a known thing in a picture? Template matching, with templates cut from real frames.

Every distinct look of a thing in real frames whose masks are known becomes a template: its pixels, and which of them
are its own. In another picture each template is laid at every place; the root mean square difference over its own
pixels says how well it fits there. The best place wins, then the next best that does not touch it, as long as the
difference is below a limit. Exact for sprites; nothing is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

MAX_TEMPLATES = 80
DISTINCT = 12.0  # grey levels (root mean square) by which another look differs
LARGEST = 24  # pixels a side: more is not a thing but scenery
LIMITS = (6.0, 9.0, 12.0, 16.0, 20.0, 26.0, 34.0, 44.0)  # grey levels, of which the best is taken


@dataclass(frozen=True)
class Found:
    """One detection: the centre (y, x) of its own pixels, its mask's place, and how well it fits in grey levels."""

    centre: np.ndarray
    template: int
    y: int
    x: int
    difference: float


class Templates:
    """pixels (k, th, tw, 3) float32, 0 outside masks (k, th, tw) bool, which begin at the top left."""

    def __init__(self, pixels: np.ndarray, masks: np.ndarray):
        self.pixels, self.masks = pixels, masks
        self._size = masks.sum((1, 2)).astype(np.float32)
        flat = pixels.reshape(len(pixels), -1)
        self._flat, self._flat_masks = flat.T.copy(), masks.reshape(len(masks), -1).T.astype(np.float32).copy()
        self._energy = np.square(flat).sum(1)

    @classmethod
    def cut(cls, frames: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Templates | None:
        """frames (n, h, w, 3) uint8, masks (n, h, w) bool -> the distinct looks of what is in the masks, whole and not
        cut off by the edge; None where there are none, or they are larger than LARGEST."""
        looks = []
        for frame, mask in zip(frames, masks, strict=True):
            for own in instances(mask):
                y, x = np.nonzero(own)
                (top, left), (bottom, right) = (y.min(), x.min()), (y.max() + 1, x.max() + 1)
                if top and left and bottom < mask.shape[0] and right < mask.shape[1]:
                    here = slice(top, bottom), slice(left, right)
                    looks.append((frame[here].astype(np.float32), own[here]))
        looks = [look for look in looks if max(look[1].shape) <= LARGEST and look[1].sum() >= 4]
        if not looks:
            return None
        h, w = (max(look[1].shape[i] for look in looks) for i in range(2))
        pixels = np.zeros((len(looks), h, w, 3), np.float32)
        owned = np.zeros((len(looks), h, w), bool)
        for i, (look, own) in enumerate(looks):
            pixels[i, : own.shape[0], : own.shape[1]] = look * own[..., None]
            owned[i, : own.shape[0], : own.shape[1]] = own
        kept: list[int] = []
        for i in rng.permutation(len(looks)):
            if len(kept) == MAX_TEMPLATES:
                break
            apart = np.square(pixels[i] - pixels[kept]).mean(-1).sum((1, 2))
            apart = apart / np.maximum((owned[i] | owned[kept]).sum((1, 2)), 1)
            if (np.sqrt(apart) > DISTINCT).all():
                kept.append(int(i))
        return cls(pixels[kept], owned[kept])

    def find(self, frame: np.ndarray, limit: float, most: int) -> list[Found]:
        """frame (h, w, 3) uint8 -> at most `most` places, the best first, none overlapping another's own pixels"""
        k, th, tw = self.masks.shape
        h, w, _ = frame.shape
        padded = frame.astype(np.float32)
        if h < th or w < tw:
            return []
        rows, columns = h - th + 1, w - tw + 1
        windows = sliding_window_view(padded, (th, tw), axis=(0, 1))  # (rows, columns, 3, th, tw)
        colour = windows.transpose(0, 1, 3, 4, 2).reshape(rows * columns, -1)
        energy = sliding_window_view(np.square(padded).sum(-1), (th, tw)).reshape(rows * columns, -1)
        squares = energy @ self._flat_masks - 2 * colour @ self._flat + self._energy
        difference = np.sqrt(np.maximum(squares, 0) / (3 * self._size))  # (places, k)
        template = difference.argmin(1)
        best = difference[np.arange(len(template)), template]
        taken = np.zeros((h, w), bool)
        out: list[Found] = []
        for place in np.argsort(best, kind="stable"):
            if best[place] > limit or len(out) == most:
                break
            y, x, t = int(place) // columns, int(place) % columns, int(template[place])
            here = taken[y : y + th, x : x + tw]
            if (here & self.masks[t]).any():
                continue
            here |= self.masks[t]
            out.append(Found(_centre(self.masks[t]) + (y, x), t, y, x, float(best[place])))
        return out

    def paint(self, found: Sequence[Found], height: int, width: int) -> np.ndarray:
        """The own pixels of detections: (h, w) bool"""
        mask = np.zeros((height, width), bool)
        for f in found:
            mask[f.y : f.y + self.masks.shape[1], f.x : f.x + self.masks.shape[2]] |= self.masks[f.template]
        return mask


def instances(mask: np.ndarray) -> list[np.ndarray]:
    """(h, w) bool -> a mask for each connected part, neighbours being those beside, above and below"""
    number = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        grown = number.copy()
        for axis in (0, 1):
            for shift in (1, -1):
                moved = np.roll(number, shift, axis)
                edge = [slice(None)] * 2
                edge[axis] = slice(0, 1) if shift == 1 else slice(-1, None)
                moved[tuple(edge)] = 0
                grown = np.maximum(grown, moved)
        grown = np.where(mask, grown, 0)
        if (grown == number).all():
            break
        number = grown
    return [number == i for i in np.unique(number) if i]


def centres(mask: np.ndarray) -> np.ndarray:
    """(h, w) bool -> centre (y, x) of each connected part, (n, 2)"""
    parts = [_centre(own) for own in instances(mask)]
    return np.stack(parts) if parts else np.zeros((0, 2))


def _centre(mask: np.ndarray) -> np.ndarray:
    return np.array([axis.mean() for axis in np.nonzero(mask)])
