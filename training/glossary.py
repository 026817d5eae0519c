"""What every key of `worldgen eval --json` and `worldgen actions --json` means, in one place.

python -m worldgen.training.glossary        # as Markdown
"""

from __future__ import annotations

from worldgen.training import (
    action_clips,
    between_figures,
    button_map,
    by_action,
    control,
    counterfactual,
    distribution,
    encoders,
    held_out,
    inverse_dynamics,
    kinematics,
    large_picture,
    latent_action_figures,
    nfe,
    objects,
    outcomes,
    picture,
    presence,
    read_codes,
    shuffle,
    sound_figures,
    stability,
    timing,
)

TOP = {
    "world": "what the world is called",
    "hash": "of its weights",
    "engine": "what ran it: backend, version, device, threads",
    "nfe": "denoising steps a frame, of all figures but by_nfe",
    "seed": "of the noise and of random actions",
    "fps": "frames a second",
    "width": "of a frame in pixels",
    "height": "of a frame in pixels",
    "context": "frames that the world looks back on",
    "seconds": "that the evaluation took",
    "averages": "how figures are averaged, in words",
    "notes": "what a reader must know: what could not be measured, and why",
    "findings": "what the figures say, in words",
}
COST = {
    "ms_p50, ms_p95, ms_p99": "milliseconds a frame of one game, action in to numpy frame out",
    "fps": "frames a second of these",
    "with_between": "ms_p50, ms_p95, ms_p99 and fps of a frame with the in-between one before it; null without any",
    "load_seconds": "from nothing to the first frame",
    "peak_megabytes": "most memory the process ever held, 10^6 bytes; null where the system does not tell",
    "gpu_megabytes": "of the GPU; null without",
    "frames, batch, nfe": "how it was timed",
    "engine, machine": "what on; machine.load_average well above 0 on an idle machine: others were using it",
}
CURVE = {
    "frame": "frames after the prompt",
    "clips": "clips that it is taken over: far frames are of fewer, other ones",
    "the rest": "as in horizons",
}
GLOSSARY: dict[str, dict[str, str]] = {
    "": TOP,
    "data": held_out.KEYS,
    "horizons": picture.KEYS,
    "curve": CURVE,
    "by_nfe": nfe.KEYS,
    "timing": timing.KEYS,
    "control": control.KEYS | shuffle.KEYS,
    "control.per_action": by_action.KEYS,
    "inverse_dynamics": inverse_dynamics.KEYS,
    "latent_actions": latent_action_figures.KEYS,
    "counterfactual": counterfactual.KEYS,
    "objects": objects.KEYS,
    "objects.things": objects.THING_KEYS,
    "objects.kinematics": kinematics.KEYS,
    "presence": presence.KEYS,
    "presence.things": presence.THING_KEYS,
    "presence.things.frames": presence.FRAME_KEYS,
    "distribution": distribution.KEYS,
    "standard": encoders.KEYS,
    "stability": stability.KEYS,
    "outcomes": outcomes.KEYS,
    "large_picture": large_picture.KEYS,
    "between": between_figures.KEYS,
    "sound": sound_figures.KEYS,
    "retrieved_sound": sound_figures.KEYS,
    "cost": COST,
    "effects": action_clips.KEYS,
    "read_back": read_codes.KEYS,
    "button_map": button_map.KEYS,
}
TITLES = {
    "": "at the top",
    "data": "what was measured on",
    "horizons": 'the picture, frames after the prompt: {"1": ..., "4": ...}',
    "curve": "some of these along the way",
    "by_nfe": "the same clips with 1, 2 and 4 denoising steps a frame",
    "timing": "null without known actions",
    "control": "null without known actions",
    "control.per_action": 'of each action, or value of a button: {"left": ..., "right": ...}',
    "inverse_dynamics": "null without torch or known actions",
    "latent_actions": "codes and recorded actions; null where the world's actions were recorded",
    "counterfactual": "null without a real game that forks",
    "objects": "null without a game that says which pixels are what (ToyGame, Doom)",
    "objects.things": 'of each kind: {"player": ..., "walkers": ...}',
    "objects.kinematics": "null where the game does not tell where the player is",
    "presence": "null without a game that says which pixels are what (ToyGame, Doom)",
    "presence.things": 'of each kind: {"monster": ...}',
    "presence.things.frames": 'frames after the prompt: {"1": ..., "2-4": ...}',
    "distribution": "in-domain distances",
    "standard": "null unless encoders are given",
    "stability": "long games, null if left out",
    "outcomes": "reward and end, null without heads or actions",
    "large_picture": "super-resolution, null without it",
    "between": "in-between frames, null without them",
    "sound": "null where the world is silent",
    "retrieved_sound": "of a world that generates its sound and has a library too, its library; else null",
    "cost": "of one game, in a process of its own",
    "effects": 'of `worldgen actions`, each action: {"left": ..., "right": ...}',
    "read_back": "of `worldgen actions`, each code of a latent world that has its latent-action model",
    "button_map": "of `worldgen actions --data`, where the recordings have actions",
}


def main() -> None:
    for part, keys in GLOSSARY.items():
        print(f"## {part or 'figures'}: {TITLES[part]}\n")
        for key, meaning in keys.items():
            print(f"- `{key}`: {meaning}")
        print()


if __name__ == "__main__":
    main()
