"""WorldVectorEnv: n generated games with one forward, exactly as n WorldEnvs would go."""

from __future__ import annotations

import gc
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import FPS, SIDE, build_tiny_world
from env_worlds import EndlessWorld, MortalWorld, SoundingWorld, headless
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from test_world_env import KINDS

from worldgen.envs import WorldEnv, WorldVectorEnv
from worldgen.errors import InputError
from worldgen.world import World

pytest.importorskip("onnxruntime")

WORLD_ID = "worldgen.envs:worldgen/World-v0"
N = 3
LIMIT = 5  # steps of an episode: some games end before, some are truncated, some both
MODES = list(AutoresetMode)


@pytest.fixture
def endless(tiny_world: Path) -> WorldVectorEnv:
    return WorldVectorEnv(EndlessWorld.load(tiny_world, batch=N), N)


def batches(num_steps: int, n: int = N, seed: int = 0) -> np.ndarray:
    """Actions (t, n)"""
    return np.random.default_rng(seed).integers(0, 5, (num_steps, n))


def play(envs: gymnasium.vector.VectorEnv, actions: np.ndarray, **reset: Any) -> list[tuple]:
    """All that the games give, the reset included."""
    return [envs.reset(**reset)] + [envs.step(each) for each in actions]


def frames_of(given: list[tuple]) -> np.ndarray:
    """(t + 1, n, h, w, 3)"""
    return np.stack([each[0] for each in given])


def assert_same(got: Any, expected: Any, where: str = "") -> None:
    """Values, types, shapes and keys, however deep."""
    assert type(got) is type(expected), where
    if isinstance(got, dict):
        assert got.keys() == expected.keys(), where
        for key in got:
            assert_same(got[key], expected[key], f"{where}.{key}")
    elif isinstance(got, list | tuple):
        assert len(got) == len(expected), where
        for i, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_same(one, other, f"{where}[{i}]")
    elif isinstance(got, np.ndarray) and got.dtype == object:
        assert_same(list(got), list(expected), where)
    elif isinstance(got, np.ndarray):
        assert got.dtype == expected.dtype, f"{where}: {got.dtype}, {expected.dtype}"
        np.testing.assert_array_equal(got, expected, err_msg=where)
    else:
        assert got == expected, where


def both(folder: Path, mode: AutoresetMode, kind: type[World] = MortalWorld, **options: Any):
    """One forward for all games, and Gymnasium's loop over single games."""
    ours = WorldVectorEnv(kind.load(folder, batch=N), N, autoreset_mode=mode, **options)
    theirs = SyncVectorEnv([lambda: WorldEnv(kind.load(folder), **options)] * N, autoreset_mode=mode)
    return ours, theirs


# As n single games


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_whole_trajectories_are_those_of_gymnasiums_loop_over_single_games(tiny_world: Path, mode: AutoresetMode):
    """Observations, rewards, ends, and infos to the last key, sound and drawn seeds included."""
    ours, theirs = both(tiny_world, mode, SoundingWorld, max_episode_steps=LIMIT, include_sound=True)
    actions = batches(40)
    got, expected = play(ours, actions, seed=3), play(theirs, actions, seed=3)
    terminations, truncations = (np.array([each[i] for each in expected[1:]]) for i in (2, 3))
    assert terminations.any(0).all() and truncations.any(0).any()  # every game ended, one at least by its length
    assert (terminations | truncations).all(1).sum() < (terminations | truncations).any(1).sum()  # not all at once
    for i, (one, other) in enumerate(zip(got, expected, strict=True)):
        assert_same(one, other, f"step {i}: ")
    assert ("final_obs" in {key for each in got for key in each[-1]}) == (mode is AutoresetMode.SAME_STEP)


def test_without_autoreset_masked_resets_give_gymnasiums_trajectories(tiny_world: Path):
    ours, theirs = both(tiny_world, AutoresetMode.DISABLED, max_episode_steps=LIMIT)
    for each in (ours, theirs):
        each.reset(seed=0)
    num_resets = 0
    for i, action in enumerate(batches(30)):
        got, expected = ours.step(action), theirs.step(action)
        assert_same(got, expected, f"step {i}: ")
        if (over := got[2] | got[3]).any():
            num_resets += 1
            seed = [40 + i, None, 50 + i] if num_resets % 2 else None
            given = [e.reset(seed=seed, options={"reset_mask": over.copy()}) for e in (ours, theirs)]
            assert_same(*given, f"reset {i}: ")
    assert num_resets > 5


