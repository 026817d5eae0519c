"""The tables of a report: figures as HTML, one function for each part of them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

COLUMNS = (
    ("frames", None),
    ("PSNR, dB", "psnr"),
    ("last frame\nrepeated", "copy_last_psnr"),
    ("skill", "skill"),
    ("tokenizer\nalone", "reconstruction_psnr"),
    ("SSIM", "ssim"),
    ("last frame\nrepeated", "copy_last_ssim"),
    ("PSNR on\nchanged pixels", "psnr_changed"),
    ("last frame\nrepeated", "copy_last_psnr_changed"),
    ("tokenizer\nalone", "reconstruction_psnr_changed"),
    ("sharpness", "gradient_energy_ratio"),
    ("motion", "changed_pixel_ratio"),
    ("blockiness\n(recorded)", "blockiness"),
    ("clips", "clips"),
)


def picture(figures: dict[str, Any]) -> str:
    head = "".join(f"<th>{title.replace(chr(10), '<br>')}</th>" for title, _ in COLUMNS)
    rows = []
    for h, figure in figures["horizons"].items():
        cells = [f"<td>{h}<br><small>{int(h) / figures['fps']:.2f} s</small></td>"]
        cells += [_picture_cell(key, figure) for _, key in COLUMNS[1:] if key]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"<p class='small'>{escape(figures['averages'])} Small: its 90 % interval. Sharpness and "
        "motion: generated over recorded, 1 is right. Far frames are of fewer clips, from other places.</p>"
    )


def _picture_cell(key: str, figure: dict[str, Any]) -> str:
    value = figure[key]
    if value is None:
        return "<td>&ndash;</td>"
    if key == "skill":
        bounds = figure["skill_90"]
        spread = f"<br><small>{bounds[0]:+.2f} to {bounds[1]:+.2f}</small>" if bounds else ""
        return f"<td class='{'good' if value > 0 else 'bad'}'>{value:+.2f}{spread}</td>"
    if key == "blockiness":
        return f"<td>{value:.2f}<br><small>{_shown(figure['real_blockiness'])}</small></td>"
    if isinstance(value, int):
        return f"<td>{value}</td>"
    return f"<td>{value:.3f}</td>" if "ssim" in key else f"<td>{value:.2f}</td>"


def control_text(figures: dict[str, Any], timing: dict[str, Any] | None) -> str:
    spread = _spread(figures["delta_psnr_90"], "+.2f")
    text = (
        f"Delta PSNR after {figures['at']} frames: <b>{figures['delta_psnr']:+.2f} dB</b>{spread}: "
        f"{figures['psnr_recorded']:.2f} dB under the recorded actions, {figures['psnr_random']:.2f} dB under random "
        "ones, from the same prompts with the same noise."
    )
    if figures["recognised"] is not None:
        text += (
            f" In {figures['recognised']:.0%} of the clips the true frame is nearest to the one made under the action "
            f"that was recorded; guessing gives {figures['recognised_chance']:.0%}."
        )
    if figures.get("action_shuffle_ratio") is not None:
        text += (
            " Predicting the next true frame under another clip's action has "
            f"<b>{figures['action_shuffle_ratio']:.2f}</b>{_spread(figures['action_shuffle_ratio_90'], '.2f')} times "
            "the error of predicting it under its own; 1 would be a world that ignores actions."
        )
    if timing and timing["lag"] is not None:
        text += (
            f" The picture changes most like the recorded one {timing['lag']} frames later (correlation "
            f"{timing['lag_correlation']:.2f}): 0 is in time."
        )
    return f"<p>{text}</p>"


def per_action(control: dict[str, Any]) -> str:
    """A row for each action: a key that does nothing shows here."""
    keys = ("count", "held", "psnr", "skill", "psnr_changed", "skill_changed", "changed_pixel_ratio", "delta_psnr")
    columns = (
        "action", "clips", "frames held", "PSNR, dB", "skill", "PSNR on\nchanged pixels", "skill on\nchanged pixels",
        "motion", "against\nother actions, dB", "recognised", "effect",
    )  # fmt: skip
    bad = {"skill_changed": 0.0, "delta_psnr": 0.0, "changed_pixel_ratio": 0.5}
    head = "".join(f"<th>{c.replace(chr(10), '<br>')}</th>" for c in columns)
    rows = []
    for name, figures in control["per_action"].items():
        cells = [f"<td>{escape(name)}</td>"]
        for key in (*keys, "recognised", "effect"):
            value = figures.get(key)
            is_bad = key in bad and value is not None and value <= bad[key]
            cells.append(f"<td{' class=bad' if is_bad else ''}>{_shown(value)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        "<p>Each action where it was pressed in the recordings, as long as it was held:</p><div class='wide'><table>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div><p class='small'>Motion: pixels "
        "that change, generated over recorded. Red: no better than a frozen picture, or than any other action, or half "
        "as much motion as there should be.</p>"
    )


def inverse_dynamics(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return ""
    accuracy = [figures[f"accuracy_{k}"] for k in ("recorded", "random", "real", "restored")]
    rows: list[tuple[Any, ...]] = [
        ("all actions", *accuracy),
        ("guessing", figures["chance"], figures["chance_random"], figures["chance"], figures["chance"]),
    ]
    for key, shares in (figures["per_key"] or {}).items():
        rows.append((f"key {escape(key)} (guessing: 0.5)", *(shares[k] for k in ("recorded", "random", "real")), None))
    for name, shares in (figures["per_action"] or {}).items():
        rows.append((escape(name), *(shares[k] for k in ("recorded", "random", "real")), None))
    columns = ("", "generated", "generated,\nrandom actions", "recorded", "tokenizer alone")
    return (
        "<p>Share of actions read rightly off two neighbouring frames, by a small network that learned it from real "
        "ones:</p>" + table(columns, rows)
    )


def latent_actions(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return ""
    meaning = figures["meaning"] or {}
    shares = []
    for code, share in enumerate(figures["usage"]):
        means = meaning.get(str(code), {"action": None, "share": None})
        name = None if means["action"] is None else escape(means["action"])
        shares.append((code, f"{share:.1%}", name, means["share"]))
    return (
        "<p>Codes that were read off the recordings, and the actions that were really pressed, which the world never "
        "saw:</p>" + table(("code", "frames", "means", "rightly in"), shares)
    )


def counterfactual(figures: dict[str, Any]) -> str:
    keys = ("psnr_random", "copy_last_psnr_random", "psnr_if_actions_are_ignored", "psnr_recorded")
    rows = [(h, *(f[k] for k in keys), f["games_left"]) for h, f in figures["horizons"].items()]
    columns = (
        "frames",
        "random actions,\nPSNR, dB",
        "last frame\nrepeated",
        "the real game under\nthe recorded actions",
        "recorded\nactions",
        "games left",
    )
    return (
        f"<p>The real game was forked at {figures['forks']} places of the recordings and played on under random "
        "actions, and so was the world:</p>" + table(columns, rows)
    )


def objects(figures: dict[str, Any]) -> str:
    keys = (
        "visible", "found", "found_recorded", "invented", "iou", "iou_recorded", "iou_of_copy", "distance",
        "distance_recorded", "distance_of_copy",
    )  # fmt: skip
    columns = (
        "", "visible", "found", "in the\nrecordings", "invented", "mask IoU", "in the\nrecordings",
        "last frame\nrepeated", "distance,\npixels", "in the\nrecordings", "last frame\nrepeated",
    )  # fmt: skip
    rows = [(escape(name), *(thing[k] for k in keys)) for name, thing in figures["things"].items()]
    return (
        f"<p>What the game says is where, over {figures['frames']} frames of {figures['clips']} clips, in pictures "
        f"{figures['width']} pixels wide. Method: {escape(figures['method'])}. Looking for the same things in the "
        f"recordings themselves shows what the method misses.</p><div class='wide'>{table(columns, rows)}</div>"
    )


def presence(figures: dict[str, Any]) -> str:
    rows = [
        (escape(name), frames, f["seen"], f["seen_recorded"], f["seen_codec"], f["kept"])
        for name, thing in figures["things"].items()
        for frames, f in thing["frames"].items()
    ]
    columns = ("", "frames", "seen", "in the\nrecordings", "tokenizer\nalone", "where the\nrecording shows it")
    quality = ", ".join(f"{escape(name)} {thing['f1']:.2f}" for name, thing in figures["things"].items())
    return (
        f"<p>Share of frames in which the game's things are seen, in {figures['clips']} clips. Method: "
        f"{escape(figures['method'])} (F1 of its pixels on recorded frames: {quality}).</p>" + table(columns, rows)
    )


def kinematics(figures: dict[str, Any]) -> str:
    k = figures["kinematics"]
    if k is None:
        return ""
    rows = [
        ("error of a step, pixels a frame", k["step_error"], k["step_error_recorded"], k["step_error_of_copy"]),
        ("possible changes of speed", k["possible"], k["possible_recorded"], None),
        ("speed, over the true one", k["speed_ratio"], None, 0),
    ]
    return f"<p>The player's {k['steps']} steps through the level:</p>" + table(
        ("", "generated", "recorded, read\nin the same way", "standing still"), rows
    )


def stability(figures: dict[str, Any]) -> str:
    spread = figures["real_kernel_ratio_range"]
    chance = f"1, by chance {spread[0]:.2f} to {spread[1]:.2f}" if spread else "&ndash;"
    rows = [
        ("distance to real frames", figures["kernel_ratio"], figures["reconstruction_kernel_ratio"], chance),
        ("sharpness", figures["gradient_energy_ratio"], figures["reconstruction_gradient_energy_ratio"], "1"),
        ("motion", figures["changed_pixel_ratio"], None, "1"),
    ]
    least_and_most = figures["kernel_ratio_range"]
    by_group = f" (of each {least_and_most[0]:.2f} to {least_and_most[1]:.2f})" if least_and_most else ""
    return (
        f"<p>{figures['games']} games of {figures['frames']} frames under random actions that are held for a while; "
        f"the last {figures['last']} frames; the distance is the mean of {figures['groups']} groups{by_group}:</p>"
        + table(("", "generated", "tokenizer alone", "recorded"), rows)
    )


def distribution(figures: dict[str, Any]) -> str:
    names = {
        "frame": "single frames",
        "clip": "clips (temporal)",
        "change": "changes from frame to frame (temporal)",
    }
    rows = [(name, figures[k], figures[f"{k}_codec"], figures[f"{k}_real"]) for k, name in names.items()]
    columns = ("", "generated", "tokenizer alone", "between two halves\nof the recordings")
    score = (
        f"<p>In-domain inception-style score, over 16 kinds of recorded frames: {figures['score']:.2f}; of the "
        f"recorded frames {figures['score_real']:.2f}, through the tokenizer alone {figures['score_codec']:.2f}.</p>"
    )
    return (
        "<p>In-domain Frechet distances to the recorded clips, on features that need no download; not FID and not FVD. "
        "0 is best; 1 is the variance of the recordings.</p>" + table(columns, rows) + score
    )


def standard(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return ""
    rows = [
        (
            f"{name.upper()}, {figures[samples]} {what}",
            figures[name],
            figures[f"{name}_codec"],
            figures[f"{name}_weights"],
        )
        for name, samples, what in (("fid", "fid_frames", "frames"), ("fvd", "fvd_clips", "clips"))
        if name in figures
    ]
    return "<p>On the networks given:</p>" + table(("", "generated", "tokenizer alone", "file"), rows)


def outcomes(figures: dict[str, Any]) -> str:
    out = f"<p>{figures['steps']} steps of {figures['windows']} stretches, each from a true prompt.</p>"
    if "reward_error" in figures:
        f = figures
        out += table(
            ("reward", "generated", "a constant"),
            [
                ("mean absolute error", f["reward_error"], f["reward_error_of_constant"]),
                ("variance explained", f["reward_explained"], 0),
                ("mean (recorded on the right)", f["reward_mean"], f["reward_mean_recorded"]),
                ("recorded for each unit generated", f["reward_slope"], None),
                (f"events given, of {f['reward_events']}", f["reward_events_recall"], 0),
                ("given events that are right", f["reward_events_precision"], None),
            ],
        )
    if "ends" in figures:
        f = figures
        out += table(
            ("end", "at the world's\nthreshold", "at the best\nthreshold"),
            [
                ("threshold", f["end_threshold"], f["best_threshold"]),
                ("F1", f["terminated_f1"], f["best_f1"]),
                (f"recall, of {f['ends']}", f["terminated_recall"], None),
                (f"precision, of {f['generated_ends']}", f["terminated_precision"], None),
            ],
        )
        out += (
            f"<p class='small'>Average precision over all thresholds {_shown(f['terminated_average_precision'])}, by "
            f"guessing {_shown(f['end_rate'])}. The probability given is {_shown(f['end_probability_mean'])} on "
            f"average, where {_shown(f['end_rate'])} of the steps are ends; Brier skill {_shown(f['end_brier_skill'])}."
            "</p>"
        )
    return out


def by_nfe(figures: dict[str, Any], default: int) -> str:
    keys = ("psnr", "loss", "psnr_changed", "gradient_energy_ratio", "changed_pixel_ratio", "ms_p50", "ms_p95")
    columns = ("steps a frame", "PSNR, dB", "lost against 4", "on changed pixels", "sharpness", "motion")
    rows = [
        (f"{n}{' (as above)' if int(n) == default else ''}", *(figures[n].get(k) for k in keys))
        for n in ("1", "2", "4")
    ]
    return f"<p>The same clips, {figures['at']} frames after the prompt:</p>" + table(
        (*columns, "ms a frame,\nmedian", "p95"), rows
    )


def cost(figures: dict[str, Any]) -> str:
    machine, engine = figures["machine"], figures["engine"]
    load = "" if machine["load_average"] is None else f", load average {machine['load_average']:g}"
    rows: list[tuple[Any, ...]] = [
        ("milliseconds a frame, median", f"{figures['ms_p50']:.2f}"),
        ("p95", f"{figures['ms_p95']:.2f}"),
        ("p99", f"{figures['ms_p99']:.2f}"),
        *_with_between(figures.get("with_between")),
        ("seconds until the first frame", f"{figures['load_seconds']:.2f}"),
        ("peak memory, MB", "unknown" if figures["peak_megabytes"] is None else f"{figures['peak_megabytes']:.0f}"),
    ]
    if figures["gpu_megabytes"] is not None:
        rows.append(("GPU memory, MB", f"{figures['gpu_megabytes']:.0f}"))
    return table(("", ""), rows) + (
        f"<p class='small'>One game, {figures['frames']} frames, nfe {figures['nfe']}, {engine['backend']} on "
        f"{escape(str(engine['device']))} with {engine['threads']} threads; {escape(machine['cpu'])}, "
        f"{machine['cores']} cores{load}. In a process of its own.</p>"
    )


def _with_between(figures: dict[str, float] | None) -> list[tuple[Any, ...]]:
    if figures is None:
        return []
    return [("with an in-between frame, median / p95", f"{figures['ms_p50']:.2f} / {figures['ms_p95']:.2f}")]


def table(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str:
    """Cells may hold HTML"""
    head = "".join(f"<th>{c.replace(chr(10), '<br>')}</th>" for c in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_shown(v)}</td>' for v in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _spread(bounds: Sequence[float] | None, form: str) -> str:
    return f" (90 % interval {bounds[0]:{form}} to {bounds[1]:{form}})" if bounds else ""


def _shown(value: Any) -> str:
    if value is None:
        return "&ndash;"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
