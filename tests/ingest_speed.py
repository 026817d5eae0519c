"""Hours of video that `worldgen check` and the cache take in an hour of one core, by the processor time they use.

    python tests/ingest_speed.py recordings/doom --height 48 --width 64

Processor time, children's included, hardly depends on what else runs, unless two threads share a core.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path

from worldgen.data.cache import open_cache
from worldgen.data.check import check_folder


def used_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--height", type=int, default=48)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--sample-rate", type=int, help="with sound")
    arguments = parser.parse_args()
    begun = used_seconds()
    check = check_folder(arguments.data)
    checked = used_seconds() - begun
    video = sum(file.report.seconds for file in check.usable)
    with tempfile.TemporaryDirectory() as folder:
        begun = used_seconds()
        open_cache(
            arguments.data,
            height=arguments.height,
            width=arguments.width,
            sample_rate=arguments.sample_rate,
            cache_dir=Path(folder),
        )
        cached = used_seconds() - begun
    rates = {"check": video / checked, "cache": video / cached}
    print(json.dumps({"video_seconds": round(video, 1), **{k: round(v, 1) for k, v in rates.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