def test_a_step_without_any_reset_of_the_ended_games_says_so(tiny_world: Path):
    envs = WorldVectorEnv(
        EndlessWorld.load(tiny_world, batch=N), N, autoreset_mode=AutoresetMode.DISABLED, max_episode_steps=2
    )
    envs.reset(seed=0)
    envs.step([0] * N)
    envs.reset(options={"reset_mask": np.array([True, False, False])})
    envs.step([0] * N)  # games 1 and 2 are over now
    state = envs.snapshot()
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"games \[1, 2\] are over.*reset_mask"):
        envs.step([0] * N)
    np.testing.assert_array_equal(envs.snapshot().world.step, state.world.step)
    envs.reset(options={"reset_mask": np.array([False, True, True])})
    envs.step([0] * N)


def test_every_game_is_the_single_game_of_its_seed(tiny_world: Path, endless: WorldVectorEnv):
    actions = batches(12)
    frames = frames_of(play(endless, actions, seed=[7, 3, 2**62]))
    for i, seed in enumerate([7, 3, 2**62]):
        single = WorldEnv(EndlessWorld.load(tiny_world))
        alone = [single.reset(seed=seed)[0]] + [single.step(action)[0] for action in actions[:, i]]
        np.testing.assert_array_equal(frames[:, i], np.stack(alone))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_trajectory_does_not_depend_on_the_other_games(tiny_world: Path, mode: AutoresetMode):
    """Their seeds, actions and ends are others: they end at other times and begin anew beside it."""
    envs = WorldVectorEnv(MortalWorld.load(tiny_world, batch=N), N, autoreset_mode=mode, max_episode_steps=LIMIT)
    actions = batches(25)
    first = play(envs, actions, seed=[5, 6, 7])
    others = batches(25, seed=1)
    others[:, 0] = actions[:, 0]
    second = play(envs, others, seed=[5, 60, 70])
    for one, other in zip(first, second, strict=True):
        assert_same([part[0] for part in one[:-1]], [part[0] for part in other[:-1]])
        assert one[-1].get("seed", [0])[0] == other[-1].get("seed", [0])[0]
    assert any((one[2][1:] != other[2][1:]).any() for one, other in zip(first[1:], second[1:], strict=True))


def test_the_same_seed_gives_the_same_trajectories(tiny_world: Path):
    actions = batches(30)
    envs, others = (WorldVectorEnv(MortalWorld.load(tiny_world, batch=N), N, max_episode_steps=LIMIT) for _ in range(2))
    first = play(envs, actions, seed=1)
    play(envs, actions, seed=2)
    assert_same(play(envs, actions, seed=1), first)
    assert_same(play(others, actions, seed=1), first)


def test_games_play_on_torch_too(tiny_world: Path):
    pytest.importorskip("torch")
    envs = WorldVectorEnv(tiny_world, N, backend="torch", max_episode_steps=LIMIT)
    actions = batches(15)
    assert_same(play(envs, actions, seed=1), play(envs, actions, seed=1))


