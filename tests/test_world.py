"""World: what players, environments and engines rely on, on every backend."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import SIDE, TOY_ACTIONS, build_tiny_world

from worldgen.actions import ActionMap
from worldgen.backends import Backend, open_backend
from worldgen.bundle import Starts
from worldgen.config import WorldConfig
from worldgen.errors import InputError
from worldgen.world import Frame, State, World

CONTEXT = 4  # of the tiny world
ACTIONS = [1, 1, 4, 0, 2, 3, 3, 1, 0, 4, 2, 2]
# grey levels between batch sizes; torch and TensorRT take other kernels for each
TOLERANCE = {"onnxruntime": 0, "torch": 1, "tensorrt": 1}


@pytest.fixture(scope="module")
def engines(tiny_world: Path) -> Callable[[str], Backend]:
    """Opened once: they hold no game."""
    return functools.cache(lambda name: open_backend(tiny_world, name))


@pytest.fixture
def world(tiny_world: Path, engines: Callable[[str], Backend], backend: str) -> World:
    config, starts = WorldConfig.load(tiny_world / "world.json"), Starts.load(tiny_world)
    return World(config, engines(backend), starts)


@pytest.fixture
def three(tiny_world: Path, engines: Callable[[str], Backend], backend: str) -> World:
    config, starts = WorldConfig.load(tiny_world / "world.json"), Starts.load(tiny_world)
    return World(config, engines(backend), starts, batch=3)


def play(world: World, actions: list, seed: int | list[int] = 0, **reset) -> np.ndarray:
    """The frames of a game, the first included: (t + 1, [b,] h, w, 3)"""
    first = world.reset(seed, **reset).image
    return np.stack([first] + [world.step(action).image for action in actions])


def go_on(world: World, actions: list) -> np.ndarray:
    return np.stack([world.step(action).image for action in actions])


def assert_close(got: np.ndarray, expected: np.ndarray, levels: int) -> None:
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= levels


def noise_frames(*shape: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, SIDE, SIDE, 3), dtype=np.uint8)


# Frames


def test_a_frame_is_a_picture_a_reward_and_an_end(world: World):
    for frame in (world.reset(0), world.step(1)):
        assert frame.image.shape == (SIDE, SIDE, 3) and frame.image.dtype == np.uint8
        assert frame.sound is None
        assert isinstance(frame.reward, float) and isinstance(frame.terminated, bool)


def test_a_batch_gives_every_field_a_leading_axis(tiny_world: Path, backend: str):
    for batch in (1, 3):
        world = World.load(tiny_world, backend=backend, batch=batch)
        for frame in (world.reset(0), world.step([1] * batch)):
            assert frame.image.shape == (batch, SIDE, SIDE, 3)
            assert frame.reward.shape == (batch,) and frame.reward.dtype == np.float32
            assert frame.terminated.shape == (batch,) and frame.terminated.dtype == bool


def test_a_game_begins_without_reward_or_end(three: World):
    frame = three.reset(0)
    assert not frame.reward.any() and not frame.terminated.any()


def test_heads_speak_after_every_step(world: World):
    world.reset(0)
    rewards = [world.step(action).reward for action in ACTIONS]
    assert len(set(rewards)) > 1 and np.isfinite(rewards).all()


def test_the_first_frame_is_the_last_of_the_start_as_the_tokenizer_restores_it(world: World):
    frames = noise_frames(3)
    np.testing.assert_array_equal(world.reset(start=frames).image, world.reconstruct(frames)[-1])


def test_reconstructing_does_not_disturb_the_game(world: World):
    expected = play(world, ACTIONS)
    world.reset(0)
    got = []
    for action in ACTIONS:
        world.reconstruct(noise_frames(2))
        got.append(world.step(action).image)
    np.testing.assert_array_equal(np.stack(got), expected[1:])


# Same seed, same frames


def test_same_seed_and_actions_give_the_same_frames_bit_for_bit(tiny_world: Path, backend: str):
    first = play(World.load(tiny_world, backend=backend), ACTIONS, seed=3)
    again = World.load(tiny_world, backend=backend)
    play(again, ACTIONS[::-1], seed=8)  # whatever was played before
    np.testing.assert_array_equal(play(again, ACTIONS, seed=3), first)


def test_seed_and_actions_both_matter(world: World):
    frames = play(world, ACTIONS, seed=0, start=0)
    assert (play(world, ACTIONS, seed=1, start=0)[1:] != frames[1:]).any()
    other = play(world, [ACTIONS[0], *[(a + 1) % 5 for a in ACTIONS[1:]]], seed=0, start=0)
    np.testing.assert_array_equal(other[:2], frames[:2])
    assert (other[2:] != frames[2:]).any()


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_frames_do_not_depend_on_the_batch_size(tiny_world: Path, backend: str, batch: int):
    alone, many = World.load(tiny_world, backend=backend), World.load(tiny_world, backend=backend, batch=batch)
    many.reset(5)
    frames = [many.step([a] * batch) for a in ACTIONS]
    state = many.snapshot()
    for slot in range(batch):
        alone.reset(5 + slot)
        for frame, one in zip(frames, (alone.step(a) for a in ACTIONS), strict=True):
            assert_close(frame.image[slot], one.image, TOLERANCE[backend])
            assert frame.reward[slot] == pytest.approx(one.reward, abs=1e-5 * TOLERANCE[backend], rel=0)
            assert frame.terminated[slot] == one.terminated
        if backend == "onnxruntime":
            for name in ("cache", "previous", "decoder"):
                np.testing.assert_array_equal(getattr(state, name)[slot], getattr(alone.snapshot(), name)[0])


def test_frames_do_not_depend_on_other_slots(three: World):
    """Bit for bit, on every backend: the batch is the same."""
    frames = play(three, [[a, 0, a] for a in ACTIONS], seed=[4, 5, 6])
    other = play(three, [[a, 3, 1] for a in ACTIONS], seed=[4, 50, 60])
    np.testing.assert_array_equal(other[:, 0], frames[:, 0])
    assert (other[1:, 1:] != frames[1:, 1:]).any()


def test_slot_i_is_seeded_with_seed_plus_i(three: World):
    np.testing.assert_array_equal(
        play(three, [[1, 2, 3]], seed=10, start=0), play(three, [[1, 2, 3]], seed=[10, 11, 12], start=0)
    )


@pytest.mark.parametrize("wrong", [-1, 2**63, [0, 1], [0, 1, -5]])
def test_a_wrong_seed_is_refused(three: World, wrong: object):
    with pytest.raises(InputError, match="seed"):
        three.reset(wrong)


def test_backends_agree_within_one_grey_level(tiny_world: Path):
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    worlds = [World.load(tiny_world, backend=name, batch=2) for name in ("onnxruntime", "torch")]
    frames, others = (play(w, [[a, 4 - a] for a in ACTIONS[:8]], seed=1) for w in worlds)
    assert_close(others, frames, 1)
    assert worlds[0].hash == worlds[1].hash


# Long games


def test_a_game_outlives_the_period_of_its_positions(tiny_world: Path, backend: str):
    """Frame 16 * context and on: still numbers, still moving. (That nothing else changes: test_dynamics.py.)"""
    world = World.load(tiny_world, backend=backend)
    actions = [int(a) for a in np.random.default_rng(0).integers(5, size=16 * CONTEXT + 5)]
    frames = play(world, actions, seed=2)
    assert len({frame.tobytes() for frame in frames[-10:]}) > 1  # not frozen
    state = world.snapshot()
    for name in ("cache", "previous", "decoder"):
        assert np.isfinite(getattr(state, name)).all()
    assert state.step.tolist() == [4 + len(actions)]  # the start holds 4 frames


# Masked resets


def test_a_masked_reset_begins_only_those_games_anew(three: World, backend: str):
    undisturbed = play(three, [[a] * 3 for a in ACTIONS], seed=0)
    fresh = play(three, [[a] * 3 for a in ACTIONS[5:]], seed=[90, 77, 91])
    three.reset(0)
    go_on(three, [[a] * 3 for a in ACTIONS[:5]])
    frame = three.reset([55, 77, 56], mask=np.array([False, True, False]))
    for slot in (0, 2):
        np.testing.assert_array_equal(frame.image[slot], undisturbed[5, slot])
    np.testing.assert_array_equal(frame.image[1], fresh[0, 1])
    after = go_on(three, [[a] * 3 for a in ACTIONS[5:]])
    for slot in (0, 2):
        np.testing.assert_array_equal(after[:, slot], undisturbed[6:, slot])
    assert_close(after[:, 1], fresh[1:, 1], TOLERANCE[backend])


def test_a_mask_of_nothing_changes_nothing(three: World):
    expected = play(three, [[a] * 3 for a in ACTIONS])
    play(three, [[a] * 3 for a in ACTIONS[:4]])
    three.reset(99, mask=np.zeros(3, bool))
    np.testing.assert_array_equal(go_on(three, [[a] * 3 for a in ACTIONS[4:]]), expected[5:])


def test_a_wrong_mask_is_refused_and_the_game_goes_on(three: World):
    three.reset(0)
    with pytest.raises(InputError, match="mask"):
        three.reset(0, mask=np.ones(2, bool))
    three.step([0, 1, 2])


def test_a_mask_needs_games_to_keep(three: World):
    with pytest.raises(InputError, match=r"reset\(\)"):
        three.reset(0, mask=np.array([True, False, False]))


# Snapshots


def test_a_masked_restore_puts_only_those_games_back(three: World):
    actions = [[a] * 3 for a in ACTIONS]
    frames = play(three, actions)
    play(three, actions[:4])
    state = three.snapshot()
    go_on(three, actions[4:8])
    three.restore(state, mask=np.array([True, False, True]))
    np.testing.assert_array_equal(three.image[[0, 2]], frames[4, [0, 2]])
    np.testing.assert_array_equal(three.image[1], frames[8, 1])
    after = go_on(three, [[ACTIONS[4], ACTIONS[8], ACTIONS[4]]])
    np.testing.assert_array_equal(after[0, [0, 2]], frames[5, [0, 2]])
    np.testing.assert_array_equal(after[0, 1], frames[9, 1])


def test_a_restored_snapshot_plays_the_same_future(world: World):
    frames = play(world, ACTIONS)
    play(world, ACTIONS[:6])
    state = world.snapshot()
    for _ in range(2):
        go_on(world, [4, 4, 0])
        world.restore(state)
        np.testing.assert_array_equal(go_on(world, ACTIONS[6:]), frames[7:])


def test_steps_are_undone_one_by_one_from_their_marks(world: World):
    world.reset(seed=5)
    marks, snapshots = [], []
    for i in range(2 * world.config.context + 3):  # the ring is written round more than once
        marks.append(world.mark())
        snapshots.append(world.snapshot())
        world.step(i % 3)
    with pytest.raises(InputError, match="not of the step"):
        world.unwind(marks[0])
    for mark, snapshot in zip(reversed(marks), reversed(snapshots), strict=True):
        world.unwind(mark)
        for name, value in vars(world.snapshot()).items():
            np.testing.assert_array_equal(value, getattr(snapshot, name))
    assert marks[0].cache.nbytes * world.config.context == snapshots[0].cache.nbytes


def test_a_snapshot_is_a_copy_both_ways(world: World):
    world.keeps_hidden = True
    frames = play(world, ACTIONS)
    play(world, ACTIONS[:6])
    state = world.snapshot()
    kept = {f.name: np.array(getattr(state, f.name)) for f in fields(State)}
    go_on(world, ACTIONS[6:])
    for name, value in kept.items():  # playing on does not write into the snapshot
        np.testing.assert_array_equal(getattr(state, name), value)
    world.restore(state)
    for f in fields(State):  # writing into the snapshot does not touch the game
        if f.name not in ("world", "upscale", "sound"):  # this world has neither
            getattr(state, f.name)[...] = 1
    np.testing.assert_array_equal(go_on(world, ACTIONS[6:]), frames[7:])


def test_a_snapshot_of_one_game_fills_all_slots(tiny_world: Path, backend: str, three: World):
    alone = World.load(tiny_world, backend=backend)
    frames = play(alone, ACTIONS)
    play(alone, ACTIONS[:6])
    three.restore(alone.snapshot())
    after = go_on(three, [[a] * 3 for a in ACTIONS[6:]])
    for slot in range(3):
        assert_close(after[:, slot], frames[7:], TOLERANCE[backend])


def test_a_snapshot_travels_between_backends(tiny_world: Path):
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    first, second = (World.load(tiny_world, backend=name) for name in ("onnxruntime", "torch"))
    frames = play(first, ACTIONS)
    play(first, ACTIONS[:6])
    second.restore(first.snapshot())
    assert_close(go_on(second, ACTIONS[6:]), frames[7:], 1)


def test_a_snapshot_of_another_world_is_refused(world: World):
    world.reset(0)
    state = world.snapshot()
    with pytest.raises(InputError, match=f"deadbeef.*{world.hash}"):
        world.restore(replace(state, world="deadbeef"))


def test_other_weights_are_another_world(tmp_path: Path, tiny_world: Path):
    pytest.importorskip("torch")
    build_tiny_world(tmp_path, seed=1)
    other, world = World.load(tmp_path, backend="torch"), World.load(tiny_world, backend="torch")
    other.reset(0)
    world.reset(0)
    with pytest.raises(InputError, match="belongs to world"):
        world.restore(other.snapshot())


def test_a_snapshot_of_another_number_of_games_is_refused(tiny_world: Path, backend: str, three: World):
    two = World.load(tiny_world, backend=backend, batch=2)
    two.reset(0)
    with pytest.raises(InputError, match="2 games.* 3"):
        three.restore(two.snapshot())


# Starts


def test_each_of_the_worlds_starts_can_be_chosen(world: World):
    assert world.num_starts == 3
    firsts = [world.reset(0, start=i).image for i in range(3)]
    assert len({image.tobytes() for image in firsts}) == 3
    drawn = {world.reset(seed).image.tobytes() for seed in range(30)}
    assert drawn == {image.tobytes() for image in firsts}


def test_each_slot_may_have_a_start_of_its_own(three: World):
    firsts = [three.reset(0, start=i).image[0] for i in range(3)]
    np.testing.assert_array_equal(three.reset(0, start=[2, 0, 1]).image, [firsts[2], firsts[0], firsts[1]])
    for wrong in ([0, 1], [0, 1, 3], [0, -1, 1]):
        with pytest.raises(InputError, match="start"):
            three.reset(0, start=wrong)


@pytest.mark.parametrize("index", [-1, 3, 10**9])
def test_a_start_that_does_not_exist_is_refused(world: World, index: int):
    with pytest.raises(InputError, match=rf"start {index} .*0\.\.2"):
        world.reset(0, start=index)


def test_a_prompt_of_one_frame_or_of_many_begins_a_game(three: World):
    one, many, each = noise_frames(), noise_frames(5), noise_frames(3, 5)
    for start in (one, many, each):
        frames = play(three, [[0, 1, 2]], start=start)
        expected = three.reconstruct(start if start.ndim > 3 else start[None])[:, -1]
        np.testing.assert_array_equal(frames[0], expected)
    each_alone = play(three, [[0, 1, 2]], start=np.stack([each[0]] * 3))
    together = play(three, [[0, 1, 2]], start=each)
    np.testing.assert_array_equal(each_alone[:, 0], together[:, 0])
    assert (each_alone[:, 1] != together[:, 1]).any()


def test_a_prompt_longer_than_the_context_is_taken(world: World):
    frames = noise_frames(3 * CONTEXT)
    world.reset(0, start=frames)
    assert world.snapshot().step.tolist() == [3 * CONTEXT]
    go_on(world, ACTIONS)


def test_the_actions_of_a_prompt_shape_the_future_not_the_picture(world: World):
    frames = noise_frames(4)
    unknown = play(world, ACTIONS, start=frames)
    known = play(world, ACTIONS, start=frames, start_actions=[1, 2, 3])
    others = play(world, ACTIONS, start=frames, start_actions=[1, 2, 4])
    np.testing.assert_array_equal(unknown[0], known[0])
    assert (unknown[1:] != known[1:]).any() and (others[1:] != known[1:]).any()


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_action_i_of_a_prompt_led_to_frame_i_plus_1(world: World, changed: int):
    """The ring's slots of frames 0 .. i do not know action i; that of frame i + 1 does."""
    frames, chosen = noise_frames(4), [4, 1, 2]
    rings = []
    for _ in range(2):
        world.reset(0, start=frames, start_actions=chosen)
        rings.append(world.snapshot().cache)
        chosen[changed] = 3
    knows = [(rings[0][..., slot, :] != rings[1][..., slot, :]).any() for slot in range(4)]
    assert not any(knows[: changed + 1]) and knows[changed + 1]


