"""Arrays in an .npz file that need not fit into memory: written piece by piece, read as memory maps."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

LOCAL_HEADER = struct.Struct("<26xHH")  # of a file in a zip archive: lengths of its name and of what follows that


def map_npz(path: Path) -> dict[str, np.ndarray]:
    """Of np.savez(), which compresses nothing. ValueError for other archives, and for arrays of Python objects."""
    arrays = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{path}: {member.filename} is compressed")
            file.seek(member.header_offset)
            file.seek(sum(LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))), 1)
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read_header is None:
                raise ValueError(f"{path}: {member.filename} is of an unknown version {version}")
            shape, is_fortran, dtype = read_header(file)
            if dtype.hasobject:
                raise ValueError(f"{path}: {member.filename} holds objects")
            name, order = member.filename.removesuffix(".npy"), "F" if is_fortran else "C"
            if not int(np.prod(shape)):
                arrays[name] = np.zeros(shape, dtype)  # no memory to map
                continue
            arrays[name] = np.memmap(path, dtype, "r", file.tell(), shape, order)  # type: ignore[call-overload]
    return arrays


def add_array(archive: zipfile.ZipFile, name: str, length: int, pieces: Iterable[np.ndarray]) -> None:
    """Writes an array of `length` rows, one piece after the other, all of the first one's dtype."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
        dtype: np.dtype | None = None
        for piece in pieces:
            if dtype is None:
                dtype = piece.dtype
                header = np.lib.format.header_data_from_array_1_0(piece[:0])
                np.lib.format.write_array_header_1_0(out, header | {"shape": (length, *piece.shape[1:])})
            out.write(np.ascontiguousarray(piece, dtype).tobytes())
