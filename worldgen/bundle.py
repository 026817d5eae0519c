"""A world's folder (contract C2): where things are, how they are written, and that they belong together.

    WORLD/world.json                               WorldConfig
    WORLD/card.md                                  what it was trained on, measured figures
    WORLD/trained_on.json                          the same recordings, told by what they hold
    WORLD/<network>/config.json + *.safetensors    those of NETWORKS
    WORLD/starts/starts.npz                        what games begin from: frames, actions, sound
    WORLD/sounds/library.npz                       recorded sounds, for sound "retrieved"
    WORLD/uncertainty.npz                          statistics of recorded frames' hidden states
    WORLD/onnx/*.onnx + weights.bin + manifest.json     onnx-fp16/, onnx-int8/: the same in fewer bits
    WORLD/training/<stage>/                        to resume, not to play

Nothing here is ever executed: JSON, safetensors, ONNX and plain arrays only.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.config import WorldConfig
from worldgen.errors import InputError
from worldgen.files import file_hash, is_sealed, new_folder, write_bytes
from worldgen.graphs import REQUIRED, GraphSpec

PLAYED_NETWORKS = (
    "tokenizer", "dynamics", "heads", "super_resolution", "between", "sound_codec", "sound", "sound_events",
)  # fmt: skip
NETWORKS = ("latent_action", *PLAYED_NETWORKS)
OPTIONAL_NETWORKS = PLAYED_NETWORKS[2:]
TRAINED_ON = "trained_on.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
DEFAULT_WORLD = "doom"
BUNDLED = Path(__file__).parent / "worlds"


def bundled_worlds() -> list[str]:
    return sorted(p.parent.name for p in BUNDLED.glob("*/world.json"))


def find_world(name: str | Path) -> Path:
    """A bundled name or a folder -> the folder. Raises InputError naming both ways out."""
    folder = Path(name)
    if (folder / "world.json").is_file():
        return folder
    if str(name) in bundled_worlds():
        return BUNDLED / str(name)
    bundled = ", ".join(bundled_worlds()) or "none"
    if folder.is_dir():
        raise InputError(
            f"{folder} is not a world: no world.json in it; train one with `worldgen train DIR --out {name}`"
        )
    raise InputError(f"no world {str(name)!r}: give a folder with a world.json, or a bundled world ({bundled})")


def network_hashes(folder: Path, names: Sequence[str] = PLAYED_NETWORKS) -> dict[str, str]:
    """sha256 of the weights of each of these networks that is there; by default of those the graphs are made of."""
    paths = {name: folder / name / WEIGHTS for name in names}
    return {name: file_hash(path) for name, path in paths.items() if path.is_file()}


def source_hashes(folder: Path) -> dict[str, str]:
    """The same of a world that may have come without its networks: its graphs say what they were made from."""
    return network_hashes(folder) or dict(read_manifest(folder).raw["weights"])


def combined_hash(hashes: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(sorted(hashes.items()))).encode()).hexdigest()[:16]


def weights_hash(folder: Path) -> str:
    """The world's hash: of the weights it was exported from, or of those in the folder."""
    return combined_hash(network_hashes(folder))


def save_network(network: Any, folder: Path, name: str) -> None:
    """Writes a diffusers network to folder/name, whole or not at all."""
    with new_folder(folder / name) as building:
        network.save_pretrained(building, safe_serialization=True)


def load_network(folder: Path, name: str) -> Any:
    """One network of a world, in evaluation mode, float32, strictly. Needs torch."""
    from worldgen.models import network_of

    path, train = folder / name, f"train it with `worldgen train DIR --out {folder} --stages {name}`"
    if not (path / "config.json").is_file() or not (path / WEIGHTS).is_file():
        raise InputError(f"{folder} has no {name}: {train}")
    from safetensors.torch import load_file

    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):  # diffusers takes text for the name of a network to download
            raise TypeError("config.json holds no object")
        weights = {k: v.float() if v.is_floating_point() else v for k, v in load_file(path / WEIGHTS).items()}
        network = network_of(name, config)
        network.load_state_dict(weights, strict=True)
    except Exception as error:  # safetensors, diffusers and a constructor given foreign numbers each raise their own
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: damaged or foreign weights ({reason}): restore them, or {train}") from None
    return network.eval()


