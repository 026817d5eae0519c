"""What the figures of an evaluation say, in words: the same sentences for the terminal, the report and the card."""

from __future__ import annotations

from typing import Any

FEW = 3  # clips of an action: fewer say nothing about it
RARE = 0.05  # of the recorded frames: of what is seen in fewer of them nothing is said


def findings(figures: dict[str, Any]) -> list[str]:
    """The figures of evaluate() -> sentences, good and bad news alike."""
    return [
        *_picture(figures),
        *_timing(figures.get("timing")),
        *_control(figures["control"]),
        *_inverse_dynamics(figures.get("inverse_dynamics")),
        *_latent_actions(figures.get("latent_actions")),
        *_counterfactual(figures.get("counterfactual")),
        *_objects(figures.get("objects")),
        *presence_findings(figures.get("presence")),
        *_nfe(figures.get("by_nfe")),
        *_stability(figures.get("stability"), figures["fps"]),
        *_outcomes(figures["outcomes"]),
        *_large_picture(figures.get("large_picture")),
        *_between(figures.get("between")),
        *_sound(figures.get("sound")),
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


def _large_picture(figures: dict[str, Any] | None) -> list[str]:
    if figures is None:
        return []
    gain = {k: figures[k]["network"]["psnr"] - figures[k]["bicubic"]["psnr"] for k in ("area", "decoder")}
    return [
        f"Super-resolution to {figures['width']}x{figures['height']} is {gain['decoder']:+.1f} dB against bicubic from "
        f"the tokenizer's frames, {gain['area']:+.1f} dB from shrunk recordings."
    ]


def _between(figures: dict[str, Any] | None) -> list[str]:
    if figures is None:
        return []
    found = figures["decoder"]
    gain = {way: found["network"]["psnr"] - found[way]["psnr"] for way in ("blend", "repeat")}
    return [
        f"In-between frames, made from the tokenizer's, are {gain['blend']:+.1f} dB against blending and "
        f"{gain['repeat']:+.1f} dB against repeating."
    ]


def _sound(figures: dict[str, Any] | None) -> list[str]:
    if figures is None:
        return []
    said = []
    for name, what in (("played", "its own frames"), ("listened", "recorded frames")):
        f = figures[name]
        found = "nothing begins" if f["onset_f1"] is None else f"onset F1 {f['onset_f1']:.2f}"
        limits = [
            f"{what} {figures[key]:.2f}"
            for what, key in (("chance", "shuffled_onset_f1"), ("its codec", "codec_onset_f1"))
            if figures[key] is not None
        ]
        by_chance = f" ({', '.join(limits)})" if limits else ""
        way = f["share_of_the_way"]
        said.append(
            f"Its sound on {what}: {found}{by_chance}, {f['stft_distance']:.1f} dB from the recorded sound; another "
            f"clip's is {figures['shuffled']:.1f} dB off, silence {figures['silence']:.1f}"
            + ("." if way is None else f": {way:.0%} of the way from another clip's to the codec's own.")
        )
    return said


def _timing(timing: dict[str, Any] | None) -> list[str]:
    if timing is None or not timing["lag"]:
        return []
    lag = timing["lag"]
    return [f"Its picture changes {abs(lag)} frame{'s' * (abs(lag) > 1)} too {'late' if lag > 0 else 'early'}."]


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
    ratio = control.get("action_shuffle_ratio")
    if ratio is not None and ratio < 1.05:
        said.append(
            f"Its prediction hardly depends on the action: another's makes the error {ratio:.2f} times as large."
        )
    return said + _actions(control["per_action"])


def _actions(per_action: dict[str, dict[str, Any]]) -> list[str]:
    """Actions that do nothing here, and those that do something else than in the game."""
    effects = {name: a["effect"] for name, a in per_action.items() if a["effect"] is not None}
    idle = [name for name, effect in effects.items() if effect < 0.25 * max(effects.values())]
    known = {name: a for name, a in per_action.items() if a.get("count", 0) >= FEW}
    still = [
        name
        for name, a in known.items()
        if a["changed_pixel_ratio"] is not None and a["changed_pixel_ratio"] < 0.5 and name not in idle
    ]
    wrong = [name for name, a in known.items() if a["delta_psnr"] <= 0 and name not in idle + still]
    said = []
    if idle:
        said.append(f"These actions hardly change the picture: {', '.join(idle)}.")
    if still:
        said.append(f"Under these less than half as much moves as in the game: {', '.join(still)}.")
    if wrong:
        said.append(f"Under these the true picture is no nearer than under the others: {', '.join(wrong)}.")
    return said


def _inverse_dynamics(read: dict[str, Any] | None) -> list[str]:
    if read is None:
        return []
    real, chance = read["accuracy_real"], read["chance"]
    if real < 1.5 * chance:
        return [f"Actions can hardly be read even off real frames ({real:.0%}, guessing {chance:.0%})."]
    said = [
        f"Actions are read off its frames at {read['accuracy_recorded']:.0%} under recorded and "
        f"{read['accuracy_random']:.0%} under random play; off real frames at {real:.0%} (guessing {chance:.0%})."
    ]
    shares = read.get("per_action") or {}
    if unseen := [n for n, s in shares.items() if _is_unseen(s["real"], s["recorded"])]:
        said.append(f"What these do in the game is hardly to be seen in it: {', '.join(unseen)}.")
    keys = read.get("per_key") or {}
    if faint := [key for key, s in keys.items() if _is_faint(s["real"], s["recorded"], s["random"])]:
        said.append(f"Whether these keys are pressed is seen much less than in the game: {', '.join(faint)}.")
    return said


def _latent_actions(scored: dict[str, Any] | None) -> list[str]:
    if scored is None:
        return []
    usage = scored["usage"]
    said = [f"Of {len(usage)} codes {scored['perplexity']:.1f} are in use (perplexity)."]
    if scored["unused"]:
        said.append(f"These codes are never used: {_listed(scored['unused'])}.")
    if scored["nmi"] is not None:
        said.append(
            f"A code tells {scored['accuracy']:.0%} of the actions that were really pressed, how well all codes "
            f"explain a frame {scored['probe']:.0%}, a network trained on the actions {scored['labelled']:.0%} "
            f"(guessing {scored['chance']:.0%}); their normalised mutual information is {scored['nmi']:.2f}."
        )
    return said


def _is_faint(real: float, recorded: float, at_random: float) -> bool:
    """Half way from what is seen in the game to guessing, for a key that can be seen at all"""
    return real > 0.7 and (recorded + at_random) / 2 - 0.5 < 0.5 * (real - 0.5)


def _is_unseen(real: float | None, made: float | None) -> bool:
    return real is not None and made is not None and real > 0.3 and made < 0.3 * real


def _counterfactual(forked: dict[str, Any] | None) -> list[str]:
    if forked is None:
        return []
    h = "4" if "4" in forked["horizons"] else max(forked["horizons"], key=int)
    f = forked["horizons"][h]
    is_certain = not f["random_gap_90"] or f["random_gap_90"][0] > 0
    if f["psnr_random"] <= f["psnr_if_actions_are_ignored"]:
        verdict = "no closer than a perfect world that did not listen"
    elif f["random_gap"] > 1 and is_certain:
        verdict = "it knows better what follows from what players do than from other actions"
    else:
        verdict = "it knows what other choices would have led to about as well as those that were made"
    return [
        f"Under actions that nobody recorded it is {f['psnr_random']:.1f} dB from the real game after {h} frames, "
        f"{f['psnr_recorded']:.1f} dB under recorded ones: {verdict}."
    ]


def _objects(objects: dict[str, Any] | None) -> list[str]:
    if objects is None:
        return []
    said = []
    for name, thing in objects["things"].items():
        if thing["found_recorded"] is None or thing["found_recorded"] < 0.5:
            continue  # it cannot be told
        said.append(
            f"{name.capitalize()}: {thing['found']:.0%} are where they should be over {objects['frames']} frames "
            f"(looking for them in the recordings finds {thing['found_recorded']:.0%}), mask IoU {thing['iou']:.2f}."
        )
    return said


def presence_findings(presence: dict[str, Any] | None) -> list[str]:
    """How often things are seen, along the clips, beside the recordings"""
    said = []
    for name, thing in presence["things"].items() if presence else ():
        if max(f["seen_recorded"] for f in thing["frames"].values()) < RARE:
            continue
        made, recorded, codec = (
            ", ".join(f"{f[key]:.0%}" for f in thing["frames"].values())
            for key in ("seen", "seen_recorded", "seen_codec")
        )
        said.append(
            f"{name.capitalize()} seen in {made} of frames {', '.join(thing['frames'])}; in the recordings in "
            f"{recorded}, in these through the tokenizer alone in {codec}."
        )
    return said


def _nfe(by_nfe: dict[str, Any] | None) -> list[str]:
    if by_nfe is None or not by_nfe["1"]["loss"] > 1:
        return []
    return [f"One step a frame instead of 4 costs {by_nfe['1']['loss']:.1f} dB at frame {by_nfe['at']}."]


def _stability(stability: dict[str, Any] | None, fps: float) -> list[str]:
    if stability is None:
        return []
    ratio, motion = stability["kernel_ratio"], stability["changed_pixel_ratio"]
    sharp, codec = stability["gradient_energy_ratio"], stability["reconstruction_gradient_energy_ratio"]
    when = f"After {stability['frames']} frames ({stability['frames'] / fps:.0f} s)"
    faults = []
    if motion is not None and motion < 0.5:
        faults.append("it hardly moves any more" if motion > 0.05 else "the picture is frozen")
    if motion is not None and motion > 2:
        faults.append(f"it moves {motion:.1f} times as much as the game")
    if sharp is not None and sharp < 0.5:
        faults.append(f"{sharp:.0%} of the real frames' sharpness is left" + (f" (codec {codec:.0%})" if codec else ""))
    if ratio is not None and ratio > 3:
        faults.append(
            f"its frames are {ratio:.1f} times as far from real ones as other real ones are{_groups(stability)}"
        )
    if faults:
        return [f"{when} it is no longer the game: {'; '.join(faults)}."]
    if ratio is None or motion is None:
        return [f"{when} no fault is seen; too little is held out to say more."]
    return [
        f"{when} it is still the game: as far from real frames as {ratio:.1f} times what other real ones are"
        f"{_groups(stability)}, {motion:.2f} times the motion."
    ]


def _groups(stability: dict[str, Any]) -> str:
    least, most = stability["kernel_ratio_range"]
    return f" (groups of games {least:.1f} to {most:.1f})"


def _outcomes(outcomes: dict[str, Any] | None) -> list[str]:
    if outcomes is None:
        return []
    said = []
    if outcomes.get("reward_events"):
        recall, count = outcomes["reward_events_recall"], outcomes["reward_events"]
        precision = outcomes["reward_events_precision"]
        right = "it gives none else" if precision is None else f"{precision:.0%} of those it gives are right"
        said.append(f"It gives {recall:.0%} of {count} rewards at their frame; {right}.")
    if outcomes.get("ends"):
        precision = outcomes["terminated_precision"]
        right = "it never ends a game" if precision is None else f"{precision:.0%} of the ends it gives are right"
        said.append(f"It ends {outcomes['terminated_recall']:.0%} of {outcomes['ends']} games at their frame; {right}.")
        f1, best, threshold = outcomes["terminated_f1"], outcomes["best_f1"], outcomes["best_threshold"]
        if best > f1 + 0.1:
            said[-1] += f" With a threshold of {threshold:.2g} its F1 would be {best:.2f} instead of {f1:.2f}."
        elif best < 0.2:
            said[-1] += " No threshold would do better: ends cannot be told from its hidden state."
    return said


def _cost(cost: dict[str, Any] | None, fps: float) -> list[str]:
    if cost is None:
        return []
    speed = "fast enough" if cost["ms_p95"] <= 1000 / fps else "too slow"
    memory = f", {cost['peak_megabytes']:.0f} MB" if cost["peak_megabytes"] else ""
    said = f"A frame takes {cost['ms_p50']:.1f} ms (p95 {cost['ms_p95']:.1f}{memory}): {speed} for {fps:g} fps."
    if both := cost.get("with_between"):
        said += f" With an in-between one {both['ms_p50']:.1f} (p95 {both['ms_p95']:.1f})."
    return [said]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