def test_prompt_actions_have_the_batch_first(three: World):
    frames = noise_frames(3, 4)
    three.reset(0, start=frames, start_actions=np.zeros((3, 3), int))
    with pytest.raises(InputError, match="shape"):
        three.reset(0, start=frames, start_actions=[0, 0, 0])
    with pytest.raises(InputError, match="shape"):
        three.reset(0, start=frames, start_actions=np.zeros((3, 4), int))


@pytest.mark.parametrize(
    "start",
    [
        np.zeros((SIDE, SIDE, 3)),
        np.zeros((SIDE, SIDE), np.uint8),
        np.zeros((SIDE, SIDE + 1, 3), np.uint8),
        np.zeros((SIDE, SIDE, 4), np.uint8),
        np.zeros((3, SIDE, SIDE), np.uint8),
        np.zeros((0, SIDE, SIDE, 3), np.uint8),
        np.zeros((2, 4, SIDE, SIDE, 3), np.uint8),
        np.zeros((1, 3, 1, SIDE, SIDE, 3), np.uint8),
        "start.png",
    ],
    ids=lambda x: x if isinstance(x, str) else f"{x.dtype}{x.shape}",
)
def test_a_wrong_start_is_refused_and_the_game_goes_on(three: World, start: object):
    three.reset(0)
    with pytest.raises(InputError, match="start"):
        three.reset(0, start=start)
    three.step([0, 1, 2])


