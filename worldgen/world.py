"""World: reset, step, snapshot, restore. One world is a game, an environment and an engine (contract C4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from worldgen import sampler
from worldgen.backends import Backend, open_backend
from worldgen.beginnings import Beginning, pick_starts, prompt_rows, prompt_sound, slot_indices, slot_seeds
from worldgen.bundle import DEFAULT_WORLD, Starts, check_parts, find_world, source_hashes
from worldgen.config import NFE_CHOICES, WorldConfig
from worldgen.errors import InputError
from worldgen.frame_maker import FrameMaker, no_image
from worldgen.sound_library import SoundLibrary
from worldgen.sound_source import open_sound
from worldgen.state import Frame, State
from worldgen.uncertainty import Uncertainty

__all__ = ["Frame", "State", "World"]


class World:
    """A trained world, running. Not thread-safe: one thread steps it."""

    def __init__(
        self,
        config: WorldConfig,
        backend: Backend,
        starts: Starts | None = None,
        batch: int | None = None,
        *,
        upscale: bool = True,
        between: bool = False,
        sound: str | None = None,
        library: SoundLibrary | None = None,
        uncertainty: Uncertainty | None = None,
    ):
        """batch: number of games side by side, giving every frame a leading axis; None for one game without it.
        upscale: show larger frames, where the backend has super-resolution.
        between: give in-between frames too, where the backend has the graph for them.
        sound: "generated", "retrieved" (from the library) or "off"; None is the world's own, where the backend has a
            sound head. uncertainty: the statistics that Frame.uncertainty needs."""
        if batch is not None and batch < 1:
            raise InputError(f"batch is at least 1, got {batch}")
        self.config = config
        self.batch = batch
        self._backend = backend
        self._starts = starts
        self._num_slots = batch or 1
        self._state: State | None = None
        self.draws_ends = False
        """whether games end by chance, each frame with its probability of an end, rather than above end_threshold: as
        often as the real game on average, and no agent can live on just below the threshold"""
        self._sound = open_sound(config, backend, sound, library)
        self._sound_shape = None if self._sound is None else backend.numpy(self._sound.empty(1)).shape[1:]
        self._uncertainty = uncertainty
        self._maker = FrameMaker(
            config, backend, upscale=upscale, between=between, sound=self._sound, uncertainty=uncertainty
        )

    @classmethod
    def load(
        cls,
        name: str | Path = DEFAULT_WORLD,
        *,
        backend: str = "auto",
        batch: int | None = None,
        nfe: int | None = None,
        upscale: bool = True,
        between: bool = False,
        sound: str | None = None,
        starts: Starts | None = None,
    ) -> World:
        """name: a bundled world or a folder. backend: see open_backend(). nfe, starts: instead of the world's own.
        upscale, between, sound: as the constructor takes them."""
        folder = find_world(name)
        config, starts = WorldConfig.load(folder / "world.json"), starts or Starts.load(folder)
        engine = open_backend(folder, backend)
        check_parts(folder, config, engine.specs, starts)
        library = SoundLibrary.load(folder)
        hidden = next(x.shape for x in engine.specs["commit"].outputs if x.name == "hidden")
        uncertainty = Uncertainty.load(folder, lambda: source_hashes(folder), hidden)
        world = cls(
            config, engine, starts, batch, upscale=upscale, between=between, sound=sound, library=library,
            uncertainty=uncertainty,
        )  # fmt: skip
        if nfe is not None:
            world.nfe = nfe
        return world

    @property
    def nfe(self) -> int:
        """Function evaluations a frame: 1, 2 or 4. May be changed while playing."""
        return self._maker.nfe

    @nfe.setter
    def nfe(self, value: int) -> None:
        if value not in NFE_CHOICES:
            raise InputError(f"nfe is one of {NFE_CHOICES}, got {value}")
        self._maker.nfe = value
        if self._state is not None:
            self._maker.prepare(self._num_slots)

    @property
    def upscaling(self) -> str:
        """How frames become larger: "network" is super-resolution, "nearest" repeats pixels and saves its time, "off"
        leaves them as small as the world is. The first two may be changed for each other while playing."""
        return self._maker.upscaling

    @upscaling.setter
    def upscaling(self, value: str) -> None:
        if value not in (("network", "nearest") if self._maker.is_upscaled else ("off",)):
            raise InputError(f"upscaling {self._maker.upscaling!r} cannot become {value!r} while playing")
        self._maker.upscaling = value

    @property
    def has_between(self) -> bool:
        """Whether it was opened with in-between frames, and has them."""
        return self._maker.has_between

    @property
    def shows_between(self) -> bool:
        """Whether frames come with the one half way to them (Frame.between). May be changed while playing; the frames
        themselves stay the same."""
        return self._maker.shows_between

    @shows_between.setter
    def shows_between(self, value: bool) -> None:
        if value and not self.has_between:
            raise InputError(f"world {self.config.name!r} was opened without in-between frames, or has none")
        self._maker.shows_between = value
        self._maker.jump()

    @property
    def temperature(self) -> float:
        """Spread of the noise that frames are made from: 1 as trained; above it less likely frames come (Ha &
        Schmidhuber 2018), below it only likely ones. With one step a frame it does nothing in worlds whose dynamics is
        not shown pure noise, as new ones are not: nfe 2, or `context_sigma`."""
        return self._maker.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not 0 <= value <= 10:
            raise InputError(f"temperature is between 0 and 10, got {value}")
        self._maker.temperature = float(value)

    @property
    def context_sigma(self) -> float:
        """Noise level at which finished frames are shown to the dynamics: the more, the vaguer its memory."""
        return self._maker.context_sigma

    @context_sigma.setter
    def context_sigma(self, value: float) -> None:
        if not 0 <= value < 1:
            raise InputError(f"context_sigma is a noise level in [0, 1), got {value}")
        self._maker.context_sigma = float(value)

    @property
    def keeps_hidden(self) -> bool:
        """Whether observe("hidden") is possible. Set it before a reset."""
        return self._maker.keeps_hidden

    @keeps_hidden.setter
    def keeps_hidden(self, value: bool) -> None:
        self._maker.keeps_hidden = value

    @property
    def backend_name(self) -> str:
        return self._backend.name

    @property
    def engine(self) -> dict[str, Any]:
        """What runs the world: backend, version, device, threads and, of ONNX Runtime, providers."""
        return {"backend": self._backend.name, **self._backend.facts}

    @property
    def hash(self) -> str:
        """Of the weights: snapshots and replays belong to one hash."""
        return self._backend.weights_hash

    @property
    def graphs(self) -> tuple[str, ...]:
        """What the engine runs, those that this world plays without included."""
        return tuple(self._backend.specs)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of Frame.image: the world's own, or larger with super-resolution."""
        return self._maker.image_size

    @property
    def image(self) -> np.ndarray:
        """The picture on screen, (h, w, 3) uint8, batch first: a copy."""
        return self.observe("image")

    @property
    def tokens_shape(self) -> tuple[int, ...]:
        """(n, d) of a frame's tokens."""
        return self._backend.specs["denoise"].outputs[0].shape

    @property
    def hidden_shape(self) -> tuple[int, ...]:
        """(m, c) of a frame's hidden state."""
        return next(x.shape for x in self._backend.specs["commit"].outputs if x.name == "hidden")

    def observe(self, what: str = "image", *, as_tensor: bool = False) -> Any:
        """A copy of the frame on screen as "image" (h, w, 3) uint8, "tokens" (n, d) or "hidden" (m, c) float32, batch
        first. as_tensor: a torch.Tensor where the engine has it, by way of numpy only if the engine is not torch's."""
        state = self._current()
        if what == "hidden" and state.hidden is None:
            raise InputError("the hidden state was not kept: set world.keeps_hidden before reset()")
        array = {"image": state.image, "tokens": state.previous, "hidden": state.hidden}[what]
        out = self._backend.tensor(array) if as_tensor else self._backend.numpy(array)
        out = out[:, 0] if what == "tokens" else out  # the first of `previous` is what was decoded
        return out if self.batch is not None else out[0]

    @property
    def sample_rate(self) -> int | None:
        """In Hz; None where the world is silent. A frame holds the same number of samples always."""
        return None if self._sound is None else self._sound.sample_rate

    @property
    def sound(self) -> str:
        """generated, retrieved or off"""
        return "off" if self._sound is None else self._sound.kind

    @property
    def hears(self) -> bool:
        """Whether its sound goes on from that of recorded frames: music stays in time with them."""
        return self._maker.hears

    @property
    def samples(self) -> int:
        """Of a frame's sound, 0 where the world is silent."""
        return 0 if self._sound is None else self._sound.samples

    @property
    def channels(self) -> int:
        return 1 if self._sound is None else self._sound.channels

    @property
    def has_uncertainty(self) -> bool:
        """Whether frames say how unlike recorded ones they are."""
        return self._uncertainty is not None

    @property
    def starts(self) -> Starts | None:
        """What games begin from."""
        return self._starts

    @property
    def num_starts(self) -> int:
        return 0 if self._starts is None else len(self._starts.frames)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise InputError(
            "a world holds an engine, which cannot be copied or pickled: snapshot() and restore() copy where its games "
            "are; another process loads the world itself"
        )

    def reset(
        self,
        seed: int | Sequence[int] = 0,
        *,
        start: int | Sequence[int] | np.ndarray | None = None,
        start_actions: Any = None,
        start_sound: Any = None,
        mask: np.ndarray | None = None,
        draw: bool = True,
    ) -> Frame:
        """Begins new games and shows their first frame.

        seed: slot i gets seed + i, or a seed per slot.
        start: None draws one of the world's starts by each slot's seed; an index picks one, or an index per slot;
            frames (h, w, 3), (t, h, w, 3) or (batch, t, h, w, 3) uint8 are a prompt. The last frame of it is shown.
        start_actions: for a prompt of frames, the actions between them, (t - 1 of them, batch first); unknown if None.
        start_sound: for a prompt of frames, what was heard with them (t, samples, channels) float in [-1, 1], batch
            first: generated sound goes on from it (`hears`). The world's own starts bring theirs along.
        mask: (batch,) bool, which slots begin anew and are paid for; the others stay as they are.
        draw: False leaves Frame.image empty, for those who observe().
        """
        chosen = self._mask(mask)
        rows = np.flatnonzero(chosen)
        seeds = slot_seeds(seed, self._num_slots)[rows]
        self._maker.jump()
        indices = np.asarray(start)
        is_prompt = start is not None and not (indices.ndim < 2 and indices.dtype.kind in "iu")
        if not is_prompt and (start_actions is not None or start_sound is not None):
            raise InputError("start_actions and start_sound belong to a prompt of frames: reset(start=FRAMES)")
        if start is None:
            begin = pick_starts(self._starts, seeds, None)
        elif not is_prompt:
            begin = pick_starts(self._starts, seeds, slot_indices(indices, self._num_slots)[rows])
        else:
            begin = self._prompt(indices, start_actions, start_sound, rows)
        if mask is None:
            self._state, frame = self._run_prompt(seeds, begin)
            return self._shown(frame, draw)
        sound, uncertainty = None, None
        if self._uncertainty is not None:
            uncertainty = np.full(self._num_slots, np.nan, np.float32)
        if self._sound is not None:
            sound = np.zeros((self._num_slots, self._sound.samples, self._sound.channels), np.float32)
        if rows.size:
            state, frame = self._run_prompt(seeds, begin)
            self._state = self._merge(chosen, state)
            if sound is not None:
                sound[rows] = frame.sound
            if uncertainty is not None:
                uncertainty[rows] = frame.uncertainty
        zeros = np.zeros(self._num_slots, np.float32)
        return self._shown(Frame(no_image(self._num_slots), sound, zeros, zeros > 0, None, uncertainty), draw)

    def prompts(self, seeds: Sequence[int] | np.ndarray) -> np.ndarray:
        """The frames that games of these seeds (b,) begin from unless reset() is given a start: (b, t, h, w, 3) uint8,
        as recorded; the last one is shown first."""
        return pick_starts(self._starts, np.asarray(seeds, np.uint64), None)[0]

    def step(self, action: Any, *, draw: bool = True) -> Frame:
        """Plays one action (an action per slot with batch=n) and shows the frame it leads to. draw: as in reset()."""
        state = self._current()
        rows = self.config.actions.encode(action, *(() if self.batch is None else (self.batch,)))
        self._state, frame = self._maker.step(state, self._backend.asarray(rows.reshape(self._num_slots, -1)), draw)
        if frame.end_probability is not None:
            frame = replace(frame, terminated=frame.end_probability > self._least_end(state))
        return self._shown(frame, draw)

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        """What the tokenizer alone makes of frames (t, h, w, 3), or (batch, t, h, w, 3), uint8: as close to a recording
        as this world can come. The games that are being played do not notice."""
        frames, _ = prompt_rows(self.config, np.asarray(frames), None, self.batch)
        specs, run, asarray = self._backend.specs, self._backend.run, self._backend.asarray
        encoder = asarray(specs["encode"].input("state").zeros(self._num_slots))
        decoder = asarray(specs["decode"].input("state").zeros(self._num_slots))
        restored = []
        for i in range(frames.shape[1]):
            encoded = run("encode", {"frame": asarray(frames[:, i].copy()), "state": encoder})
            shown = run("decode", {"tokens": encoded["tokens"], "state": decoder})
            encoder, decoder = encoded["next_state"], shown["next_state"]
            restored.append(self._backend.numpy(shown["frame"]))
        out = np.stack(restored, axis=1)
        return out if self.batch is not None else out[0]

    def listen(self, frames: np.ndarray, actions: Any = None, sound: Any = None) -> np.ndarray:
        """The sound that this world gives to recorded frames (t, h, w, 3), or (batch, t, h, w, 3), uint8, and the
        actions between them: (t, samples, channels) float32, batch first. sound: of the first of them, as start_sound
        of reset(); it goes on from there. The games being played do not notice."""
        begin = self._prompt(np.asarray(frames), actions, sound, np.arange(self._num_slots))
        seeds = np.arange(self._num_slots, dtype=np.uint64)
        heard = []
        for _, frame in self._maker.prompt(seeds, *begin):
            if frame.sound is None:
                raise InputError(f"world {self.config.name!r} is silent")
            heard.append(frame.sound)
        out = np.stack(heard, axis=1)
        return out if self.batch is not None else out[0]

    def upscale(self, frames: np.ndarray) -> np.ndarray:
        """What super-resolution makes of frames (t, h, w, 3) uint8 in a row, of the world's own size:
        (t, H, W, 3) uint8"""
        if "upscale" not in self._backend.specs:
            raise InputError(f"world {self.config.name!r} has no super-resolution")
        shown, state = (self._backend.specs["upscale"].input(name).zeros(1) for name in ("shown", "state"))
        out, held = [], self._backend.asarray(state)
        shown = self._backend.asarray(shown)
        for frame in frames:
            shown, held = self._maker.upscaled(self._backend.asarray(frame[None].copy()), shown, held)
            out.append(self._backend.numpy(shown)[0])
        return np.stack(out)

    def between(self, before: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """The frames half way from those `before` to `frames`, both (n, h, w, 3) uint8 of the world's own size: as
        many. The games being played do not notice."""
        if "between" not in self._backend.specs:
            raise InputError(f"world {self.config.name!r} has no in-between frames")
        asarray, numpy = self._backend.asarray, self._backend.numpy
        made = []
        for pair in zip(before, frames, strict=True):
            first, second = (asarray(x[None].copy()) for x in pair)
            made.append(numpy(self._backend.run("between", {"before": first, "frame": second})["between"]))
        return np.concatenate(made)

    def snapshot(self) -> State:
        """A copy of where every game is. restore() continues from it, bit for bit."""
        state = self._current()
        return state.copied(self._backend.numpy, self._backend.numpy(state.cache))

    def restore(self, state: State, mask: np.ndarray | None = None) -> None:
        """Puts every game, or those of the mask (batch,), back to a snapshot; a snapshot of one game fills all slots.
        Refuses another world's."""
        if state.world != self.hash:
            raise InputError(f"the snapshot belongs to world {state.world}, this is {self.hash}")
        if len(state) not in (1, self._num_slots):
            raise InputError(f"the snapshot holds {len(state)} games, this world runs {self._num_slots}")
        chosen = self._mask(mask)
        self._maker.jump()
        if self.keeps_hidden and state.hidden is None:
            raise InputError("the snapshot was taken without the hidden state, which this world keeps")
        sound_shape = None if state.sound is None else state.sound.shape[1:]  # generated and retrieved differ
        if sound_shape != self._sound_shape or state.image.shape[1:3] != self.image_size:
            raise InputError("the snapshot was taken with other sound or super-resolution than this world plays with")
        rows = np.zeros(self._num_slots, np.int64) if len(state) == 1 else np.arange(self._num_slots)
        state, asarray = state[rows[chosen]], self._backend.asarray  # copies, as a ring is written where it lies
        state = replace(
            state,
            cache=asarray(state.cache),
            previous=asarray(state.previous),
            decoder=asarray(state.decoder),
            upscale=None if state.upscale is None else asarray(state.upscale),
            sound=None if state.sound is None else asarray(state.sound),
            image=asarray(state.image),
            hidden=asarray(state.hidden) if self.keeps_hidden and state.hidden is not None else None,
        )
        self._state = state if chosen.all() else self._merge(chosen, state)

    def mark(self) -> State:
        """What unwind() needs to undo the next step: a snapshot, but of the cache only the ring slot that this step
        will overwrite, (b, l, 2, m, k, 1, e). With 16 slots, an eleventh of a snapshot."""
        state = self._current()
        slots = [int(i) for i in state.step % self._maker.num_context]
        cache = self._backend.numpy(state.cache)
        return state.copied(self._backend.numpy, np.stack([cache[i, ..., s : s + 1, :] for i, s in enumerate(slots)]))

    def unwind(self, mark: State) -> None:
        """Undoes the one step that was played since mark(), bit for bit. Refuses any other mark."""
        state = self._current()
        follows = np.array_equal(state.seed, mark.seed) and np.array_equal(state.step, mark.step + 1)
        if mark.world != self.hash or not follows:
            raise InputError("this mark is not of the step that was played last")
        cache = self._backend.numpy(state.cache)
        for i, slot in enumerate(mark.step % self._maker.num_context):
            cache[i, ..., slot : slot + 1, :] = mark.cache[i]
        self.restore(replace(mark, cache=cache))

    def _least_end(self, state: State) -> float | np.ndarray:
        """The probability above which a game has ended with the frame after this state, one or (b,)."""
        if not self.draws_ends:
            return self.config.end_threshold
        return sampler.uniform(state.seed, state.step, sampler.END)

    def _mask(self, mask: np.ndarray | None) -> np.ndarray:
        """Of the slots meant: (slots,) bool"""
        chosen = np.ones(self._num_slots, bool) if mask is None else np.asarray(mask, bool)
        if chosen.shape != (self._num_slots,):
            raise InputError(f"mask has shape {chosen.shape}, expected ({self._num_slots},)")
        if mask is not None:
            self._current()  # the others need a game to go on with
        return chosen

    def _prompt(self, frames: np.ndarray, actions: Any, sound: Any, rows: np.ndarray) -> Beginning:
        """What somebody gave for all slots -> of those in rows"""
        frames, actions = prompt_rows(self.config, frames, actions, self.batch)
        shape = (self.samples, self.channels) if self.hears else None
        heard = prompt_sound(sound, frames.shape[1], shape, self.batch)
        return frames[rows], actions[rows], None if heard is None else heard[rows]

    def _run_prompt(self, seeds: np.ndarray, begin: Beginning) -> tuple[State, Frame]:
        shown = self._maker.prompt(seeds, *begin)
        state, frame = next(shown)
        for later in shown:
            state, frame = later
        self._maker.prepare(self._num_slots)
        zeros = np.zeros(len(seeds), np.float32)
        return state, Frame(no_image(self._num_slots), frame.sound, zeros, zeros > 0, None, frame.uncertainty)

    def _merge(self, mask: np.ndarray, new: State) -> State:
        """The games of `new` in the slots of the mask, in their order; the other slots keep their state."""
        return self._current().merged(np.flatnonzero(mask), new, self._backend.put)

    def _current(self) -> State:
        if self._state is None:
            raise InputError("the world has not begun: call reset() first")
        return self._state

    def _shown(self, frame: Frame, draw: bool) -> Frame:
        """What the caller gets of a frame: its picture if it is to be drawn, without the leading axis of one game."""
        if draw:
            frame = replace(frame, image=self._backend.numpy(self._current().image))
        if self.batch is not None:
            return frame
        sound = None if frame.sound is None else frame.sound[0].copy()
        ends = None if frame.end_probability is None else float(np.ravel(frame.end_probability)[0])
        reward, terminated = float(np.ravel(frame.reward)[0]), bool(np.ravel(frame.terminated)[0])
        uncertainty = None if frame.uncertainty is None else float(np.ravel(frame.uncertainty)[0])
        between = None if frame.between is None else frame.between[0]
        return Frame(frame.image[0], sound, reward, terminated, ends, uncertainty, between)