def load_networks(folder: Path) -> dict[str, Any]:
    """The networks that make a frame; OPTIONAL_NETWORKS only if the world has them."""
    names = [n for n in PLAYED_NETWORKS if n not in OPTIONAL_NETWORKS or (folder / n).is_dir()]
    return {name: load_network(folder, name) for name in names}


@dataclass(frozen=True)
class Manifest:
    """onnx/manifest.json, checked against the files it names."""

    specs: dict[str, GraphSpec]
    paths: dict[str, Path]
    position_period: int
    weights_hash: str
    raw: dict[str, Any]


def onnx_folder(world: Path, precision: str = "fp32") -> Path:
    return world / ("onnx" if precision == "fp32" else f"onnx-{precision}")


def read_manifest(folder: Path, graphs: Path | None = None) -> Manifest:
    """Of a world's graphs in float32, or of those in another of its folders. Raises InputError when graphs are missing,
    damaged, or older than the weights beside them."""
    onnx = graphs or onnx_folder(folder)
    path = onnx / "manifest.json"
    precision = onnx.name.partition("-")[2]
    export = f"run `worldgen export {folder} --to onnx{' --precision ' * bool(precision)}{precision}`"
    if not path.is_file():
        raise InputError(f"no ONNX graphs in {onnx}: {export}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        specs = {name: GraphSpec.from_json(name, graph) for name, graph in raw["graphs"].items()}
        files = {**{n: g["file"] for n, g in raw["graphs"].items()}, "": raw["weights_file"]["file"]}
        sums = {**{n: g["sha256"] for n, g in raw["graphs"].items()}, "": raw["weights_file"]["sha256"]}
        period, sources = int(raw["position_period"]), dict(raw["weights"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not a manifest ({error!r}): {export}") from None
    if missing := [name for name in REQUIRED if name not in specs]:
        raise InputError(f"{path} lists no graph {missing[0]!r}: {export}")
    for name, file in files.items():
        if not isinstance(file, str) or not file or file == ".." or Path(file).name != file:
            raise InputError(f"{path}: {file!r} is no file in {onnx}: {export}")
        if not (onnx / file).is_file():
            raise InputError(f"{onnx / file} is missing: {export}")
        if file_hash(onnx / file) != sums[name]:
            raise InputError(
                f"{onnx / file} is damaged (its hash is not the manifest's): {export}, or reinstall worldgen"
            )
    if not is_sealed(raw):
        raise InputError(f"{path} was edited, or written by an older worldgen (its hash is not its own): {export}")
    present = network_hashes(folder)
    if stale := [n for n, digest in present.items() if sources.get(n) != digest]:
        raise InputError(f"the ONNX graphs in {onnx} are older than {folder / stale[0]}: {export}")
    paths = {name: onnx / file for name, file in files.items() if name}
    return Manifest(specs, paths, period, combined_hash(sources), raw)


@dataclass(frozen=True)
class Starts:
    """What games begin from: frames (s, t, h, w, 3) uint8; actions (s, t, width), row i led to frame i; sound
    (s, t, samples, channels) int16, what was heard while they were on screen, None if unknown."""

    frames: np.ndarray
    actions: np.ndarray
    sound: np.ndarray | None = None

    def save(self, folder: Path) -> None:
        (folder / "starts").mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        known: Any = {"frames": self.frames, "actions": self.actions, "sound": self.sound}
        np.savez_compressed(buffer, **{name: array for name, array in known.items() if array is not None})
        write_bytes(folder / "starts" / "starts.npz", buffer.getvalue())

    @classmethod
    def load(cls, folder: Path) -> Starts | None:
        """None where there are none: such a world begins from frames that are given to it."""
        path = folder / "starts" / "starts.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(arrays["frames"], arrays["actions"], arrays.get("sound"))
        except FileNotFoundError:
            return None
        except Exception as error:  # zipfile, zlib and numpy each raise their own
            raise InputError(f"{path} is damaged: {error}") from None


def check_parts(folder: Path, config: WorldConfig, specs: Mapping[str, GraphSpec], starts: Starts | None) -> None:
    """Raises InputError where world.json, the networks and the starts are not of one world."""
    frame, action = specs["decode"].outputs[0].shape, specs["denoise"].input("action")
    context = specs["commit"].input("cache").shape[-2]
    actions = config.actions
    for what, said, real in (
        ("frames of (h, w, c)", (config.height, config.width, 3), frame),
        ("a context of", config.context, context),
        ("actions of", (str(actions.dtype), actions.width), (action.dtype, *action.shape)),
    ):
        if said != real:
            raise InputError(f"{folder / 'world.json'} says {what} {said}, the networks beside it have {real}")
    given = specs["commit"].output_names
    if promised := [n for n in ("reward", "terminated") if getattr(config, f"has_{n}") and n not in given]:
        raise InputError(
            f"{folder / 'world.json'} promises {promised[0]} but there are no heads: "
            f"train them with `worldgen train DIR --out {folder} --stages heads`"
        )
    graph, stages = {"generated": ("sound", "sound_codec sound"), "retrieved": ("sound_events", "sound_events")}.get(
        config.sound, ("decode", "")
    )
    if graph not in specs:
        raise InputError(
            f"{folder / 'world.json'} promises {config.sound} sound but there is no sound head: "
            f"train it with `worldgen train DIR --out {folder} --stages {stages}`"
        )
    if starts is None:
        return
    s, t = starts.frames.shape[:2] if starts.frames.ndim == 5 else (0, 0)
    fits = starts.frames.dtype == np.uint8 and starts.frames.shape[2:] == frame and s * t > 0
    if not fits or starts.actions.shape != (s, t, actions.width) or starts.actions.dtype != actions.dtype:
        raise InputError(
            f"the starts, {folder / 'starts' / 'starts.npz'} unless others were given, are not of this world: frames "
            f"{starts.frames.dtype} {starts.frames.shape}, actions {starts.actions.dtype} {starts.actions.shape}, not "
            f"uint8 (s, t, *{frame}) and {actions.dtype} (s, t, {actions.width})"
        )
    if starts.sound is not None and "hear" in specs:
        heard = specs["hear"].outputs[0].shape
        if starts.sound.dtype != np.int16 or starts.sound.shape != (s, t, *heard):
            raise InputError(
                f"the sound of the starts, {folder / 'starts' / 'starts.npz'} unless others were given, is not this "
                f"world's: {starts.sound.dtype} {starts.sound.shape}, not int16 {(s, t, *heard)}; train the stage "
                "sound again, or give starts without sound"
            )


def describe(name: str | Path) -> dict[str, Any]:
    """The facts of a world as a person would ask for them."""
    folder = find_world(name)
    config = WorldConfig.load(folder / "world.json")
    manifest = folder / "onnx" / "manifest.json"
    return {
        "name": config.name,
        "folder": str(folder),
        "width": config.width,
        "height": config.height,
        "fps": config.fps,
        "nfe": config.nfe,
        "context": config.context,
        "action_source": config.action_source,
        "actions": list(config.actions.names),
        "keys": {n: list(held) for n, held in zip(config.actions.names, config.actions.keys, strict=False)},
        "has_reward": config.has_reward,
        "has_terminated": config.has_terminated,
        "networks": [n for n in NETWORKS if (folder / n / WEIGHTS).is_file()],
        "graphs": sorted(read_manifest(folder).specs) if manifest.is_file() else [],
        "megabytes": sum(p.stat().st_size for p in _played_files(folder)) / 1e6,
    }


def _played_files(folder: Path) -> list[Path]:
    """All of a world but what only resumes its training."""
    return [p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).parts[0] != "training"]
