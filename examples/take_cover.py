"""The classic test of a world: an agent that has only ever played the generated game plays the real one.

Records the real game, trains a world on it, trains one agent in the generated game and one in the real game for as many
steps, and plays both, and a random player, in the real game (Ha & Schmidhuber 2018). Every stage is kept in OUT; the
same command goes on where it was stopped. A try of minutes, then the whole of it, hours of two CPU cores:

    python examples/take_cover.py --out try --frames 3000 --minutes 4 --steps 4000 --episodes 5 --dream-episodes 1
    python examples/take_cover.py --out take_cover --compile
    python examples/take_cover.py --game pyxel:platformer --world W --recordings R --reward-scale 5 --dream-seconds 3 \
        --no-greedy --out platformer
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from safetensors.torch import save

from worldgen.bundle import find_world, onnx_folder
from worldgen.command import parse, run
from worldgen.config import WorldConfig
from worldgen.data.shaping import parse_shaping
from worldgen.envs import WorldEnv, WorldVectorEnv
from worldgen.envs.catalogue import make_game
from worldgen.envs.game_env import GameEnv
from worldgen.envs.record import Progress, record
from worldgen.errors import InputError
from worldgen.files import write_bytes, write_json
from worldgen.training.compiled import check_compiler
from worldgen.training.pipeline import train_world
from worldgen.training.ppo import Policy, PpoRecipe, play_episodes, train_ppo
from worldgen.training.recipe import Recipe
from worldgen.training.recorded_starts import recorded_starts

EPISODE_SECONDS = 60.0  # as long as take_cover lets a game last; others are cut there
EVALUATION_SEED = 1_000_000  # of the first episode that is counted; no recording and no training has these
NUM_STARTS = 4000  # moments of the recordings that generated games begin from
ROLLOUT = 32  # actions of each game between updates
ROUNDS = 10_000  # of the bootstrap
Say = Callable[[str], None]


@dataclass(frozen=True)
class Proof:
    out: Path
    """folder of everything that is recorded, trained and measured"""
    game: str = "vizdoom:take_cover"
    """the real game, source:name"""
    world: Path | None = None
    """a world that was trained on the game already: nothing is recorded and trained but the agents"""
    frames: int = 60_000
    """to record, by random, sticky and scripted players"""
    minutes: float | None = None
    """of training the world, in all; by default as long as the preset has it"""
    preset: str = "fine"
    """of the world"""
    compile: bool = False
    """train its dynamics and heads as worldgen train --compile does"""
    dream_seconds: float | None = 1.0
    """generated games are cut after so long while an agent learns in them: each begins from a moment of the recordings,
    and what would have come is the agent's own guess; None: from the world's own starts, as long as they go on"""
    recordings: Path | None = None
    """with --world: of the game, for generated games to begin from"""
    steps: int = 300_000
    """of each agent's training"""
    games: int = 16
    """side by side"""
    action_repeat: int = 4
    """frames that a player holds each action, the random one too"""
    episodes: int = 100
    """of each player in the real game"""
    dream_episodes: int = 20
    """of each player in the generated game"""
    greedy: bool = True
    """agents take their likeliest action; --no-greedy: they draw it, where all games would be the same otherwise"""
    shaping: tuple[str, ...] = ()
    """of the rewards that both agents learn from, by what the game knows of its state, NAME=WEIGHT each; a --world that
    is given has its own"""
    reward_scale: float = 200.0
    """what the agents' rewards are divided by, so that a game's return is not far from 1"""
    end_above: float | None = 1.5
    """generated games end above this uncertainty"""
    temperature: float = 1.0
    """of generated games, in worlds whose dynamics is shown pure noise"""
    backend: str = "auto"
    """that runs the world; torch needs no export"""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.frames, self.steps, self.games, self.episodes, self.dream_episodes) < 1:
            raise InputError("--frames, --steps, --games, --episodes and --dream-episodes are at least 1")
        if self.dream_seconds is not None and self.dream_seconds <= 0:
            raise InputError(f"--dream-seconds is above 0, or None, got {self.dream_seconds}")
        if self.world is not None and self.recordings is None and self.dream_seconds is not None:
            raise InputError("--world needs --recordings to begin games from, or --dream-seconds None")
        if self.shaping and self.world is not None:
            raise InputError("--world has the shaping that its heads were trained with: leave --shaping out")
        parse_shaping(self.shaping)
        if self.recordings is not None and (self.world is None or self.dream_seconds is None):
            raise InputError("--recordings belongs to --world with games of some --dream-seconds: leave it out")
        self.recipe()

    def recipe(self) -> PpoRecipe:
        """Of either agent's training"""
        return PpoRecipe(
            steps=self.steps, rollout=ROLLOUT, action_repeat=self.action_repeat, reward_scale=self.reward_scale,
            seed=self.seed,
        )  # fmt: skip


