"""What the figures of an evaluation say, in words: the same sentences for the terminal, the report and the card."""

from __future__ import annotations

from typing import Any


def findings(figures: dict[str, Any]) -> list[str]:
    """The figures of evaluate() -> sentences, good and bad news alike."""
    return [
        *_picture(figures),
        *_control(figures["control"]),
        *_outcomes(figures["outcomes"]),
        *_cost(figures.get("cost"), figures["fps"]),
    ]


def _picture(figures: dict[str, Any]) -> list[str]:
    if figures["data"]["actions"] == "random":
        return ["Without known actions the world cannot be held against the recordings frame by frame."]
    fps, horizons = figures["fps"], {int(h): f for h, f in figures["horizons"].items()}
    better = [h for h, f in horizons.items() if f["skill"] > 0]
    known = [h for h in better if horizons[h]["skill_90"]]
    is_doubtful = bool(known) and all(_low(horizons[h]["skill_90"]) <= 0 for h in known)
    said = []
    if not better:
        said.append(
            "At every horizon, repeating the last true frame is closer to the recording than what it generates."
        )
    else:
        best = max(better, key=lambda h: horizons[h]["skill"])
        gain = f"by up to {horizons[best]['skill']:.1f} dB (at {best} frames, {best / fps:.1f} s)"
        doubt = ", though the interval of every horizon reaches below 0" if is_doubtful else ""
        said.append(f"It beats repeating the last true frame at {_listed(better)} frames, {gain}{doubt}.")
        if worse := [h for h in horizons if h not in better]:
            said.append(f"At {_listed(worse)} frames it does not.")
    if blocked := [h for h, f in horizons.items() if f["reconstruction_psnr"] < f["copy_last_psnr"]]:
        said.append(
            f"At {_listed(blocked)} frames its tokenizer alone is further from the recording than the last true frame "
            "is, so no skill is possible there."
        )
    last = max(horizons)
    f = horizons[last]
    if (sharp := f["gradient_energy_ratio"]) is not None and sharp < 0.7:
        codec = f["reconstruction_gradient_energy_ratio"]
        said.append(
            f"After {last} frames it has {sharp:.0%} of the real frames' sharpness (its codec alone: {codec:.0%})."
        )
    if (motion := f["changed_pixel_ratio"]) is not None and not 0.5 < motion < 2:
        said.append(f"After {last} frames it moves {motion:.2f} times as much as the game.")
    return said


def _low(bounds: list[float] | None) -> float:
    return bounds[0] if bounds else float("-inf")


def _control(control: dict[str, Any] | None) -> list[str]:
    if control is None:
        return []
    delta, low = control["delta_psnr"], _low(control["delta_psnr_90"])
    if delta <= 0.05:
        strength = "It does not do what it is told"
    elif low <= 0 and control["delta_psnr_90"]:
        strength = "Whether it does what it is told is not certain from these clips"
    elif delta < 0.5:
        strength = "It does what it is told weakly"
    else:
        strength = "It does what it is told"
    said = [f"{strength}: the recorded actions bring it {delta:.2f} dB closer to the recording than random ones."]
    effects = {name: a["effect"] for name, a in control["per_action"].items()}
    if idle := [name for name, effect in effects.items() if effect < 0.25 * max(effects.values())]:
        said.append(f"These actions hardly change the picture: {', '.join(idle)}.")
    return said


def _outcomes(outcomes: dict[str, Any] | None) -> list[str]:
    if outcomes is None:
        return []
    said = []
    if outcomes.get("reward_events"):
        recall, count = outcomes["reward_events_recall"], outcomes["reward_events"]
        said.append(f"It gives {recall:.0%} of {count} rewards at their frame.")
    if outcomes.get("ends"):
        precision = outcomes["terminated_precision"]
        right = "it never ends a game" if precision is None else f"{precision:.0%} of the ends it gives are right"
        said.append(f"It ends {outcomes['terminated_recall']:.0%} of {outcomes['ends']} games at their frame; {right}.")
    return said


def _cost(cost: dict[str, Any] | None, fps: float) -> list[str]:
    if cost is None:
        return []
    speed = "fast enough" if cost["ms_p95"] <= 1000 / fps else "too slow"
    memory = f", {cost['peak_megabytes']:.0f} MB" if cost["peak_megabytes"] else ""
    return [f"A frame takes {cost['ms_p50']:.1f} ms (p95 {cost['ms_p95']:.1f}{memory}): {speed} for {fps:g} fps."]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
