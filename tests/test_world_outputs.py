"""A world with super-resolution and sound: larger frames, exact samples, both part of the state."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import CHANNELS, FPS, SAMPLES, SCALE, SIDE

from worldgen.backends import open_backend
from worldgen.bundle import Starts, load_network, save_network
from worldgen.config import WorldConfig
from worldgen.errors import InputError
from worldgen.onsets import onset_places
from worldgen.sound_library import SoundLibrary
from worldgen.world import World

PALETTE = [[0, 0, 0], [250, 250, 250], [210, 130, 60], [40, 50, 90]]
ACTIONS = [1, 2, 0, 4, 3, 1, 1, 2]


@pytest.fixture
def world(loud_world: Path, backend: str) -> World:
    return World.load(loud_world, backend=backend)


def play(world: World, actions=ACTIONS):
    return [world.step(a) for a in actions]


def test_frames_are_larger_and_carry_their_samples(world: World):
    assert world.image_size == (SCALE * SIDE, SCALE * SIDE)
    assert (world.sample_rate, world.channels) == (SAMPLES * FPS, CHANNELS)
    for frame in (world.reset(0), *play(world)):
        assert frame.image.shape == (SCALE * SIDE, SCALE * SIDE, 3) and frame.image.dtype == np.uint8
        assert frame.sound.shape == (SAMPLES, CHANNELS) and frame.sound.dtype == np.float32
        assert np.abs(frame.sound).max() <= 1
    assert any(frame.sound.any() for frame in play(world))


def test_the_larger_frame_is_what_super_resolution_makes_of_the_small_ones(loud_world: Path, backend: str):
    large, small = World.load(loud_world, backend=backend), World.load(loud_world, backend=backend, upscale=False)
    start = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    frames = [small.reset(3, start=start), *play(small)]
    assert small.image_size == (SIDE, SIDE)
    images = small.upscale(np.stack([f.image for f in frames]))
    for image, frame in zip(images, [large.reset(3, start=start), *play(large)], strict=True):
        np.testing.assert_array_equal(frame.image, image)


def test_super_resolution_is_switched_off_and_on_in_the_middle_of_a_game(loud_world: Path, backend: str):
    world, small = World.load(loud_world, backend=backend), World.load(loud_world, backend=backend, upscale=False)
    for w in (world, small):
        w.reset(3)
        play(w, ACTIONS[:3])
    before = world.snapshot()
    world.upscaling = "nearest"
    plain, tiny = play(world, ACTIONS[3:6]), play(small, ACTIONS[3:6])
    for frame, little in zip(plain, tiny, strict=True):
        np.testing.assert_array_equal(frame.image, little.image.repeat(SCALE, 0).repeat(SCALE, 1))
    world.upscaling = "network"
    frame, little = world.step(1), small.step(1)
    np.testing.assert_array_equal(frame.image, small.upscale(little.image[None])[0])  # nothing of before is held
    world.restore(before)  # any snapshot fits
    for bad in ("off", "best"):
        with pytest.raises(InputError, match=bad):
            world.upscaling = bad
    with pytest.raises(InputError, match="network"):
        small.upscaling = "network"
    assert (small.upscaling, small.sound, world.sound) == ("off", "generated", "generated")


def test_in_between_frames_come_with_the_same_game(loud_world: Path, backend: str):
    plain, both = World.load(loud_world, backend=backend), World.load(loud_world, backend=backend, between=True)
    small = World.load(loud_world, backend=backend, upscale=False)
    for world in (plain, both, small):
        assert world.reset(3).between is None
    frames, alone, little = (play(world) for world in (both, plain, small))
    for frame, same in zip(frames, alone, strict=True):
        np.testing.assert_array_equal(frame.image, same.image)
        np.testing.assert_array_equal(frame.sound, same.sound)
        assert same.between is None
    assert frames[0].between is None  # nothing was kept of the prompt
    assert all(f.between.shape == f.image.shape and f.between.dtype == np.uint8 for f in frames[1:])
    both.upscaling = "nearest"
    pictures = np.stack([f.image for f in [*little, small.step(1)]])
    middle = small.between(pictures[-2:-1], pictures[-1:])[0]
    np.testing.assert_array_equal(both.step(1).between, middle.repeat(SCALE, 0).repeat(SCALE, 1))


def test_in_between_frames_are_switched_off_and_on_and_none_joins_two_games(loud_world: Path, backend: str):
    world = World.load(loud_world, backend=backend, between=True, batch=2)
    world.reset([0, 1])
    world.step([1, 2])
    assert world.step([1, 2]).between.shape == world.image.shape
    state = world.snapshot()
    world.restore(state)
    assert world.step([1, 2]).between is None
    world.reset([5, 6], mask=np.array([True, False]))
    assert world.step([1, 2]).between is None and world.step([1, 2], draw=False).between is None
    world.shows_between = False
    assert world.step([1, 2]).between is None
    world.shows_between = True
    assert world.step([1, 2]).between is None and world.step([1, 2]).between is not None
    without = World.load(loud_world, backend=backend)
    assert not without.has_between
    with pytest.raises(InputError, match="opened without in-between frames"):
        without.shows_between = True


def test_what_stands_still_does_not_flicker_and_what_moves_is_drawn_anew(loud_world: Path, backend: str):
    world = World.load(loud_world, backend=backend, upscale=False)
    rng = np.random.default_rng(0)
    still = rng.integers(20, 230, (SIDE, SIDE, 3), dtype=np.uint8)
    noisy = np.stack([still + rng.integers(0, 4, still.shape, dtype=np.uint8) for _ in range(5)])
    noisy[3, :8] = rng.integers(0, 256, (8, SIDE, 3))
    images = world.upscale(noisy)
    half = 8 * SCALE
    assert (images[1] == images[0]).all() and (images[2] == images[0]).all()
    assert (images[3, half:] == images[0, half:]).all()
    alone = world.upscale(noisy[3:4])[0]  # a pixel that moves is drawn as if it were the first
    moved = (np.abs(noisy[3].astype(int) - noisy[0]).max(-1) > 6).repeat(SCALE, 0).repeat(SCALE, 1)
    assert moved[:half].mean() > 0.9 and (images[3][moved] == alone[moved]).all()
    creeping = np.stack([np.full((SIDE, SIDE, 3), 100 + 2 * i, np.uint8) for i in range(20)])
    np.testing.assert_array_equal(world.upscale(creeping)[-1], world.upscale(creeping[16:17])[0])  # every 8 levels


def test_rewinding_rewinds_the_sound(world: World):
    world.reset(1)
    play(world, ACTIONS[:3])
    state = world.snapshot()
    first = play(world)
    world.restore(state)
    for before, again in zip(first, play(world), strict=True):
        np.testing.assert_array_equal(before.sound, again.sound)
        np.testing.assert_array_equal(before.image, again.image)


@pytest.mark.parametrize("batch", [3, 8, 17])
def test_a_game_looks_and_sounds_the_same_bit_for_bit_in_any_batch(loud_world: Path, batch: int):
    alone = World.load(loud_world, backend="onnxruntime:cpu")
    alone.reset(2)
    many = World.load(loud_world, backend="onnxruntime:cpu", batch=batch)
    many.reset([*range(10, 9 + batch), 2])
    for action in ACTIONS:
        beside, by_itself = many.step([*(slot % 5 for slot in range(batch - 1)), action]), alone.step(action)
        assert beside.sound.shape == (batch, SAMPLES, CHANNELS)
        np.testing.assert_array_equal(beside.sound[-1], by_itself.sound)
        np.testing.assert_array_equal(beside.image[-1], by_itself.image)


def test_resetting_some_slots_leaves_the_sound_of_the_others(loud_world: Path, backend: str):
    worlds = [World.load(loud_world, backend=backend, batch=2) for _ in range(2)]
    for world in worlds:
        world.reset([0, 1])
        world.step([1, 2])
    frame = worlds[0].reset([5, 6], mask=np.array([True, False]))
    assert frame.sound.shape == (2, SAMPLES, CHANNELS) and not frame.sound[1].any()
    for _ in range(3):
        a, b = worlds[0].step([1, 3]), worlds[1].step([1, 3])
        np.testing.assert_array_equal(a.sound[1], b.sound[1])
        assert not np.array_equal(a.sound[0], b.sound[0])


def test_both_can_be_left_out(loud_world: Path, backend: str):
    quiet = World.load(loud_world, backend=backend, upscale=False, sound="off")
    frame = quiet.reset(0)
    assert frame.sound is None and frame.image.shape == (SIDE, SIDE, 3) and quiet.sample_rate is None
    loud = World.load(loud_world, backend=backend)
    loud.reset(0)
    with pytest.raises(InputError, match="other sound or super-resolution"):
        quiet.restore(loud.snapshot())


def test_a_prompt_is_of_the_worlds_own_size(world: World):
    frames = np.zeros((3, SIDE, SIDE, 3), np.uint8)
    assert world.reset(start=frames).image.shape == (SCALE * SIDE, SCALE * SIDE, 3)
    assert world.reconstruct(frames).shape == (3, SIDE, SIDE, 3)
    with pytest.raises(InputError, match=f"a start is uint8 \\({SIDE}, {SIDE}, 3\\)"):
        world.reset(start=np.zeros((32, 32, 3), np.uint8))


def test_listening_to_recorded_frames_gives_each_its_samples_and_disturbs_nothing(world: World):
    world.reset(0)
    expected = play(world)
    world.reset(0)
    frames = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    assert world.listen(frames, [1, 2, 3]).shape == (4, SAMPLES, CHANNELS)
    for a, b in zip(expected, play(world), strict=True):
        np.testing.assert_array_equal(a.sound, b.sound)


def test_what_a_world_does_not_have_is_named(loud_world: Path, tiny_world: Path, tmp_path: Path):
    with pytest.raises(InputError, match="sound is one of generated, retrieved, off, got 'loud'"):
        World.load(loud_world, sound="loud")
    with pytest.raises(InputError, match="has no sound head"):
        World.load(tiny_world, sound="generated")
    with pytest.raises(InputError, match="has no super-resolution"):
        World.load(tiny_world).upscale(np.zeros((1, SIDE, SIDE, 3), np.uint8))
    with pytest.raises(InputError, match="has no in-between frames"):
        World.load(tiny_world).between(*np.zeros((2, 1, SIDE, SIDE, 3), np.uint8))
    assert not World.load(tiny_world, between=True).shows_between
    shutil.copytree(tiny_world, tmp_path / "promises")
    path = tmp_path / "promises" / "world.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sound": "generated"}))
    with pytest.raises(InputError, match="promises generated sound but there is no sound head"):
        World.load(tmp_path / "promises")


def recorded(*lead: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames (..., t, SIDE, SIDE, 3) and their sound (..., t, SAMPLES, CHANNELS), which begins in the middle of the
    first frame"""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (*lead, SIDE, SIDE, 3), dtype=np.uint8)
    sound = rng.uniform(-0.5, 0.5, (*lead, SAMPLES, CHANNELS)).astype(np.float32)
    sound[..., 0, : SAMPLES // 2, :] = 0
    return frames, sound


def test_sound_goes_on_from_that_of_the_prompt(loud_world: Path, backend: str):
    world = World.load(loud_world, backend=backend)
    assert world.hears
    frames, sound = recorded(3)
    _, other = recorded(3, seed=1)
    alone, *_ = unheard = [world.reset(0, start=frames), *play(world)]
    first, *_ = heard = [world.reset(0, start=frames, start_sound=sound), *play(world)]
    again = [world.reset(0, start=frames, start_sound=sound), *play(world)]
    others = [world.reset(0, start=frames, start_sound=other), *play(world)]
    for a, b in zip(heard, again, strict=True):
        np.testing.assert_array_equal(a.sound, b.sound)
    for a, b in zip(heard, unheard, strict=True):  # it is only heard
        np.testing.assert_array_equal(a.image, b.image)
    assert not np.array_equal(first.sound, alone.sound)
    assert any(not np.array_equal(a.sound, b.sound) for a, b in zip(heard[1:], others[1:], strict=True))
    whole = world.listen(frames, None, sound)
    np.testing.assert_array_equal(whole[-1], first.sound)
    np.testing.assert_array_equal(world.listen(frames, None, sound[:2])[:2], whole[:2])
    np.testing.assert_array_equal(world.listen(frames, None, np.zeros_like(sound))[0], 0)  # silence is heard too


def test_what_is_heard_of_a_prompt_is_the_recording_through_the_codec(loud_world: Path, backend: str):
    torch = pytest.importorskip("torch")
    frames, sound = recorded(4)
    heard = World.load(loud_world, backend=backend).listen(frames, None, sound)
    codec = load_network(loud_world, "sound_codec")
    with torch.inference_mode():
        expected, _ = codec.decode(codec.encode(torch.from_numpy(sound)[None]), codec.empty_tail(1))
    np.testing.assert_allclose(heard, expected[0].clamp(-1, 1).numpy(), atol=1e-5)


def test_what_is_heard_is_remembered_as_in_training(loud_world: Path):
    """The state after a prompt is that which the head is trained to go on from"""
    torch = pytest.importorskip("torch")
    from worldgen.models.sound import NUM_PLACES
    from worldgen.models.steps import Hear, Sound

    frames, sound = recorded(2, 5)
    sound[:, 2] = 0
    codec, head = (load_network(loud_world, name).eval() for name in ("sound_codec", "sound"))
    places = np.stack([onset_places(game, SAMPLES * FPS) for game in sound])
    assert (places[:, 0] > 0.4).all() and (places[:, 3] == 0).all() and (places[:, [1, 2, 4]] == -1).all()
    play = Sound(codec, head)
    hear, generator = Hear(play), torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 5, *head_input(loud_world), generator=generator)
    action = torch.zeros(2, 5, 1, dtype=torch.int64)
    state, before = torch.zeros(2, play.state_dim), torch.zeros(2, *codec.tail_shape)
    with torch.inference_mode():
        for i in range(5):
            noise = torch.randn(2, head.noise_dim, generator=generator)
            heard, place = torch.from_numpy(sound[:, i]), torch.from_numpy(places[:, i])
            _, made_up = play(hidden[:, i], action[:, i], noise, state)
            _, state = hear(heard, before, place, state, made_up)
            before = heard[:, -codec.overlap :]
        latents = codec.encode(torch.from_numpy(sound))
        latents[:, 2] = 0  # of a silent frame
        told = (torch.from_numpy(places)[..., None] * NUM_PLACES).floor() == torch.arange(NUM_PLACES)
        known = torch.cat([latents, told.float()], dim=-1)
        shifted = torch.cat([torch.zeros_like(known[:, :1]), known[:, :-1]], dim=1)
        expected = head.context(hidden, action, shifted)[:, -1, : head.config.dim]
    memory, rest = state[:, : head.config.dim], state[:, head.config.dim : head.state_dim - 1]
    torch.testing.assert_close(memory, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(rest, known[:, -1], atol=1e-5, rtol=0)


def head_input(world: Path) -> tuple[int, int]:
    return World.load(world, backend="torch").hidden_shape


@pytest.mark.parametrize("is_masked", [False, True])
def test_a_clip_of_ones_own_is_heard_by_the_slots_that_begin(loud_world: Path, backend: str, is_masked: bool):
    frames, sound = recorded(2, 3)
    two, one = (World.load(loud_world, backend=backend, batch=n) for n in (2, 1))
    two.reset(0)
    mask = np.array([False, True]) if is_masked else None
    begun = two.reset([1, 2], start=frames, start_sound=sound, mask=mask)
    alone = one.reset([2], start=frames[1:], start_sound=sound[1:])
    for a, b in zip(
        [begun, *(two.step([x, x]) for x in ACTIONS)], [alone, *(one.step([x]) for x in ACTIONS)], strict=True
    ):
        np.testing.assert_allclose(a.sound[1], b.sound[0], atol=1e-5)


def test_starts_bring_their_sound_along_and_each_slot_hears_its_own(loud_world: Path, backend: str):
    frames, sound = recorded(2, 3)
    actions = World.load(loud_world).config.actions.null(2, 3)
    starts = Starts(frames, actions, np.round(sound * 32767).astype(np.int16))
    two = World.load(loud_world, backend=backend, batch=2, starts=starts)
    one = World.load(loud_world, backend=backend, starts=starts)
    both = [two.reset([5, 6], start=[1, 0]).sound, *(two.step([a, a]).sound for a in ACTIONS)]
    for slot, start in enumerate((1, 0)):
        alone = [one.reset(5 + slot, start=start).sound, *(f.sound for f in play(one))]
        for a, b in zip(both, alone, strict=True):
            np.testing.assert_allclose(a[slot], b, atol=1e-5)
    before = two.snapshot()
    begun = two.reset([7, 8], start=[0, 1], mask=np.array([False, True]))
    assert not begun.sound[0].any() and begun.sound[1].any()
    np.testing.assert_array_equal(two.snapshot().sound[0], before.sound[0])
    there, back = two.listen(frames, None, sound)[0, -1], two.listen(frames[::-1], None, sound[::-1])[1, -1]
    np.testing.assert_allclose(there, back, atol=1e-6)  # torch rounds a batch's rows as its kernels divide them


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (np.zeros((3, SAMPLES, CHANNELS), np.int16), "int16"),
        (np.zeros((4, SAMPLES, CHANNELS), np.float32), "1 to 3 frames"),
        (np.zeros((3, SAMPLES + 1, CHANNELS), np.float32), f"{SAMPLES}, {CHANNELS}"),
        (np.full((3, SAMPLES, CHANNELS), 1.5, np.float32), "between -1 and 1"),
        (np.full((3, SAMPLES, CHANNELS), np.nan, np.float32), "between -1 and 1"),
    ],
)
def test_a_sound_that_cannot_be_heard_is_refused(world: World, sound, reason):
    with pytest.raises(InputError, match=reason):
        world.reset(0, start=recorded(3)[0], start_sound=sound)
    with pytest.raises(InputError, match="belong to a prompt"):
        world.reset(0, start=0, start_sound=recorded(3)[1])


