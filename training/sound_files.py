"""A user's own sounds: a folder of audio files, each played for the recorded sound that is most like it, or that
sounds.json names in words.

    {"sound 1": "sword hits metal", "music 1": "calm piano"}

Words are looked for in the files' names, folders and tags; with `pip install sentence-transformers` and a model on this
machine (its folder in WORLDGEN_TEXT_ENCODER) words of like meaning match too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from worldgen.errors import InputError
from worldgen.sound_library import SoundLibrary
from worldgen.training.sound_library import faded, feature
from worldgen.training.sound_music import looped, timbre

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
TAGS = ("title", "genre", "comment", "description", "album")
MUSIC_SECONDS = 6.0  # from which on a file is music
LONGEST_SECONDS = {"effect": 4.0, "music": 60.0}
TEXT_ENCODER = "WORLDGEN_TEXT_ENCODER"

Encoder = Callable[[Sequence[str]], np.ndarray]  # texts (n) -> vectors (n, d) of length 1


@dataclass(frozen=True)
class SoundFile:
    """sound (length, channels) float32 in [-1, 1]; text: what its name, folders and tags say."""

    path: Path
    sound: np.ndarray
    text: str
    is_music: bool


def replace_with(library: SoundLibrary, folder: Path, say: Callable[[str], None] = print) -> SoundLibrary:
    """The library with each sound as a file of the folder. Raises InputError where the folder holds no sound, or its
    sounds.json asks for what is not there."""
    folder = Path(folder)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    files = [read_file(path, folder, library) for path in paths]
    if not files:
        raise InputError(f"{folder} holds no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file")
    queries = _queries(folder, library)
    encoder = text_encoder() if queries else None
    clips, names = [], []
    for k, name in enumerate(library.names):
        is_music = k >= library.num_effects
        fitting = [f for f in files if f.is_music == is_music]
        if not fitting:  # nothing of its kind: the recorded one stays
            clips.append(library.clip(k))
            names.append(name)
            continue
        if name in queries:
            scores = text_scores(queries[name], [f.text for f in fitting], encoder)
            if scores.max() <= 0:
                raise InputError(
                    f"{folder / 'sounds.json'}: nothing in the names and tags of {len(fitting)} files is like "
                    f"{queries[name]!r}"
                )
        else:
            scores = _likeness(library, k, fitting)
        best = fitting[int(np.argmax(scores))]
        rate = library.sample_rate
        clips.append(looped(best.sound, rate) if is_music else faded(best.sound, rate))
        names.append(best.path.stem)
        how = f"{queries[name]!r}" if name in queries else f"likeness {scores.max():.2f}"
        say(f"  {name} is played as {best.path.name} ({how})")
    return SoundLibrary.of(clips, names, library.sample_rate, library.samples, library.num_music)


def text_scores(query: str, texts: Sequence[str], encoder: Encoder | None = None) -> np.ndarray:
    """How well each text answers the query, 0 for not at all: (n,). Without an encoder: the share of the query's words
    that a text has, or has the beginning of."""
    if encoder is not None:
        return np.maximum(0, encoder([*texts]) @ encoder([query])[0])
    wanted = _words(query)
    found = [[max((_same(w, v) for v in _words(text)), default=0.0) for w in wanted] for text in texts]
    return np.array([np.mean(f) if f else 0.0 for f in found])


def text_encoder() -> Encoder | None:
    """The optional text encoder; None where it is not installed, or no model is named."""
    name = os.environ.get(TEXT_ENCODER)
    if not name:
        return None
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise InputError(f"{TEXT_ENCODER} is set: pip install sentence-transformers, or unset it") from None
    if not Path(name).is_dir():
        raise InputError(f"{TEXT_ENCODER}={name} is no folder with a model")
    model = SentenceTransformer(name, device="cpu", local_files_only=True)
    return lambda texts: np.asarray(model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))


def read_file(path: Path, folder: Path, library: SoundLibrary) -> SoundFile:
    """Raises InputError where it cannot be read as sound."""
    layout = "stereo" if library.channels == 2 else "mono"
    resampler = av.AudioResampler(format="s16", layout=layout, rate=library.sample_rate)
    try:
        with av.open(str(path)) as container:
            tags = {**container.metadata, **container.streams.audio[0].metadata}
            blocks = [b for frame in container.decode(audio=0) for b in resampler.resample(frame)]
            blocks += resampler.resample(None)
    except (av.FFmpegError, IndexError, OSError) as error:
        raise InputError(f"{path}: cannot be read as sound ({error})") from None
    if not sum(b.samples for b in blocks):
        raise InputError(f"{path}: there is no sound in it: remove it from {folder}")
    sound = np.concatenate([b.to_ndarray().reshape(-1, library.channels) for b in blocks]).astype(np.float32) / 32768
    is_music = len(sound) >= MUSIC_SECONDS * library.sample_rate
    longest = round(LONGEST_SECONDS["music" if is_music else "effect"] * library.sample_rate)
    said = [str(path.relative_to(folder).with_suffix("")), *(tags[k] for k in tags if k.lower() in TAGS)]
    return SoundFile(path, sound[:longest], " ".join(said), is_music)


def _queries(folder: Path, library: SoundLibrary) -> dict[str, str]:
    path = folder / "sounds.json"
    if not path.is_file():
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        queries = {str(name): str(words) for name, words in raw.items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f'{path}: not of the form {{"sound 1": "sword hits metal"}} ({error})') from None
    if unknown := sorted(set(queries) - set(library.names)):
        raise InputError(f"{path}: the library has no {unknown[0]!r}; it has {', '.join(library.names)}")
    return queries


def _likeness(library: SoundLibrary, k: int, files: list[SoundFile]) -> np.ndarray:
    recorded = library.clip(k) / 32768
    if k >= library.num_effects:
        return np.array([timbre(f.sound) @ timbre(recorded) for f in files])
    rate = library.sample_rate
    return np.array([feature(f.sound, rate) @ feature(recorded, rate) for f in files])


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower())


def _same(wanted: str, word: str) -> float:
    if wanted == word:
        return 1.0
    shorter, longer = sorted((wanted, word), key=len)
    return 0.7 if len(shorter) >= 4 and longer.startswith(shorter) else 0.0
