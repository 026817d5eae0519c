"""Trains into file systems that are too small, of every size from nothing to enough, and resumes where there is room.

sudo python tests/full_disk.py                      # Linux, as root: mounts a tmpfs for each
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
STEPS = 3


def main() -> int:
    sys.path.insert(0, str(HERE))
    from conftest import record_toy
    from kill_training import begin, ended, equal

    outcomes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["WORLDGEN_CACHE"] = str(folder / "cache")
        data, whole = folder / "data", folder / "toy"
        for i in range(4):
            record_toy(data / f"toy{i}.mkv", seed=i)
        assert ended(begin(data, whole, STEPS, "recorded", False), 600) == 0
        size = sum(p.stat().st_size for p in whole.rglob("*") if p.is_file()) // 1024
        for share in (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
            mount = folder / f"full-{share}"
            mount.mkdir()
            kilobytes = max(64, int(size * share * 1.2))
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(mount)], check=True)
            try:
                out = mount / "toy"
                code = ended(begin(data, out, STEPS, "recorded", False), 600)
                said = (mount / "toy.log").read_text()[-300:] if (mount / "toy.log").exists() else ""
                if code not in (0, 1, 2) or (code and "Traceback" in said):
                    print(f"{kilobytes} kB: exit {code}: {said}")
                    return 1
                rescued = folder / f"rescued-{share}" / "toy"
                rescued.parent.mkdir()
                if out.is_dir():
                    shutil.copytree(out, rescued)
                resumed = ended(begin(data, rescued, STEPS, "recorded", rescued.is_dir()), 600)
                is_same = resumed == 0 and equal(whole, rescued)
                print(
                    f"{kilobytes} kB: exit {code}; resumed with room: {'equal' if is_same else 'DIFFERENT'}", flush=True
                )
                if not is_same:
                    print((rescued.parent / "toy.log").read_text()[-500:])
                    return 1
                outcomes[f"exit {code}"] = outcomes.get(f"exit {code}", 0) + 1
            finally:
                subprocess.run(["umount", str(mount)], check=True)
    print(json.dumps({**outcomes, "resumed_equal": sum(outcomes.values())}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
