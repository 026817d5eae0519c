"""H.264 numbers its pictures, so a missing number is a packet that the file has lost.

lost = LostPackets(stream.codec_context)
for packet in packets:  # in the file's order
    lost.see(packet, packet.pts)
has_lost_frames, is_wrong = lost.find(stamps, rows)

No decoder says so: it draws over the picture before. A recorder that drops frames never encodes them: no number is
missing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from worldgen.data.frame_rate import has_few_holes, holes

# of these profiles an SPS has fields for chroma and scaling
HIGH_PROFILES = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)
IDR, SPS = 5, 7
SLICES = (1, IDR)


class LostPackets:
    """Follows the numbers of one stream: frame_num, which counts the pictures that others are drawn over, and
    pic_order_cnt, which counts all as shown (H.264 7.4.3).

    They come round at a power of two, 16 or more, and begin anew at keyframes: in long holes they tell nothing.
    """

    def __init__(self, codec_context: Any):
        self._has_numbers = codec_context.name == "h264"
        self._length_size = 0  # of a unit; 0 where start codes part them
        self._number_bits = self._order_bits = 0
        self._has_planes = self._has_fields = False
        self._last = -1  # the number of the last picture that others are drawn over
        self._until = -math.inf  # what is shown before that is drawn over a lost picture
        self._order = -1  # of the picture read last; -1 without
        self._stored: list[int] = []
        self._keys: list[int] = []
        self._wrong: list[int] = []
        self._orders: dict[int, int] = {}
        extradata = bytes(codec_context.extradata or b"") if self._has_numbers else b""
        if extradata[:1] == b"\1" and len(extradata) > 8:  # avcC
            self._length_size = (extradata[4] & 3) + 1
            self._read_sps(extradata[8:])
        else:
            self._read_units(extradata)

    @property
    def is_known(self) -> bool:
        """False for other codecs, and where the encoder may leave numbers out."""
        return self._has_numbers and self._number_bits > 0

    def see(self, packet: Any, stamp: int) -> None:
        if not self._has_numbers:
            return
        self._order = -1
        if self._read_units(bytes(packet)):
            self._until = math.inf
        if packet.is_keyframe:
            self._keys.append(stamp)
            if self._until == math.inf:
                self._until = stamp  # pictures stored after it and shown before it may need those before it
        if stamp < self._until:
            self._wrong.append(stamp)
        self._stored.append(stamp)
        self._orders[stamp] = self._order

    def find(self, stamps: np.ndarray, rows: np.ndarray) -> tuple[bool, np.ndarray]:
        """stamps, rows (n,): of the frames as shown -> whether frames were lost; is_wrong (n,) bool, those that are
        drawn, however far back, over a lost one.

        Without a hole in the rows nothing is lost, whatever an encoder wrote for numbers."""
        after = holes(rows)
        if not len(after):
            return False, np.zeros(len(rows), bool)
        is_wrong = np.isin(stamps, self._wrong)
        keys = np.flatnonzero(np.isin(stamps, self._keys))
        is_key = np.isin(after, keys)
        orders = np.array([self._orders[int(stamp)] for stamp in stamps])
        steps = np.diff(orders) % (1 << self._order_bits)
        is_counted = (orders[after] >= 0) & (orders[after - 1] >= 0) & ~is_key
        is_lost = bool(is_wrong.any() or (is_counted & (steps[after - 1] != np.median(steps))).any())
        if not has_few_holes(rows):
            return is_lost, is_wrong
        # a hole may end where numbers begin anew, or be so long that they have come round, or end before what is shown
        # after all that is stored behind it: the frames in it may come after the file's end
        period = float(1 << self._number_bits)
        if len(keys) > 1:
            period = min(period, float(np.median(np.diff(rows[keys]))))
        is_long = np.diff(rows)[after - 1] > period
        stored = np.array(self._stored)
        last = stored[stored == np.maximum.accumulate(stored[::-1])[::-1]]
        unsure = after[is_key | is_long | np.isin(stamps[after], last)]
        for first in unsure:
            is_wrong[first : keys[keys >= first].min(initial=len(rows))] = True
        return is_lost or len(unsure) > 0, is_wrong

    def _read_units(self, data: bytes) -> bool:
        """Whether a number is missing before the picture in data."""
        for unit in self._units(data):
            kind = unit[0] & 31 if unit else 0
            if kind == SPS:
                self._read_sps(unit)
            elif kind in SLICES and self._number_bits:
                return self._is_after_gap(unit)  # of several, all have the same number
        return False

    def _units(self, data: bytes) -> list[bytes]:
        if not self._length_size:
            return data.split(b"\0\0\1")[1:]
        units, at, size = [], 0, self._length_size
        while at + size < len(data):
            length = int.from_bytes(data[at : at + size], "big")
            units.append(data[at + size : at + size + length])
            at += size + length
        return units

    def _is_after_gap(self, unit: bytes) -> bool:
        bits = _Bits(unit[1:24])
        bits.unsigned()  # first macroblock
        bits.unsigned()  # slice type
        bits.unsigned()  # picture parameters
        bits.take(2 if self._has_planes else 0)
        number, count = bits.take(self._number_bits), 1 << self._number_bits
        is_idr, last = unit[0] & 31 == IDR, self._last
        if self._has_fields and bits.take(1):
            bits.take(1)  # top or bottom
        if is_idr:
            bits.unsigned()
        self._order = bits.take(self._order_bits) if self._order_bits else -1
        self._last = number if unit[0] & 0x60 else (number - 1) % count
        expected = {(last + 1) % count, *([last] if self._has_fields else [])}
        return last >= 0 and not is_idr and number not in expected

    def _read_sps(self, unit: bytes) -> None:
        bits = _Bits(unit[1:512])
        profile = bits.take(8)
        bits.take(16)
        bits.unsigned()
        if profile in HIGH_PROFILES:
            chroma = bits.unsigned()
            self._has_planes = chroma == 3 and bits.take(1) == 1
            bits.unsigned()
            bits.unsigned()
            bits.take(1)
            if bits.take(1):
                for i in range(12 if chroma == 3 else 8):
                    bits.skip_scaling(16 if i < 6 else 64)
        number_bits, order_bits, order = bits.unsigned() + 4, 0, bits.unsigned()
        if order == 0:
            order_bits = bits.unsigned() + 4
        elif order == 1:
            bits.take(1)
            for _ in range(2):
                bits.unsigned()
            for _ in range(min(255, bits.unsigned())):
                bits.unsigned()
        bits.unsigned()  # reference pictures
        may_leave_out = bits.take(1)
        bits.unsigned()
        bits.unsigned()
        self._has_fields = not bits.take(1)
        is_usable = not may_leave_out and max(number_bits, order_bits) <= 16
        self._number_bits, self._order_bits = (number_bits, order_bits) if is_usable else (0, 0)
        self._has_numbers = self._has_numbers and is_usable


class _Bits:
    """The bits of a unit, without the bytes that keep start codes out of it; zeros after its end."""

    def __init__(self, data: bytes):
        data = data.replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, n: int) -> int:
        self._left -= n
        return (self._value >> self._left if self._left >= 0 else self._value << -self._left) & ((1 << n) - 1)

    def unsigned(self) -> int:
        """An Exp-Golomb code."""
        zeros = 0
        while self._left > 0 and not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def skip_scaling(self, size: int) -> None:
        if not self.take(1):
            return
        last = following = 8
        for _ in range(size):
            if following:
                code = self.unsigned()
                following = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
            last = following or last