# Use


def test_stepping_before_a_reset_says_so(world: World):
    for call in (lambda: world.step(0), world.snapshot):
        with pytest.raises(InputError, match=r"reset\(\)"):
            call()


@pytest.mark.parametrize("action", [5, -1, 1.5, [1], "left", None, float("nan")])
def test_a_wrong_action_is_refused_and_the_game_goes_on(world: World, action: object):
    expected = play(world, ACTIONS)
    play(world, ACTIONS[:3])
    with pytest.raises(InputError, match="action"):
        world.step(action)
    np.testing.assert_array_equal(go_on(world, ACTIONS[3:]), expected[4:])


def test_every_slot_needs_its_action(three: World):
    three.reset(0)
    for wrong in (0, [0, 1], [0, 1, 2, 3], [0, 1, 5], [[0, 1, 2]]):
        with pytest.raises(InputError, match="action"):
            three.step(wrong)


def test_nfe_may_be_changed_while_playing(tiny_world: Path, backend: str, world: World):
    by_nfe = {}
    for nfe in (1, 2, 4):
        world.nfe = nfe
        by_nfe[nfe] = play(world, ACTIONS)
        loaded = World.load(tiny_world, backend=backend, nfe=nfe)
        assert loaded.nfe == nfe
        np.testing.assert_array_equal(play(loaded, ACTIONS), by_nfe[nfe])
    assert (by_nfe[1] != by_nfe[2]).any() and (by_nfe[2] != by_nfe[4]).any()
    world.nfe = 1
    play(world, ACTIONS[:1])
    world.nfe = 4
    assert (go_on(world, ACTIONS[1:]) != by_nfe[1][2:]).any()