@pytest.mark.parametrize("actions", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_of_action_is_played_in_batches(tmp_path: Path, actions):
    pytest.importorskip("torch")
    build_tiny_world(tmp_path, actions)
    ours = WorldVectorEnv(tmp_path, N, backend="torch")
    theirs = SyncVectorEnv([lambda: WorldEnv(tmp_path, backend="torch")] * N)
    assert ours.single_action_space == theirs.single_action_space and ours.action_space == theirs.action_space
    assert ours.observation_space == theirs.observation_space
    ours.action_space.seed(0)
    each = [ours.action_space.sample() for _ in range(6)]
    for one, other in zip(play(ours, each, seed=0), play(theirs, each, seed=0), strict=True):
        assert np.abs(one[0].astype(int) - other[0]).max() <= 1  # torch takes other kernels for a batch


def test_one_game_is_a_batch_of_one(tiny_world: Path):
    envs = WorldVectorEnv(tiny_world)
    assert envs.num_envs == 1
    assert envs.reset(seed=0)[0].shape == (1, SIDE, SIDE, 3)
    assert envs.step([1])[1].shape == (1,)


# Gymnasium's contract


@pytest.mark.parametrize("mode", MODES)
def test_the_autoreset_mode_is_in_the_metadata_of_the_instance(tiny_world: Path, mode: AutoresetMode):
    before = dict(WorldVectorEnv.metadata)
    for given in (mode, mode.value):
        envs = WorldVectorEnv(tiny_world, N, autoreset_mode=given)
        assert envs.metadata["autoreset_mode"] is mode and envs.metadata["render_fps"] == FPS
    assert WorldVectorEnv.metadata == before


def test_the_next_step_begins_a_new_game_unless_asked_otherwise(tiny_world: Path):
    assert WorldVectorEnv(tiny_world).metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_gymnasium_makes_it_with_one_forward_for_all(tiny_world: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gymnasium.make_vec(WORLD_ID, num_envs=N, world=tiny_world, max_episode_steps=LIMIT, nfe=1)
        loop = gymnasium.make_vec(
            WORLD_ID, num_envs=N, world=tiny_world, max_episode_steps=LIMIT, nfe=1, vectorization_mode="sync"
        )
    assert isinstance(envs, WorldVectorEnv) and envs.world.batch == N and envs.world.nfe == 1
    assert_same(play(envs, batches(20), seed=0), play(loop, batches(20), seed=0))


def test_later_resets_begin_other_games_which_the_first_seed_determines(tiny_world: Path):
    def seeds(first: Any) -> list:
        envs = WorldVectorEnv(tiny_world, N)
        return [envs.reset(seed=first)[1]["seed"].tolist()] + [envs.reset()[1]["seed"].tolist() for _ in range(2)]

    drawn = seeds(5)
    assert drawn == seeds(5) and drawn[0] == [5, 6, 7]
    assert len({seed for each in drawn for seed in each}) == 9
    assert seeds([5, 60, 7])[1][0] == drawn[1][0]  # each game draws for itself
    assert seeds(None) != seeds(None)
    assert seeds([None, 6, None])[0][1] == 6


def test_observations_and_infos_are_the_callers_own(endless: WorldVectorEnv):
    actions = batches(8)
    expected = play(endless, actions, seed=0)
    got = []
    for i in range(len(actions) + 1):
        given = endless.step(actions[i - 1]) if i else endless.reset(seed=0)
        got.append(tuple(part.copy() if isinstance(part, np.ndarray) else dict(part) for part in given))
        got[-1][-1].update({key: value.copy() for key, value in given[-1].items()})
        for array in [part for part in given if isinstance(part, np.ndarray)] + list(given[-1].values()):
            array[...] = 1
    assert_same(got, expected)


def test_a_final_observation_is_the_callers_own(tiny_world: Path):
    envs = WorldVectorEnv(tiny_world, N, autoreset_mode=AutoresetMode.SAME_STEP, max_episode_steps=1)
    envs.reset(seed=0)
    observations, *_, infos = envs.step([0] * N)
    final = infos["final_obs"][1].copy()
    observations[...] = 0
    envs.step([1] * N)
    np.testing.assert_array_equal(infos["final_obs"][1], final)


def test_vector_wrappers_work(tiny_world: Path):
    from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        world = EndlessWorld.load(tiny_world, batch=N)
        envs = RecordEpisodeStatistics(WorldVectorEnv(world, N, autoreset_mode=mode, max_episode_steps=4))
        envs.reset(seed=0)
        given = [envs.step(action) for action in batches(4)]
        assert given[-1][-1]["episode"]["l"].tolist() == [4] * N
        np.testing.assert_allclose(given[-1][-1]["episode"]["r"], sum(each[1] for each in given))
    infos = DictInfoToList(WorldVectorEnv(tiny_world, N)).reset(seed=2)[1]
    assert infos == [{"step": 0, "seed": 2 + i} for i in range(N)]


def test_a_torch_policy_is_served(endless: WorldVectorEnv):
    torch = pytest.importorskip("torch")
    pytest.importorskip("array_api_compat", reason="gymnasium's NumpyToTorch needs array-api-compat")
    from gymnasium.wrappers.vector import NumpyToTorch

    actions = batches(5)
    expected = frames_of(play(endless, actions, seed=0))
    given = play(NumpyToTorch(endless, device="cpu"), torch.from_numpy(actions), seed=0)
    np.testing.assert_array_equal(torch.stack([each[0] for each in given]).numpy(), expected)


def test_pictures_of_all_games_are_rendered(tiny_world: Path):
    envs = WorldVectorEnv(tiny_world, N, render_mode="rgb_array")
    observations, _ = envs.reset(seed=0)
    np.testing.assert_array_equal(np.stack(envs.render()), observations)
    assert WorldVectorEnv(tiny_world, N).render_mode is None


# Starts and masks


def test_every_game_can_have_its_own_start(tiny_world: Path, endless: WorldVectorEnv):
    clips = np.random.default_rng(0).integers(0, 256, (N, 4, SIDE, SIDE, 3), dtype=np.uint8)
    actions = batches(4)
    for starts in ([2, 0, 1], list(clips), list(clips[:, 0]), clips):
        frames = frames_of(play(endless, actions, seed=4, options={"start": starts}))
        for i in range(N):
            single = WorldEnv(EndlessWorld.load(tiny_world))
            alone = [single.reset(seed=4 + i, options={"start": starts[i]})[0]]
            alone += [single.step(action)[0] for action in actions[:, i]]
            np.testing.assert_array_equal(frames[:, i], np.stack(alone))


def test_one_start_is_for_all_games(endless: WorldVectorEnv):
    clip = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    for start in (1, clip[0], clip):
        observations, _ = endless.reset(seed=0, options={"start": start})
        assert len({observation.tobytes() for observation in observations}) == 1


def test_a_masked_reset_leaves_the_other_games_alone(endless: WorldVectorEnv):
    actions = batches(10)
    undisturbed = frames_of(play(endless, actions, seed=0))
    play(endless, actions[:4], seed=0)
    mask = np.array([False, True, False])
    options = {"reset_mask": mask, "start": 1}
    observations, infos = endless.reset(seed=[90, 77, 91], options=options)
    assert options == {"reset_mask": mask, "start": 1}
    assert infos["_step"].tolist() == infos["_seed"].tolist() == mask.tolist()
    assert infos["seed"].tolist() == [0, 77, 0]
    np.testing.assert_array_equal(observations[[0, 2]], undisturbed[4][[0, 2]])
    after = frames_of([endless.step(action) for action in actions[4:]])
    np.testing.assert_array_equal(after[:, [0, 2]], undisturbed[5:, [0, 2]])
    fresh = frames_of(play(endless, actions[4:], seed=[1, 77, 2], options={"start": 1}))
    np.testing.assert_array_equal(after[:, 1], fresh[1:, 1])
    np.testing.assert_array_equal(observations[1], fresh[0, 1])


# Snapshots


def test_restored_games_go_on_as_they_went(tiny_world: Path):
    envs = WorldVectorEnv(MortalWorld.load(tiny_world, batch=N), N, max_episode_steps=LIMIT)
    actions, compared = batches(4), 0
    for seed in range(6):
        play(envs, actions[:2], seed=seed)
        state = envs.snapshot()
        first = [envs.step(action) for action in actions[2:]]
        envs.reset(seed=9)
        np.testing.assert_array_equal(envs.restore(state), state.world.image)
        restored = [envs.step(action) for action in actions[2:]]
        for one, other in zip(restored, first, strict=True):
            for i in np.flatnonzero(one[-1]["seed"] == other[-1]["seed"]):  # those that began in between are drawn anew
                assert_same([part[i] for part in one[:-1]], [part[i] for part in other[:-1]])
                compared += 1
    assert compared > 6


def test_one_game_of_a_snapshot_plays_alone_and_in_any_slot(tiny_world: Path, endless: WorldVectorEnv):
    actions = batches(6)
    play(endless, batches(5), seed=0)
    state = endless.snapshot()
    expected = frames_of([endless.step(action) for action in actions])
    single = WorldEnv(EndlessWorld.load(tiny_world))
    single.restore(state[1])
    np.testing.assert_array_equal(np.stack([single.step(a)[0] for a in actions[:, 1]]), expected[:, 1])

    play(endless, batches(3), seed=50)
    before = endless.snapshot()
    observations = endless.restore(state[1], mask=np.array([True, False, False]))
    np.testing.assert_array_equal(observations[0], state.world.image[1])
    np.testing.assert_array_equal(observations[1:], before.world.image[1:])
    moved = np.roll(actions, -1, axis=1)  # game 0 plays what game 1 played
    np.testing.assert_array_equal(frames_of([endless.step(a) for a in moved])[:, 0], expected[:, 1])

    endless.restore(state[1])  # all of them
    together = frames_of([endless.step([a] * N) for a in actions[:, 1]])
    for i in range(N):
        np.testing.assert_array_equal(together[:, i], expected[:, 1])
    with pytest.raises(IndexError, match="3 games.*no game 3"):
        state[3]
    with pytest.raises(gymnasium.error.Error, match=r"a mask is \(3,\) bool, got int64"):
        endless.restore(state, mask=np.array([0, 2, 1]))


def test_a_new_episode_can_begin_from_a_snapshot(endless: WorldVectorEnv):
    play(endless, batches(5), seed=0)
    state = endless.snapshot()
    endless.reset(seed=30)
    before = endless.snapshot()
    mask = np.array([True, False, True])
    observations, infos = endless.reset(options={"state": state, "reset_mask": mask})
    np.testing.assert_array_equal(observations[mask], state.world.image[mask])
    np.testing.assert_array_equal(observations[~mask], before.world.image[~mask])
    assert infos["seed"].tolist() == [0, 0, 2] and infos["_seed"].tolist() == mask.tolist()
    assert endless.step([0] * N)[-1]["step"].tolist() == [1, 1, 1]


# Bad input


@pytest.mark.parametrize(
    "actions, said",
    [
        ([0, 9, 1], r"game 1: action 9 is out of range; expected discrete 0\.\.4; no game was stepped"),
        ([0, 1, -1], "game 2: action -1"),
        (np.array([0.5, 1, 1]), "game 0: action .*0.5.* is not an integer"),
        ([0, 1], "3 games take an action each"),
        ([0, 1, 2, 3], "3 games take an action each"),
        (1, "3 games take an action each, got 1"),
        (None, "3 games take an action each"),
        ([[0], [1], [2]], "game 0: action .*shape"),
        ([0, [1], 2], "game 1: action"),
        (["left", "left", "left"], "game 0: action 'left' is not a number"),
        ([0, np.nan, 1], "game 1: action nan"),
    ],
    ids=repr,
)
def test_a_wrong_action_in_one_game_stops_all_before_any_is_stepped(endless: WorldVectorEnv, actions, said: str):
    played = batches(8)
    expected = frames_of(play(endless, played, seed=0))
    play(endless, played[:3], seed=0)
    with pytest.raises(gymnasium.error.InvalidAction, match=said):
        endless.step(actions)
    given = [endless.step(action) for action in played[3:]]
    np.testing.assert_array_equal(frames_of(given), expected[4:])
    assert given[-1][-1]["step"].tolist() == [8] * N


def test_a_box_action_outside_its_bounds_names_the_game(tmp_path: Path):
    pytest.importorskip("torch")
    build_tiny_world(tmp_path, KINDS[3])
    envs = WorldVectorEnv(tmp_path, 2, backend="torch")
    envs.reset(seed=0)
    envs.step(np.array([[1.0, -1.0], [0.0, 0.0]]))
    with pytest.raises(gymnasium.error.InvalidAction, match=r"game 1: .*outside \[-1.0, -1.0\] \.\. \[1.0, 1.0\]"):
        envs.step(np.array([[1.0, -1.0], [0.0, 1.5]]))


@pytest.mark.parametrize(
    "reset, said",
    [
        ({"seed": [1, 2]}, "2 seeds for 3 games"),
        ({"seed": -1}, "seed is between"),
        ({"seed": 2**63 - 1}, "seed is between"),
        ({"seed": [1, 2, 2**63]}, "seed is between"),
        ({"seed": 2.0}, "a seed is an integer"),
        ({"options": {"reset_mask": [True]}}, r"reset_mask is \(3,\) bool, got bool \(1,\)"),
        ({"options": {"reset_mask": np.ones(N)}}, r"reset_mask is \(3,\) bool, got float64"),
        ({"options": {"reset_mask": np.zeros(N, bool)}}, "chooses no game"),
        ({"options": {"start": [0, 1]}}, "2 starts for 3 games"),
        ({"options": {"start": [0, 1, 3]}}, r"start 3 .*0\.\.2"),
        ({"options": {"start": [np.zeros((SIDE, SIDE, 3), np.uint8), 0, 0]}}, "differ in shape"),
        ({"options": {"start": np.zeros((2, 4, SIDE, SIDE, 3), np.uint8)}}, "2 starts for 3"),
        ({"options": {"start": ["random", 1, 2]}}, "'random' is for all"),
        ({"options": {"strat": 0}}, "strat.*reset_mask"),
    ],
    ids=repr,
)
def test_a_wrong_reset_is_refused_and_the_games_go_on(endless: WorldVectorEnv, reset: dict, said: str):
    played = batches(6)
    expected = frames_of(play(endless, played, seed=0))
    play(endless, played[:3], seed=0)
    with pytest.raises(gymnasium.error.Error, match=said):
        endless.reset(**reset)
    np.testing.assert_array_equal(frames_of([endless.step(action) for action in played[3:]]), expected[4:])


def test_stepping_before_a_reset_says_what_to_do(tiny_world: Path):
    envs = WorldVectorEnv(tiny_world, N, render_mode="rgb_array")
    part = {"reset_mask": np.array([True, False, False])}
    for call in (
        lambda: envs.step([0] * N),
        envs.render,
        envs.snapshot,
        lambda: envs.reset(seed=0, options=part),
    ):
        with pytest.raises(gymnasium.error.ResetNeeded, match=r"reset\(\)"):
            call()


def test_a_snapshot_of_another_number_of_games_or_another_world_is_refused(tiny_world: Path, tmp_path: Path):
    pytest.importorskip("torch")
    two, three = WorldVectorEnv(tiny_world, 2), WorldVectorEnv(tiny_world, 3)
    build_tiny_world(tmp_path, seed=1)
    other = WorldVectorEnv(tmp_path, 3, backend="torch")
    for envs in (two, three, other):
        envs.reset(seed=0)
    for state, said in ((two.snapshot(), "holds 2 games.* 3"), (other.snapshot(), "belongs to world")):
        for call in (three.restore, lambda state: three.reset(options={"state": state})):
            with pytest.raises(gymnasium.error.Error, match=said):
                call(state)


def test_wrong_arguments_are_refused(tiny_world: Path):
    wrong = [
        ({"num_envs": 0}, "num_envs.*0"),
        ({"num_envs": -2}, "num_envs.*-2"),
        ({"autoreset_mode": "later"}, "later.*'NextStep', 'SameStep', 'Disabled'"),
        ({"render_mode": "human"}, "human.*rgb_array"),
        ({"max_episode_steps": -1}, "max_episode_steps.*-1"),
        ({"include_sound": True}, "silent"),
        ({"world": World.load(tiny_world)}, "WorldVectorEnv plays 3 games.*batch=3.*batch=None"),
        ({"world": World.load(tiny_world, batch=2)}, "batch=2"),
    ]
    for arguments, said in wrong:
        for kind in (gymnasium.error.Error, InputError):
            with pytest.raises(kind, match=said):
                WorldVectorEnv(**{"world": tiny_world, "num_envs": N, **arguments})
    with pytest.raises(gymnasium.error.Error, match="num_envs is at least 1, got 0"):
        gymnasium.make_vec(WORLD_ID, num_envs=0, world=tiny_world)


def test_a_world_without_heads_says_so(tiny_world: Path):
    world = headless(tiny_world, has_reward=False)
    world.batch = 1
    with pytest.warns(UserWarning, match="no trained reward head"):
        WorldVectorEnv(world, 1)


# Cost


def test_a_masked_reset_runs_only_the_games_that_begin(tiny_world: Path, monkeypatch: pytest.MonkeyPatch):
    """Ends come at any time: a reset of one game among many must not cost a prompt of them all."""
    envs = WorldVectorEnv(EndlessWorld.load(tiny_world, batch=8), 8)
    envs.reset(seed=0)
    backend = envs.world._backend
    sizes = []
    run = backend.run

    def counted(graph: str, inputs: dict) -> dict:
        sizes.append(len(backend.numpy(next(iter(inputs.values())))))
        return run(graph, inputs)

    monkeypatch.setattr(backend, "run", counted)
    envs.reset(options={"reset_mask": np.arange(8) == 3})
    assert set(sizes) == {1}


def test_memory_does_not_grow_with_steps_and_resets(tiny_world: Path):
    envs = WorldVectorEnv(tiny_world, N, max_episode_steps=LIMIT, autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=0)
    sizes = []
    tracemalloc.start()
    for i, action in enumerate(batches(500)):
        envs.step(action)
        if i in (200, 499):
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[1] - sizes[0] < 300 * SIDE * SIDE * 3 / 3  # a third of a frame for each step between them
