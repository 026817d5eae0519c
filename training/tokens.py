"""The tokens of a whole dataset, encoded once, frame by frame as in play, and kept beside the training state. Processes
that train together encode it together; a Ray cluster does it for them where there is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from worldgen.bundle import WEIGHTS, load_network
from worldgen.data.cache import Cache, load_cache
from worldgen.data.ray_files import is_on_ray, map_on_ray
from worldgen.files import allocate, file_hash, write_json
from worldgen.models.tokenizer import Tokenizer, to_float, to_uint8
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
    processes: where all of them call it, each of the first machine's encodes its share. On a Ray cluster the cache and
    the world must lie where every node sees them."""
    folder = world / "training" / "tokens"
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(cache.frames), tokenizer.num_tokens, tokenizer.config.token_dim)
    key = {"data": cache.path.name, "tokenizer": file_hash(world / "tokenizer" / WEIGHTS), "shape": list(shape)}
    facts, path = folder / "tokens.json", folder / "tokens.f16"
    try:
        is_current = json.loads(facts.read_text()) == key and path.stat().st_size == 2 * int(np.prod(shape))
    except (OSError, ValueError):
        is_current = False
    # those of the first machine
    index, count = (processes.process_index, num_local(processes)) if processes else (0, 1)

    def wait() -> None:
        if processes:
            processes.wait_for_everyone()

    wait()  # until all have looked
    if not is_current:
        if index == 0:
            facts.unlink(missing_ok=True)
            say(f"encoding {shape[0]} frames to {shape[1]} tokens of {shape[2]}")
            allocate(path, 2 * int(np.prod(shape)))
        wait()
        if index < (1 if is_on_ray() else count):  # two machines must not map one file for writing
            out = np.memmap(path, np.float16, "r+", shape=shape)
            if is_on_ray():
                _encode_on_ray(cache, world, out)
            else:
                for group in _groups(cache)[index::count]:
                    for rows, tokens in _encode(cache, tokenizer, group):
                        out[rows] = tokens
            out.flush()
        wait()
        if index == 0:
            write_json(facts, key)
    return np.memmap(path, np.float16, "r", shape=shape)


@torch.inference_mode()
def restored(tokenizer: Tokenizer, tokens: np.ndarray, cache: Cache, rows: np.ndarray, t: int) -> np.ndarray:
    """What the decoder shows for clips of t frames that begin at these rows (p,) of the cache: (p, t, h, w, 3) uint8.
    Its memory reaches as many frames back as it has layers; where a clip begins with its episode it begins empty."""
    first = cache.starts[np.searchsorted(cache.starts, rows, side="right") - 1]
    leads = np.minimum(rows - first, tokenizer.config.num_memories)
    device = tokenizer.token_mean.device
    out = np.empty((len(rows), t, cache.height, cache.width, 3), np.uint8)
    for lead in np.unique(leads).tolist():
        clips = np.flatnonzero(leads == lead)
        for part in np.array_split(clips, -(-len(clips) // LANES)):
            known = np.stack([tokens[row - lead : row + t] for row in rows[part]]).astype(np.float32)
            frames, _ = tokenizer.decode(torch.from_numpy(known).to(device), tokenizer.empty_state(len(part)))
            out[part] = to_uint8(frames[:, lead:]).cpu().numpy()
    return out


def _groups(cache: Cache) -> list[np.ndarray]:
    """The episodes, those of like length together"""
    order = np.argsort(cache.lengths, kind="stable")
    return np.array_split(order, max(1, len(order) // LANES))


@torch.inference_mode()
def _encode(cache: Cache, tokenizer: Tokenizer, group: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Episodes side by side, the encoder's state going with each -> frames of the cache (k,), their tokens (k, n, d)
    float16"""
    starts = np.asarray(cache.starts)
    device = tokenizer.token_mean.device
    first, last = starts[group], starts[group + 1]
    state = tokenizer.empty_state(len(group))
    for offset in range(0, int((last - first).max()), 16):
        rows = np.minimum(first[:, None] + offset + np.arange(16), last[:, None] - 1)
        frames = torch.from_numpy(np.asarray(cache.frames[rows.ravel()]).reshape(*rows.shape, *cache.frames.shape[1:]))
        tokens, state = tokenizer.encode(to_float(frames.to(device)), state)
        inside = first[:, None] + offset + np.arange(16) < last[:, None]
        yield rows[inside], tokens.half().cpu().numpy()[inside]


def _encode_on_ray(cache: Cache, world: Path, out: np.ndarray) -> None:
    """Each group into a file of its own, beside the tokens."""
    groups = _groups(cache)
    parts = [world / "training" / "tokens" / f"part-{i}.npz" for i in range(len(groups))]
    items = [(cache.path.resolve(), world.resolve(), *both) for both in zip(groups, parts, strict=True)]
    for part, failure in zip(parts, map_on_ray(_encode_part, items, parts, may_use_gpus=True), strict=True):
        if failure is not None:
            raise failure
        with np.load(part) as arrays:
            out[arrays["rows"]] = arrays["tokens"]
        part.unlink()


def _encode_part(item: tuple[Path, Path, np.ndarray, Path]) -> None:
    """On a worker."""
    path, world, group, part = item
    cache = load_cache(path)
    if cache is None:
        raise FileNotFoundError(f"{path} is not seen by every node: set WORLDGEN_CACHE to shared storage")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = load_network(world, "tokenizer").requires_grad_(False).to(device)
    rows, tokens = zip(*_encode(cache, tokenizer, group), strict=True)
    np.savez(part, rows=np.concatenate(rows), tokens=np.concatenate(tokens))