@pytest.mark.parametrize("nfe", [0, 3, 8])
def test_nfe_is_one_two_or_four(tiny_world: Path, world: World, nfe: int):
    with pytest.raises(InputError, match=f"nfe.*{nfe}"):
        world.nfe = nfe
    with pytest.raises(InputError, match=f"nfe.*{nfe}"):
        World.load(tiny_world, nfe=nfe)


def test_a_batch_holds_at_least_one_game(tiny_world: Path):
    with pytest.raises(InputError, match="batch.*0"):
        World.load(tiny_world, batch=0)


def test_returned_arrays_are_the_callers_own(three: World):
    actions = [[a, 0, 2] for a in ACTIONS]
    expected = play(three, actions)

    def scribble(frame: Frame) -> np.ndarray:
        seen = frame.image.copy()
        for array in (frame.image, frame.reward, frame.terminated):
            array[...] = 1
        return seen

    got = [scribble(three.reset(0))] + [scribble(three.step(action)) for action in actions]
    np.testing.assert_array_equal(np.stack(got), expected)


def test_the_picture_on_screen_can_be_asked_for(world: World, three: World):
    for each, action in ((world, 1), (three, [1, 2, 3])):
        each.reset(0)
        shown = each.step(action).image
        np.testing.assert_array_equal(each.image, shown)
        each.image[...] = 0
        np.testing.assert_array_equal(each.image, shown)


