"""How well do latent actions agree with real ones, by how many of the real ones were seen? Trains a model for each
share of labelled frames and scores it on held-out episodes.

    python -m worldgen.training.label_curve recordings/doom --out curve.md --minutes 2

With a share of 0 the recorded actions are used to score alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import tyro

from worldgen.bundle import load_network
from worldgen.command import parse, run, say_beside, write_figures
from worldgen.data.dataset import Segments
from worldgen.errors import InputError
from worldgen.files import check_writable, write_bytes
from worldgen.training.action_reader import known_reader
from worldgen.training.button_map import button_map_figures
from worldgen.training.code_scores import action_classes, agreement, mean_recall
from worldgen.training.held_out import HeldOut
from worldgen.training.latent_action import latents_of
from worldgen.training.pipeline import train_world
from worldgen.training.presets import get_preset
from worldgen.training.recipe import Recipe
from worldgen.training.run import Run

MAX_PAIRS = 6000


@dataclass(frozen=True)
class CurveOptions:
    data: Annotated[Path, tyro.conf.Positional]
    """recordings with actions"""
    out: Path
    """the table, as Markdown"""
    preset: str = "tiny"
    minutes: float | None = None
    """of training for each share"""
    steps: int | None = None
    shares: tuple[float, ...] = (0.0, 0.001, 0.01, 0.1)
    """of the training frames whose recorded action may be seen"""
    seed: int = 0
    json: str | None = None


def label_curve(options: CurveOptions, say: Callable[[str], None]) -> dict[str, Any]:
    check_writable(options.out, "--out")
    figures: dict[str, Any] = {"data": str(options.data), "shares": {}}
    labelled: float | None = None
    for share in options.shares:
        say(f"{share:.3g} of the frames labelled:")
        with TemporaryDirectory(prefix="worldgen-label-curve-") as folder:
            recipe = Recipe(
                options.data, Path(folder) / "world", options.preset, actions="latent", minutes=options.minutes,
                steps=options.steps, stages=("latent_action",), labels=share, seed=options.seed,
            )  # fmt: skip
            summary = train_world(recipe, say)
            network = load_network(recipe.out, "latent_action")
            run_ = Run(recipe, get_preset(options.preset), lambda text: None)
            scored, labelled = _scores(run_, network, labelled, options.seed)
        scored |= summary["stages"]["latent_action"]
        figures["shares"][f"{share:.3g}"] = scored
        say(
            f"  nmi {scored['nmi']:.2f}, {scored['accuracy']:.0%} of the actions from codes, {scored['probe']:.0%} "
            f"from the probe, {scored['labelled']:.0%} with all labels, {scored['chance']:.0%} by chance"
        )
        write_bytes(options.out, table(figures).encode())
    return figures


def _scores(run_: Run, network: Any, labelled: float | None, seed: int) -> tuple[dict[str, Any], float]:
    """Fitted on training episodes, scored on those held out -> scores, the labelled model's accuracy"""
    cache = run_.cache
    if cache.actions is None or cache.action_map is None:
        raise InputError(f"{run_.recipe.data} has no recorded actions to score codes with")
    rng, recorded = np.random.default_rng(seed), np.asarray(cache.actions)
    learned, scored = (_pairs(s, recorded, cache.action_map.null(), rng) for s in (run_.train, run_.validation))
    rows = np.concatenate([learned, scored])
    found = action_classes(recorded[rows], cache.action_map)
    if isinstance(found, str):
        raise InputError(f"{run_.recipe.data}: {found}")
    actions, kinds = found
    is_learned = np.arange(len(rows)) < len(learned)
    latents = latents_of(cache, network, rows)
    codes, num_codes = latents.argmax(1), int(network.config.num_codes)
    figures = agreement(codes, actions, is_learned, num_codes, kinds.names, latents)
    names = [str(i) for i in range(num_codes)]
    _, buttons = button_map_figures(codes, actions, kinds.names, is_learned, num_codes, names, 200, seed)
    if labelled is None:
        truth = np.zeros((len(recorded), 1), np.int64)
        truth[rows, 0] = actions
        nothing = Segments(np.zeros(0, np.int64), np.zeros(0, np.int64))
        held_out = HeldOut(cache, nothing, truth, {"actions": "recorded"})
        reader = known_reader(held_out, learned, [len(kinds.names)], seed)
        pairs = held_out.frames(scored[:, None] + np.arange(2))
        labelled = mean_recall(reader(pairs[:, 0], pairs[:, 1])[:, 0], actions[~is_learned])
    ratio = figures["probe"] / labelled
    figures |= {"labelled": labelled, "probe_ratio": ratio, "codes": num_codes, "button_ratio": buttons["ratio"]}
    return figures, labelled


def _pairs(segments: Segments, recorded: np.ndarray, null: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """First frames of up to MAX_PAIRS pairs whose action is known, in order"""
    rows = np.concatenate([np.arange(start, stop - 1) for start, stop in segments])
    rows = rows[(recorded[rows] != null).any(-1)]
    return np.sort(rng.permutation(rows)[:MAX_PAIRS])


def table(figures: dict[str, Any]) -> str:
    columns = (
        "labels", "codes (perplexity)", "NMI", "actions from codes", "linear probe", "labelled model",
        "probe / labelled", "chance", "200 labels / all", "steps",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for share, f in figures["shares"].items():
        shares = (f[k] for k in ("accuracy", "probe", "labelled", "probe_ratio", "chance", "button_ratio"))
        cells = [f"{float(share):.1%}", f"{f['codes']} ({f['perplexity']:.1f})", f"{f['nmi']:.2f}"]
        cells += ["-" if x is None else f"{x:.0%}" for x in shares] + [f"{f['steps']:,}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    def command() -> int:
        options = parse(CurveOptions, "label_curve", sys.argv[1:] if argv is None else argv, __doc__)
        write_figures(label_curve(options, say_beside(options.json)), options.json)
        return 0

    return run("label_curve", command)


if __name__ == "__main__":
    sys.exit(main())