def prove(proof: Proof, say: Say = print) -> dict[str, Any]:
    """-> the figures of OUT/results.json"""
    choices = _keep_choices(proof)
    recordings, world = proof.out / "recordings", proof.out / "world"
    if proof.world is None:
        _record(proof, recordings, say)
        _train_world(proof, recordings, world, say)
    else:
        recordings, world = proof.recordings or recordings, find_world(proof.world)
    recipe = proof.recipe()
    soft = replace(recipe, soft_ends=proof.dream_seconds is not None)
    dream = _train_agent(proof.out / "agent_dream", _dreams(proof, world, recordings, say), soft, say)
    real = _train_agent(proof.out / "agent_real", _real_games(proof, world), recipe, say)
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name, policy in (("random", None), ("trained in the dream", dream), ("trained in the real game", real)):
        rows[name] = {
            "real": _episodes(proof, name, "real", policy, lambda: _real_game(proof, world), say),
            "dream": _episodes(proof, name, "dream", policy, lambda: _dream(proof, world), say),
        }
    results = {name: {where: summary(part) for where, part in parts.items()} for name, parts in rows.items()}
    shaping = WorldConfig.load(world / "world.json").shaping
    figures = {"steps": proof.steps, **choices, "shaping": shaping, "players": results, "ratio": ratio(results)}
    write_json(proof.out / "results.json", figures)
    text = table(figures)
    write_bytes(proof.out / "results.md", text.encode())
    write_bytes(proof.out / "curves.png", curves(proof.out))
    say(text)
    return figures


def _keep_choices(proof: Proof) -> dict[str, Any]:
    """What the agents in OUT were trained with: another choice needs another folder. Steps and episodes may grow."""
    if proof.compile:
        check_compiler()
    free = {"out", "frames", "minutes", "compile", "backend", "steps", "episodes", "dream_episodes", "greedy"}
    choices = json.loads(json.dumps({k: v for k, v in asdict(proof).items() if k not in free}, default=str))
    path = proof.out / "proof.json"
    kept = {"shaping": []} | json.loads(path.read_text()) if path.is_file() else choices  # of before there was any
    if changed := sorted(k for k in choices if kept.get(k) != choices[k]):
        name = changed[0]
        raise InputError(
            f"{proof.out} was begun with {name} {kept.get(name)}, not {choices[name]}: choose another --out"
        )
    write_json(path, choices)
    return choices


def _record(proof: Proof, folder: Path, say: Say) -> None:
    """Random and better players; what an interrupted recording has kept is used too."""
    done = proof.out / "recorded.json"
    if done.is_file():
        return

    def show(progress: Progress) -> None:
        if progress.frames * 10 // progress.total > shown[0]:
            shown[0] = progress.frames * 10 // progress.total
            say(f"  {progress.frames} of {progress.total} frames, {progress.fps:.0f}/s")

    shown = [0]
    say(f"recording {proof.frames} frames of {proof.game}")
    figures = record(proof.game, folder, proof.frames, policy="mix", seed=proof.seed, on_progress=show)
    if figures["interrupted"]:
        raise KeyboardInterrupt("the same command goes on")
    write_json(done, figures)