def test_earlier_frames_stay_as_they_were(three: World):
    frames = [three.reset(0)] + [three.step([a, 0, 2]) for a in ACTIONS[:4]]
    kept = [(f.image.copy(), f.reward.copy(), f.terminated.copy()) for f in frames]
    go_on(three, [[a, 1, 3] for a in ACTIONS])
    three.reset(5, mask=np.array([True, False, True]))
    for frame, (image, reward, terminated) in zip(frames, kept, strict=True):
        np.testing.assert_array_equal(frame.image, image)
        np.testing.assert_array_equal(frame.reward, reward)
        np.testing.assert_array_equal(frame.terminated, terminated)


def test_a_frame_of_a_masked_reset_is_the_callers_own(three: World):
    three.reset(0)
    mask = np.array([True, False, False])
    frame = three.reset(1, mask=mask)
    frame.image[...] = 0
    assert three.snapshot().image.any()


def test_given_arrays_are_left_alone_and_may_be_changed_afterwards(three: World):
    start, actions = noise_frames(3, 4), [np.array([a, 1, 2]) for a in ACTIONS]
    expected = play(three, actions, start=start.copy())
    given = start.copy()
    three.reset(0, start=given)
    np.testing.assert_array_equal(given, start)
    given[...] = 0
    got = []
    for action in actions:
        given_action = action.copy()
        got.append(three.step(given_action).image)
        np.testing.assert_array_equal(given_action, action)
        given_action[...] = 0
    np.testing.assert_array_equal(np.stack(got), expected[1:])