def test_a_silent_world_and_one_without_the_graph_hear_nothing(loud_world: Path, backend: str):
    frames, sound = recorded(2)
    for quiet in (World.load(loud_world, backend=backend, sound="off"), _deaf(loud_world, backend)):
        assert not quiet.hears
        with pytest.raises(InputError, match="needs a world that generates sound"):
            quiet.reset(0, start=frames, start_sound=sound)
    starts = Starts(frames[None], World.load(loud_world).config.actions.null(1, 2), np.ones((1, 2, 7, 1), np.int16))
    with pytest.raises(InputError, match="sound of the starts"):
        World.load(loud_world, backend=backend, starts=starts)


def _deaf(folder: Path, backend: str) -> World:
    """As exported before there was the graph `hear`"""
    engine = open_backend(folder, backend)
    engine.specs = {name: spec for name, spec in engine.specs.items() if name != "hear"}
    return World(WorldConfig.load(folder / "world.json"), engine, Starts.load(folder))


def test_ten_minutes_of_sound_have_no_gap(loud_world: Path):
    """In a small way: the samples of many frames are exactly as many as their time holds, and none is missing."""
    world = World.load(loud_world, backend="onnxruntime", upscale=False)
    world.reset(0)
    total = sum(len(world.step(i % 5).sound) for i in range(200))
    assert total == 200 * SAMPLES == round(200 / FPS * world.sample_rate)