def _train_world(proof: Proof, recordings: Path, world: Path, say: Say) -> None:
    done = proof.out / "trained.json"
    if not done.is_file():
        stages = ("tokenizer", "dynamics", "heads")
        summary = train_world(
            Recipe(
                recordings, world, preset=proof.preset, minutes=proof.minutes, stages=stages, resume=True,
                seed=proof.seed, name=proof.game.partition(":")[2] or proof.game, compile=proof.compile,
                shaping=parse_shaping(proof.shaping),
            ),
            say,
        )  # fmt: skip
        write_json(done, summary)
    if not proof.backend.startswith("torch") and not (onnx_folder(world) / "manifest.json").is_file():
        from worldgen.export.to_onnx import export_onnx

        export_onnx(world, say=say)


def _max_steps(world: Path) -> int:
    return round(EPISODE_SECONDS * WorldConfig.load(world / "world.json").fps)


def _dreams(proof: Proof, world: Path, recordings: Path, say: Say) -> Callable[[], Any]:
    def make() -> WorldVectorEnv:
        config, starts, steps = WorldConfig.load(world / "world.json"), None, _max_steps(world)
        if proof.dream_seconds is not None:
            starts = recorded_starts(recordings, config, NUM_STARTS, say)
            steps = proof.action_repeat * max(1, round(proof.dream_seconds * config.fps / proof.action_repeat))
        return WorldVectorEnv(
            world,
            proof.games,
            backend=proof.backend,
            nfe=1,
            starts=starts,
            max_episode_steps=steps,
            end_above=proof.end_above,
            temperature=proof.temperature,
            ignore_ends=starts is not None,
            draw_ends=starts is None,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )

    return make


def _dream(proof: Proof, world: Path) -> WorldEnv:
    """As long as it goes on, so that its return can be held against the real one's, where the reward is not shaped."""
    return WorldEnv(
        world,
        backend=proof.backend,
        nfe=1,
        max_episode_steps=_max_steps(world),
        end_above=proof.end_above,
        temperature=proof.temperature,
        draw_ends=True,
    )


def _real_game(proof: Proof, world: Path, is_shaped: bool = False) -> GameEnv:
    config = WorldConfig.load(world / "world.json")
    return GameEnv(
        make_game(proof.game, config.fps), config.height, config.width, max_episode_steps=_max_steps(world),
        shaping=config.shaping if is_shaped else None,
    )  # fmt: skip


def _real_games(proof: Proof, world: Path) -> Callable[[], Any]:
    games = [lambda: _real_game(proof, world, is_shaped=True)] * proof.games
    return lambda: SyncVectorEnv(games, autoreset_mode=AutoresetMode.SAME_STEP)


def _train_agent(folder: Path, make_envs: Callable[[], Any], recipe: PpoRecipe, say: Say) -> Policy:
    envs = make_envs()
    prompts = envs.world.prompts if isinstance(envs, WorldVectorEnv) else None
    try:
        return train_ppo(envs, recipe, folder, resume=True, prompts=prompts, say=say)
    finally:
        envs.close()


