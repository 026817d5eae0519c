"""The tokens of a whole dataset, encoded once, frame by frame as in play, and kept beside the training state. Processes
that train together encode it together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from worldgen.bundle import WEIGHTS
from worldgen.data.cache import Cache
from worldgen.files import file_hash, write_json
from worldgen.models.tokenizer import Tokenizer, to_float
from worldgen.training.processes import num_local

LANES = 32  # episodes encoded side by side


def tokenize(
    cache: Cache,
    tokenizer: Tokenizer,
    world: Path,
    say: Callable[[str], None] = print,
    processes: PartialState | None = None,
) -> np.ndarray:
    """-> (N, n, d) float16 memory map, row i the tokens of cache.frames[i]. Rebuilt when data or tokenizer change.
    processes: where all of them call it, each of the first machine's encodes its share."""
    folder = world / "training" / "tokens"
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(cache.frames), tokenizer.num_tokens, tokenizer.config.token_dim)
    key = {"data": cache.path.name, "tokenizer": file_hash(world / "tokenizer" / WEIGHTS), "shape": list(shape)}
    facts, path = folder / "tokens.json", folder / "tokens.f16"
    try:
        is_current = json.loads(facts.read_text()) == key and path.stat().st_size == 2 * int(np.prod(shape))
    except (OSError, ValueError):
        is_current = False
    # those of the first machine: two machines must not map one file for writing
    index, count = (processes.process_index, num_local(processes)) if processes else (0, 1)

    def wait() -> None:
        if processes:
            processes.wait_for_everyone()

    wait()  # until all have looked
    if not is_current:
        if index == 0:
            facts.unlink(missing_ok=True)
            say(f"encoding {shape[0]} frames to {shape[1]} tokens of {shape[2]}")
            with path.open("wb") as file:  # a map into a disk that is full would end the process
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, 2 * int(np.prod(shape)))
                file.truncate(2 * int(np.prod(shape)))
        wait()
        if index < count:
            out = np.memmap(path, np.float16, "r+", shape=shape)
            _encode(cache, tokenizer, out, index, count)
            out.flush()
        wait()
        if index == 0:
            write_json(facts, key)
    return np.memmap(path, np.float16, "r", shape=shape)


@torch.inference_mode()
def _encode(cache: Cache, tokenizer: Tokenizer, out: np.ndarray, index: int, count: int) -> None:
    """Every count-th group of episodes from index on. Those of like length run side by side; the encoder's state goes
    with each."""
    starts = np.asarray(cache.starts)
    order = np.argsort(np.diff(starts), kind="stable")
    device = tokenizer.token_mean.device
    for group in np.array_split(order, max(1, len(order) // LANES))[index::count]:
        first, last = starts[group], starts[group + 1]
        state = tokenizer.empty_state(len(group))
        for offset in range(0, int((last - first).max()), 16):
            rows = np.minimum(first[:, None] + offset + np.arange(16), last[:, None] - 1)
            frames = torch.from_numpy(
                np.asarray(cache.frames[rows.ravel()]).reshape(*rows.shape, *cache.frames.shape[1:])
            )
            tokens, state = tokenizer.encode(to_float(frames.to(device)), state)
            inside = first[:, None] + offset + np.arange(16) < last[:, None]
            out[rows[inside]] = tokens.half().cpu().numpy()[inside]