@pytest.mark.parametrize(
    "actions, played",
    [
        (ActionMap("multi_discrete", (3, 2)), [[2, 1], [0, 0]]),
        (ActionMap("multi_binary", (2, 2, 2)), [[1, 0, 1], [0, 0, 0]]),
        (ActionMap("box", (0, 0), low=(-1.0, -1.0), high=(1.0, 1.0)), [[0.5, -1.0], [0.0, 0.0]]),
    ],
    ids=lambda x: x.kind if isinstance(x, ActionMap) else "",
)
def test_worlds_of_every_kind_of_action_play(tmp_path: Path, actions: ActionMap, played: list):
    pytest.importorskip("torch")
    build_tiny_world(tmp_path, actions=actions)
    world = World.load(tmp_path, backend="torch", batch=2)
    frames = play(world, [[a, a] for a in played * 3], seed=[1, 1], start=0)
    np.testing.assert_array_equal(frames[:, 0], frames[:, 1])
    others = play(world, [[played[0], played[1]]] * 6, seed=[1, 1], start=0)
    assert (others[1:, 0] != others[1:, 1]).any()
    world.reset(0, start=noise_frames(2, 3), start_actions=[[played[0]] * 2] * 2)


def test_the_toy_actions_are_the_tiny_worlds(world: World):
    assert world.config.actions == TOY_ACTIONS
