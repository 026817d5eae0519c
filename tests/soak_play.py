"""Plays a world in a real window for minutes, keys pressed all the while, and prints what the player promises.

python tests/soak_play.py --minutes 10          # needs Xvfb and worldgen[screen]; exit code 1 where a bar is missed
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from desktop import Person, x_server

MAX_DROPPED = 0.01
FIRST_PICTURE_SECONDS = 3.0
FLAT_MB = 16.0
KEYS = ("Left", "Right", "space")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--world", default="doom")
    parser.add_argument("--press", type=float, help=argparse.SUPPRESS)  # the person, in a process of its own
    options = parser.parse_args()
    if options.press is not None:
        press_keys(options.press)
        return 0
    with x_server() as display:
        os.environ.update(DISPLAY=display, SDL_VIDEODRIVER="x11", PYGAME_HIDE_SUPPORT_PROMPT="1")
        os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
        first = first_picture(display, options.world)
        person = subprocess.Popen([sys.executable, __file__, "--press", str(60 * options.minutes + 60)])
        try:
            missed = soak(options.world, options.minutes, first)
        finally:
            person.kill()
            person.wait()
    return 1 if missed else 0


def first_picture(display: str, world: str) -> float:
    """Seconds from the command to a picture in its window."""
    person, began = Person(display), time.monotonic()
    command = [sys.executable, "-m", "worldgen.cli", "play", world]
    game = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while len(np.unique(person.look()[::8, ::8].reshape(-1, 3), axis=0)) < 50:
            if time.monotonic() > began + 120 or game.poll() is not None:
                raise SystemExit(f"`worldgen play {world}` shows no picture")
            time.sleep(0.02)
        return time.monotonic() - began
    finally:
        game.terminate()
        game.wait(60)


def press_keys(seconds: float) -> None:
    """About two presses a second, each held for a while, some together."""
    person, rng = Person(os.environ["DISPLAY"]), np.random.default_rng(0)
    person.window("worldgen")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        keys = rng.choice(KEYS, rng.integers(1, 3), replace=False)
        for is_down in (True, False):
            for key in keys:
                person.key(key, is_down)
            time.sleep(rng.uniform(0.1, 0.4))


def soak(name: str, minutes: float, first: float) -> bool:
    """Plays and prints -> whether a bar was missed"""
    from worldgen import World
    from worldgen.play.loop import Player
    from worldgen.play.session import SessionLog
    from worldgen.play.window import Window

    world = World.load(name)
    fps = world.config.fps
    player = Player(world, log=SessionLog(world, name=name))
    window = Window(player)
    memory, gaps = [], []
    threading.Thread(target=watch, args=(window, 60 * minutes, memory, gaps), daemon=True).start()
    window.run()
    stats = player.summary(window.live.seconds)
    latency = [window.latency.percentile(p, recent=False) or float("nan") for p in (50, 99)]
    begin = min(60, len(memory) // 2)
    growth = max(memory[begin:]) - memory[begin]
    late_gaps = (window.sound.underruns if window.sound is not None else 0) - (gaps[0] if gaps else 0)
    frames, dropped, key_bar = stats["frames"], stats["dropped"], 2000 / fps + 16
    effort = f"{window.live.effort.described()}, wanted {window.live.governor.wanted.described()}"
    bars = [
        ("fps held", f"{stats['fps']:.2f} of {fps:g}", stats["fps"] >= 0.99 * fps),
        ("dropped", f"{dropped} of {frames}", dropped <= MAX_DROPPED * frames),
        (
            f"key to picture, p99 <= {key_bar:.0f} ms",
            f"{latency[0]:.0f} p50, {latency[1]:.0f} p99",
            latency[1] <= key_bar,
        ),
        (f"memory flat after {begin} s", f"{growth:+.1f} MB, {memory[-1]:.0f} in all", growth <= FLAT_MB),
        ("sound gaps after the first second", f"{late_gaps}", late_gaps == 0),
        (f"first picture <= {FIRST_PICTURE_SECONDS:g} s", f"{first:.1f} s", first <= FIRST_PICTURE_SECONDS),
    ]
    print(f"{name}, {stats['backend']}, {stats['width']}x{stats['height']}, {minutes:g} minutes, {effort};", end=" ")
    print(
        f"a frame takes {stats['frame_ms_p50']:.1f} ms p50, {stats['frame_ms_p99']:.1f} p99, {presses(player)} presses"
    )
    for bar, figure, is_met in bars:
        print(f"{bar:<36} {figure:<28} {'met' if is_met else 'MISSED'}")
    return not all(is_met for _, _, is_met in bars)


def presses(player) -> int:
    actions = player.log.session().actions
    return sum(b != a and b != 0 for a, b in zip(actions, actions[1:], strict=False))


def watch(window, seconds: float, memory: list[float], gaps: list[int]) -> None:
    """Each second: megabytes of this process, and the sound's gaps so far. Then the game is over."""
    page, end = os.sysconf("SC_PAGE_SIZE"), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(1)
        memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * page / 1e6)
        gaps.append(window.sound.underruns if window.sound is not None else 0)
    window.live.is_over = True


if __name__ == "__main__":
    sys.exit(main())