def _episodes(
    proof: Proof, name: str, where: str, policy: Policy | None, make_env: Callable[[], Any], say: Say
) -> list[dict[str, float]]:
    """Played with fixed seeds; each is written down when it ends. Those of an agent that has been trained on since, or
    that took its actions otherwise, are played again."""
    path = proof.out / "episodes" / f"{name.replace(' ', '_')}-{where}.json"
    player = f"random, held for {proof.action_repeat}".encode() if policy is None else save(policy.state_dict())
    player += b"" if policy is None or proof.greedy else b"drawn"
    played = hashlib.sha256(player).hexdigest()
    kept = json.loads(path.read_text()) if path.is_file() else {}
    rows: list[dict[str, float]] = kept["episodes"] if kept.get("policy") == played else []
    count = proof.episodes if where == "real" else proof.dream_episodes
    seeds = range(EVALUATION_SEED + len(rows), EVALUATION_SEED + count)
    if not seeds:
        return rows[:count]
    env = make_env()

    def keep(row: dict[str, float]) -> None:
        rows.append(row)
        write_json(path, {"policy": played, "episodes": rows})

    try:
        play_episodes(env, policy, list(seeds), keep, is_greedy=proof.greedy, action_repeat=proof.action_repeat)
    finally:
        env.close()
    found = summary(rows)
    if proof.greedy and count > 1 and len({(row["return"], row["length"]) for row in rows}) == 1:
        say(f"{name}, {where} game: {count} episodes alike, which are one: --no-greedy draws the actions")
    say(f"{name}, {where} game: {found['mean']:.1f} ({found['low']:.1f} to {found['high']:.1f}), {len(rows)} episodes")
    return rows


def summary(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean return with the interval that holds it with 95 % (bootstrap over episodes), median, mean length."""
    returns = np.array([row["return"] for row in rows], float)
    draws = np.random.default_rng(0).choice(returns, (ROUNDS, len(returns))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return {
        "episodes": len(rows),
        "mean": float(returns.mean()),
        "low": float(low),
        "high": float(high),
        "std": float(returns.std()),
        "median": float(np.median(returns)),
        "length": float(np.mean([row["length"] for row in rows])),
    }


def ratio(players: dict[str, dict[str, dict[str, float]]]) -> float | None:
    """What dream training gains over random play, of what real training gains; None where that gains nothing that
    chance would not."""
    random, dream, real = (players[name]["real"] for name in players)
    if real["low"] <= random["high"]:
        return None
    return (dream["mean"] - random["mean"]) / (real["mean"] - random["mean"])


def table(figures: dict[str, Any]) -> str:
    shaped = f", shaped by {', '.join(figures['shaping'])}" if figures.get("shaping") else ""
    lines = [
        f"# {figures['game']}: {figures['steps']} steps of training",
        "",
        f"| player | real return, mean (95 %) | sd | median | frames | episodes | in the dream{shaped}, mean (95 %) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, parts in figures["players"].items():
        real, dream = parts["real"], parts["dream"]
        means = [f"{x['mean']:.1f} ({x['low']:.1f} to {x['high']:.1f})" for x in (real, dream)]
        lines.append(
            f"| {name} | {means[0]} | {real['std']:.1f} | {real['median']:.1f} | {real['length']:.0f} | "
            f"{real['episodes']} | {means[1]} |"
        )
    gained = "-" if figures["ratio"] is None else f"{100 * figures['ratio']:.0f} %"
    return "\n".join([*lines, "", f"(dream-trained - random) / (real-trained - random): {gained}", ""])


def curves(out: Path) -> bytes:
    """Over steps, as PNG, what was trained in brought: the return, but where games of the dream are cut, most of them
    at one length, how likely one ends while an action is held. Each has its own axis."""
    import io

    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for name, key, label, colour, side in (
        ("dream", "end_probability", "end of a dream while an action is held", "#d1495b", axis),
        ("real", "return", "return in the real game, trained there", "#2e86ab", axis.twinx()),
    ):
        rows = json.loads((out / f"agent_{name}" / "curve.json").read_text())["curve"]
        if not any(key in row for row in rows):
            key, label = "return", f"return in the {name} game, trained there"
        points = [(row["steps"], row[key]) for row in rows if key in row]
        if points:
            side.plot(*zip(*points, strict=True), color=colour)
        side.set_ylabel(label, color=colour)
    axis.set_xlabel("steps")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    plt.close(figure)
    return picture.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        prove(parse(Proof, "take_cover", words, __doc__), lambda text: print(text, flush=True))
        return 0

    return run("take_cover", work)


if __name__ == "__main__":
    sys.exit(main())
