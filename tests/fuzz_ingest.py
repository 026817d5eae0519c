"""Damages recordings at random and reads them, as `worldgen check` and training do, for a bounded time.

    python tests/fuzz_ingest.py --minutes 10            # files, refused, repaired, crashes, hangs; exit 1 on any of the
    last

A crash is any error that is not a refusal, a process that dies, or memory over 3 GB; a hang is a file that takes over
30 seconds. The seed of each is printed: `--first SEED --count 1` runs it again.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

HANG_SECONDS = 30


def make_sources(folder: Path) -> list[Path]:
    """Small recordings of every container, with and without sound and rows."""
    from odd_recordings import noisy, rows
    from recordings import game_frames, record, write_video

    folder.mkdir()
    sound = (8000 * np.sin(np.arange(96000) * 0.05)).astype(np.int16)
    record(folder / "c1.mkv", 50, sample_rate=24000)
    write_video(folder / "plain.mkv", noisy(60), sound=sound)
    write_video(folder / "plain.mp4", game_frames(60), sound=sound)
    write_video(folder / "fast.mp4", noisy(60), sound=sound, muxer={"movflags": "+faststart"})
    write_video(folder / "fragments.mp4", game_frames(60), muxer={"movflags": "frag_keyframe+empty_moov"})
    write_video(folder / "b.mov", game_frames(60), options={"bf": "3"})
    write_video(folder / "vp8.webm", game_frames(30), codec="libvpx", options={"deadline": "realtime", "cpu-used": "8"})
    times = np.cumsum(np.append(0, np.random.default_rng(0).choice([20, 33, 90], 59))).tolist()
    write_video(folder / "variable.mkv", game_frames(60), times_ms=times)
    for name, n in (("plain.mkv", 60), ("fast.mp4", 60), ("variable.mkv", 60)):
        rows(folder / name, n)
    lines = [json.loads(line) for line in (folder / "fast.jsonl").read_text().splitlines()]
    table = "\n".join(",".join(str(row[k]) for k in ("action", "reward", "terminated")) for row in lines)
    (folder / "fast.csv").write_text("action,reward,terminated\n" + table + "\n")
    (folder / "fast.jsonl").unlink()
    return sorted(p for p in folder.iterdir() if p.suffix in (".mkv", ".mp4", ".mov", ".webm"))


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three of: cut, flipped bytes, zeros, a block moved, doubled or from elsewhere; the header more often."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        n = len(out)
        if n < 8:
            break
        at = int(rng.integers(0, min(n, 2000) if rng.random() < 0.4 else n))
        size = int(min(n - at, rng.integers(1, max(2, n // 4))))
        match int(rng.integers(6)):
            case 0:
                out = out[:at] if rng.random() < 0.7 else out[at:]
            case 1:
                for i in rng.integers(0, n, int(rng.integers(1, 60))):
                    out[i] ^= int(rng.integers(1, 256))
            case 2:
                out[at : at + size] = bytes(size)
            case 3:
                out[at : at + size] = rng.bytes(size)
            case 4:
                out[at:at] = out[at : at + size]
            case 5:
                block = out[at : at + size]
                del out[at : at + size]
                to = int(rng.integers(0, len(out) + 1))
                out[to:to] = block
    return bytes(out)


def one(seed: int, sources: list[Path], folder: Path) -> str:
    """Damages a source, its rows or both, and reads it both ways. Returns the status; raises what should not happen."""
    from worldgen.data.cache import open_cache
    from worldgen.data.check import inspect_file
    from worldgen.errors import InputError

    rng = np.random.default_rng(seed)
    source = sources[int(rng.integers(len(sources)))]
    video = folder / f"x{source.suffix}"
    target = int(rng.integers(4))  # of four, three hit the video
    for path in source.parent.glob(f"{source.stem}.*"):
        if path.suffix != source.suffix and path.suffix in (".mkv", ".mp4", ".mov", ".webm"):
            continue
        content = path.read_bytes()
        is_video = path == source
        if is_video == (target < 3) or rng.random() < 0.1:
            content = damage(content, rng)
        (folder / f"x{path.suffix}").write_bytes(content)
    status = inspect_file(video).report.status
    try:
        cache = open_cache(folder, height=24, width=32, sample_rate=24000, cache_dir=folder / "cache")
        assert np.isfinite(cache.reward).all() and cache.starts[-1] == len(cache.frames)
        if (cache.reports[0].status == "refused") != (status == "refused"):
            return "unsteady"  # a damaged picture that a decoder takes or not, by what its memory held
        if cache.actions is not None:
            assert len(cache.actions) == len(cache.frames)
    except InputError:
        return status if status == "refused" else "unsteady"
    return status


def work(first: int, count: int, sources: Path) -> None:
    """Reports `seed status` line by line; dies with a traceback on what should not happen."""
    import av

    av.logging.set_level(av.logging.PANIC)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
    except ImportError:
        pass
    files = sorted(p for p in sources.iterdir() if p.suffix in (".mkv", ".mp4", ".mov", ".webm"))
    for seed in range(first, first + count):
        print(seed, "begun", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            print(seed, one(seed, files, Path(folder)), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1 << 40)
    parser.add_argument("--sources", type=Path)
    arguments = parser.parse_args()
    if arguments.sources:
        work(arguments.first, arguments.count, arguments.sources)
        return 0
    folder = Path(tempfile.mkdtemp())
    make_sources(folder / "sources")
    counts: Counter[str] = Counter()
    bad: list[str] = []
    until, seed, last = time.monotonic() + 60 * arguments.minutes, arguments.first, arguments.first + arguments.count
    slowest = (0.0, -1)
    while seed < last and time.monotonic() < until:
        command = [sys.executable, __file__, "--sources", str(folder / "sources")]
        command += ["--first", str(seed), "--count", str(last - seed)]
        with open(folder / "stderr", "w+") as errors:
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1)
            assert worker.stdout is not None
            begun = time.monotonic()
            while True:
                ready, _, _ = select.select([worker.stdout], [], [], max(0.0, HANG_SECONDS + begun - time.monotonic()))
                line = worker.stdout.readline() if ready else ""
                if line.endswith("begun\n"):
                    begun = time.monotonic()
                elif line:
                    counts[line.split()[1]] += 1
                    slowest = max(slowest, (time.monotonic() - begun, seed))
                    seed += 1
                    if time.monotonic() > until:
                        break
                else:
                    break
            worker.kill()
            worker.wait()
            if not line and seed < last:  # it hung, or died
                kind = "hangs" if not ready else "crashes"
                counts[kind] += 1
                errors.seek(0)
                bad.append(f"{kind} at seed {seed}: {errors.read().strip().splitlines()[-1:] or worker.returncode}")
                print(bad[-1], flush=True)
                seed += 1
    shutil.rmtree(folder, ignore_errors=True)
    total = sum(counts.values())
    print(json.dumps({"files": total, **counts, "slowest_seconds": round(slowest[0], 2), "slowest_seed": slowest[1]}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.exit(main())