@pytest.fixture(scope="module")
def retrieving_world(loud_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of a game with four colours, that can play recorded sounds: an effect and a track of music; exported"""
    torch = pytest.importorskip("torch")
    from worldgen.export.to_onnx import export_onnx
    from worldgen.models.sound_events import SoundEvents
    from worldgen.models.super_resolution import SuperResolution

    folder = tmp_path_factory.mktemp("worlds") / "retrieving"
    shutil.copytree(loud_world, folder, ignore=shutil.ignore_patterns("onnx*"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        enlarge = SuperResolution(scale=SCALE, channels=8, num_layers=1, palette=PALETTE)
        enlarge.fold()
        events = SoundEvents(hidden_dim=32, action_kind="discrete", action_sizes=[5], num_sounds=1, num_music=1, dim=8)
        for network in (enlarge, events):
            for parameter in network.parameters():
                parameter.data += 0.05 * torch.randn_like(parameter)
        events.track.bias.data[0] = 9  # it is always the music's scene
    save_network(enlarge, folder, "super_resolution")
    save_network(events, folder, "sound_events")
    clips = [np.full((n, CHANNELS), level, np.int16) for n, level in ((900, 3000), (5000, 1000))]
    SoundLibrary.of(clips, ["sound 1", "music 1"], SAMPLES * FPS, SAMPLES, num_music=1).save(folder)
    export_onnx(folder, say=lambda text: None)
    return folder


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_recorded_sounds_play_over_music_and_rewind_with_it(retrieving_world: Path, engine: str):
    pytest.importorskip(engine)
    world = World.load(retrieving_world, backend=engine, sound="retrieved", upscale=False)
    assert (world.sample_rate, world.channels) == (SAMPLES * FPS, CHANNELS)
    world.reset(1)
    play(world)
    state = world.snapshot()
    first = [frame.sound for frame in (*play(world), *play(world))]
    world.restore(state)
    for before, frame in zip(first, (*play(world), *play(world)), strict=True):
        np.testing.assert_array_equal(before, frame.sound)
    line = np.concatenate(first)
    levels = set(np.unique(np.round(line[-8 * SAMPLES :] * 32768)).tolist())
    assert 1000 in levels and np.abs(line).max() > 1500 / 32768  # music alone, and an effect over it


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_a_snapshot_of_the_other_kind_of_sound_is_refused_and_the_game_goes_on(retrieving_world: Path, engine: str):
    pytest.importorskip(engine)
    worlds = [World.load(retrieving_world, backend=engine, sound=kind) for kind in ("generated", "retrieved")]
    for world in worlds:
        world.reset(0)
    for world, other in (worlds, worlds[::-1]):
        before = world.snapshot()
        with pytest.raises(InputError, match="other sound"):
            world.restore(other.snapshot())
        first = world.step(1).sound
        world.restore(before)
        np.testing.assert_array_equal(world.step(1).sound, first)


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_larger_frames_of_a_game_with_few_colours_are_mixed_of_them(retrieving_world: Path, engine: str):
    pytest.importorskip(engine)
    world = World.load(retrieving_world, backend=engine, sound="off")
    world.reset(0)
    images = np.stack([frame.image for frame in play(world)]).astype(int)
    assert images.shape[1:] == (SCALE * SIDE, SCALE * SIDE, 3)
    assert (images.min((0, 1, 2)) >= np.min(PALETTE, 0) - 1).all()
    assert (images.max((0, 1, 2)) <= np.max(PALETTE, 0) + 1).all()
