"""WorldEnv: a generated game as a Gymnasium environment."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from conftest import CHANNELS as LOUD_CHANNELS
from conftest import FPS, SIDE, TOY_ACTIONS, build_tiny_world
from conftest import SAMPLES as LOUD_SAMPLES
from env_worlds import SAMPLES, EndlessWorld, MortalWorld, SoundingWorld, headless
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FrameStackObservation, RecordEpisodeStatistics, TimeLimit

from worldgen.actions import ActionMap
from worldgen.envs import EnvState, WorldEnv, WorldVectorEnv
from worldgen.errors import InputError
from worldgen.world import World

pytest.importorskip("onnxruntime")

WORLD_ID = "worldgen.envs:worldgen/World-v0"
ACTIONS = [1, 1, 4, 0, 2, 3, 3, 1, 0, 4]
KINDS = [
    TOY_ACTIONS,
    ActionMap("multi_discrete", (3, 2)),
    ActionMap("multi_binary", (2, 2, 2)),
    ActionMap("box", (0, 0), low=(-1.0, -1.0), high=(1.0, 1.0)),
]
SPACES = [
    spaces.Discrete(5),
    spaces.MultiDiscrete([3, 2]),
    spaces.MultiBinary(3),
    spaces.Box(-1, 1, (2,), np.float32),
]


@pytest.fixture
def env(tiny_world: Path) -> WorldEnv:
    """Games end now and then."""
    return WorldEnv(MortalWorld.load(tiny_world))


@pytest.fixture
def endless(tiny_world: Path) -> WorldEnv:
    return WorldEnv(EndlessWorld.load(tiny_world))


@pytest.fixture(scope="module", params=range(4), ids=[kind.kind for kind in KINDS])
def of_each_kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A world's folder (torch, no export) and the space of its actions."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("kind")
    build_tiny_world(folder, KINDS[request.param])
    return folder, SPACES[request.param]


@pytest.fixture
def no_warnings(monkeypatch: pytest.MonkeyPatch):
    """Every warning is an error. No screen is needed."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def play(env: gymnasium.Env, actions: list, **reset) -> list[tuple]:
    """All that a game gives, the reset included; begins a new one where it ends."""
    given: list[tuple] = [env.reset(**reset)]
    for action in actions:
        given.append(env.step(action))
        if given[-1][2] or given[-1][3]:
            given.append(env.reset())
    return given


def play_on(env: gymnasium.Env) -> list[tuple]:
    """To the end of the episode."""
    given = [env.step(0)]
    while not (given[-1][2] or given[-1][3]):
        given.append(env.step(len(given) % 5))
    return given


def assert_same(got: list[tuple], expected: list[tuple]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:] == other[1:]


def frames_of(given: list[tuple]) -> np.ndarray:
    return np.stack([each[0] for each in given])


# Gymnasium's contract


def test_gymnasium_finds_nothing_to_say(tiny_world: Path, no_warnings: None):
    """A spec lets the checker also open a window and compare seeds."""
    check_env(gymnasium.make(WORLD_ID, world=str(tiny_world)).unwrapped)


def test_gymnasium_finds_nothing_to_say_about_any_kind_of_action(of_each_kind, no_warnings: None):
    folder, space = of_each_kind
    env = gymnasium.make(WORLD_ID, world=folder, backend="torch", render_mode="rgb_array").unwrapped
    assert env.action_space == space
    check_env(env)


def test_stable_baselines3_finds_nothing_to_say(tmp_path: Path, no_warnings: None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checker = pytest.importorskip("stable_baselines3.common.env_checker", reason="stable-baselines3 is missing")
    build_tiny_world(tmp_path, side=40)  # it wants images of 36 pixels at least
    checker.check_env(WorldEnv(tmp_path, backend="torch", render_mode="rgb_array"), skip_render_check=False)


def test_making_an_environment_changes_nothing_that_others_share(tiny_world: Path):
    before = dict(WorldEnv.metadata)
    env = WorldEnv(tiny_world, render_mode="rgb_array")
    assert env.metadata["render_fps"] == FPS
    assert WorldEnv.metadata == before and "render_fps" not in before


def test_observations_are_the_worlds_frames(env: WorldEnv, tiny_world: Path):
    world = MortalWorld.load(tiny_world)
    observation, _ = env.reset(seed=3)
    np.testing.assert_array_equal(observation, world.reset(3).image)
    for action in ACTIONS * 5:
        observation, reward, terminated, truncated, _ = env.step(action)
        frame = world.step(action)
        np.testing.assert_array_equal(observation, frame.image)
        assert (reward, terminated, truncated) == (frame.reward, frame.terminated, False)
        assert type(reward) is float and type(terminated) is bool and type(truncated) is bool
        if terminated:
            return
    pytest.fail("the game did not end")


def test_nfe_and_backend_are_the_worlds(tiny_world: Path):
    pytest.importorskip("torch")
    env = WorldEnv(tiny_world, nfe=4, backend="torch")
    assert env.world.nfe == 4 and env.world.backend_name == "torch"
    assert WorldEnv(World.load(tiny_world), nfe=1).world.nfe == 1


def test_observations_are_the_callers_own(endless: WorldEnv):
    expected = frames_of(play(endless, ACTIONS, seed=0))
    got = []
    for each in [endless.reset(seed=0)] + [endless.step(action) for action in ACTIONS]:
        got.append(each[0].copy())
        each[0][...] = 0
    np.testing.assert_array_equal(np.stack(got), expected)


def test_earlier_observations_stay_as_they_were(endless: WorldEnv):
    kept = [observation for observation, *_ in play(endless, ACTIONS, seed=0)]
    copies = [observation.copy() for observation in kept]
    play(endless, ACTIONS[::-1], seed=1)
    for observation, copied in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(observation, copied)


def test_info_tells_the_step_and_the_seed(endless: WorldEnv):
    infos = [each[-1] for each in play(endless, ACTIONS[:3], seed=7)]
    assert [0 < info.pop("end_probability") < 1 for info in infos[1:]] == 3 * [True]
    assert infos == [{"step": i, "seed": 7} for i in range(4)]


# Seeds


def test_the_same_seed_gives_the_same_games_bit_for_bit(tiny_world: Path, env: WorldEnv):
    first = play(env, ACTIONS * 3, seed=5)
    assert len(first) > 3 * len(ACTIONS) + 1  # games ended, and new ones were drawn
    play(env, ACTIONS, seed=8)
    assert_same(play(env, ACTIONS * 3, seed=5), first)
    assert_same(play(WorldEnv(MortalWorld.load(tiny_world)), ACTIONS * 3, seed=5), first)


def test_a_seed_matters(endless: WorldEnv):
    one = frames_of(play(endless, ACTIONS, seed=0, options={"start": 0}))
    other = frames_of(play(endless, ACTIONS, seed=1, options={"start": 0}))
    assert (one[1:] != other[1:]).any()


def test_later_resets_begin_other_games_which_the_first_seed_determines(env: WorldEnv):
    def seeds() -> list[int]:
        return [env.reset(seed=11)[1]["seed"]] + [env.reset()[1]["seed"] for _ in range(4)]

    assert seeds() == seeds()
    assert seeds()[0] == 11 and len(set(seeds())) == 5


def test_environments_without_a_seed_differ(tiny_world: Path):
    assert WorldEnv(tiny_world).reset()[1]["seed"] != WorldEnv(tiny_world).reset()[1]["seed"]


def test_the_seed_in_info_replays_the_game_in_a_world(endless: WorldEnv, tiny_world: Path):
    endless.reset(seed=2)
    given = play(endless, ACTIONS)
    world = World.load(tiny_world)
    frames = [world.reset(given[0][1]["seed"]).image] + [world.step(action).image for action in ACTIONS]
    np.testing.assert_array_equal(frames_of(given), np.stack(frames))


# Starts


def test_a_game_begins_from_an_index_an_image_or_a_clip(endless: WorldEnv, tiny_world: Path):
    world = World.load(tiny_world)
    clip = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    for start in (0, 2, np.int64(1), clip[0], clip):
        expected = [world.reset(9, start=start).image] + [world.step(action).image for action in ACTIONS]
        np.testing.assert_array_equal(frames_of(play(endless, ACTIONS, seed=9, options={"start": start})), expected)


def test_a_random_start_is_what_a_reset_without_options_draws(env: WorldEnv):
    firsts = [env.reset(seed=i)[0] for i in range(12)]
    again = [env.reset(seed=i, options={"start": "random"})[0] for i in range(12)]
    np.testing.assert_array_equal(firsts, again)
    assert len({first.tobytes() for first in firsts}) == 3


def test_the_actions_of_a_clip_reach_the_world(endless: WorldEnv):
    clip = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    given = [
        frames_of(play(endless, ACTIONS[:3], seed=0, options={"start": clip, "start_actions": actions}))
        for actions in ([1, 2], [3, 4], [1, 2])
    ]
    np.testing.assert_array_equal(given[0], given[2])
    assert (given[0][1:] != given[1][1:]).any()


def test_options_are_left_as_they_were(env: WorldEnv):
    options = {"start": 1}
    env.reset(seed=0, options=options)
    assert options == {"start": 1}


# Snapshots


def test_a_restored_game_goes_on_as_it_went(env: WorldEnv):
    play(env, ACTIONS[:4], seed=1)
    state = env.snapshot()
    first = play_on(env)
    assert first[-1][2]
    for _ in range(2):
        env.reset()
        np.testing.assert_array_equal(env.restore(state), state.world.image[0])
        assert_same(play_on(env), first)


def test_an_end_and_the_steps_of_an_episode_are_restored(tiny_world: Path):
    env = WorldEnv(EndlessWorld.load(tiny_world), max_episode_steps=4)
    env.reset(seed=0)
    env.step(0)
    early = env.snapshot()
    truncations = [env.step(0)[3] for _ in range(3)]
    assert truncations == [False, False, True]
    over = env.snapshot()
    env.restore(early)
    assert [env.step(0)[3] for _ in range(3)] == truncations
    env.reset()
    env.restore(over)
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"over.*reset\(\)"):
        env.step(0)


def test_a_new_episode_can_begin_from_a_snapshot(endless: WorldEnv, tiny_world: Path):
    play(endless, ACTIONS[:4], seed=6)
    state = endless.snapshot()
    expected = frames_of([endless.step(action) for action in ACTIONS])
    for given_state in (state, state.world):  # an environment's or a World's
        observation, info = endless.reset(options={"state": given_state})
        np.testing.assert_array_equal(observation, state.world.image[0])
        assert info == {"step": 0, "seed": 6}
        np.testing.assert_array_equal(frames_of([endless.step(action) for action in ACTIONS]), expected)
    fresh = WorldEnv(EndlessWorld.load(tiny_world))
    assert isinstance(state, EnvState)
    np.testing.assert_array_equal(fresh.restore(state), state.world.image[0])
    np.testing.assert_array_equal(frames_of([fresh.step(action) for action in ACTIONS]), expected)


def test_one_snapshot_has_as_many_futures_as_seeds(endless: WorldEnv, tiny_world: Path):
    play(endless, ACTIONS[:4], seed=6)
    state = endless.snapshot()
    futures = {}
    for seed in (6, 7, np.int64(8)):
        observation, info = endless.reset(seed=seed, options={"state": state})
        np.testing.assert_array_equal(observation, state.world.image[0])
        assert info == {"step": 0, "seed": int(seed)}
        futures[int(seed)] = frames_of([endless.step(action) for action in ACTIONS])
    endless.restore(state)
    np.testing.assert_array_equal(futures[6], frames_of([endless.step(action) for action in ACTIONS]))
    assert not np.array_equal(futures[6], futures[7])
    for seed in (2**63, 2**70):
        with pytest.raises(gymnasium.error.Error, match="a seed is between"):
            endless.reset(seed=seed, options={"state": state})
    envs = WorldVectorEnv(EndlessWorld.load(tiny_world, batch=3), 3)
    _, infos = envs.reset(seed=[7, None, 8], options={"state": state})
    assert infos["seed"].tolist() == [7, 6, 8]
    beside = np.stack([envs.step(np.full(3, action))[0] for action in ACTIONS], axis=1)
    for game, seed in zip(beside, (7, 6, 8), strict=True):
        np.testing.assert_array_equal(game, futures[seed])


def test_a_copy_says_what_to_do_instead(env: WorldEnv):
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(InputError, match=r"snapshot\(\) and restore\(\)"):
            copied(env)


def test_a_snapshot_is_not_changed_by_what_comes_after(endless: WorldEnv):
    play(endless, ACTIONS[:3], seed=0)
    state = endless.snapshot()
    copies = state.world.cache.copy(), state.world.image.copy(), state.num_steps.copy()
    play(endless, ACTIONS, seed=1)
    for array, copied in zip((state.world.cache, state.world.image, state.num_steps), copies, strict=True):
        np.testing.assert_array_equal(array, copied)


def test_a_snapshot_of_another_world_is_refused(env: WorldEnv, tmp_path: Path):
    pytest.importorskip("torch")
    build_tiny_world(tmp_path, seed=1)
    other = WorldEnv(tmp_path, backend="torch")
    other.reset(seed=0)
    env.reset(seed=0)
    for call in (lambda s: env.restore(s), lambda s: env.reset(options={"state": s})):
        with pytest.raises(gymnasium.error.Error, match="belongs to world"):
            call(other.snapshot())
    with pytest.raises(gymnasium.error.Error, match="snapshot"):
        env.restore({"state": 1})


# Ends


def test_an_episode_is_truncated_after_so_many_steps(tiny_world: Path):
    env = WorldEnv(EndlessWorld.load(tiny_world), max_episode_steps=3)
    for _ in range(2):
        env.reset(seed=0)
        assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_truncation_is_gymnasiums_time_limit(tiny_world: Path):
    def world() -> World:
        return MortalWorld.load(tiny_world)

    own = play(WorldEnv(world(), max_episode_steps=3), ACTIONS * 3, seed=0)
    assert any(each[3] for each in own if len(each) == 5) and any(each[2] for each in own if len(each) == 5)
    assert_same(play(TimeLimit(WorldEnv(world()), 3), ACTIONS * 3, seed=0), own)
    made = gymnasium.make(WORLD_ID, world=world(), max_episode_steps=3)
    assert_same(play(made, ACTIONS * 3, seed=0), own)


def test_stepping_before_a_reset_or_after_an_end_says_what_to_do(tiny_world: Path):
    env = WorldEnv(EndlessWorld.load(tiny_world), max_episode_steps=1, render_mode="rgb_array")
    for call in (lambda: env.step(0), env.render, env.snapshot):
        with pytest.raises(gymnasium.error.ResetNeeded, match=r"reset\(\)"):
            call()
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"over.*reset\(\)"):
        env.step(0)
    env.reset()
    env.step(0)


def test_an_environment_can_be_closed_twice_and_played_again(tiny_world: Path, monkeypatch: pytest.MonkeyPatch):
    """Stable-baselines3's checker resets what it has closed."""
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = WorldEnv(tiny_world, render_mode="human")
    expected = env.reset(seed=0)[0]
    env.close()
    env.close()
    np.testing.assert_array_equal(env.reset(seed=0)[0], expected)
    env.close()


# Bad input


@pytest.mark.parametrize("action", [5, -1, 1.5, [1], np.zeros(2, int), "left", None, float("nan")], ids=repr)
def test_a_wrong_action_is_refused_and_the_game_goes_on(endless: WorldEnv, action: object):
    expected = play(endless, ACTIONS, seed=0)
    play(endless, ACTIONS[:3], seed=0)
    with pytest.raises(gymnasium.error.InvalidAction, match=r"action .*discrete 0\.\.4"):
        endless.step(action)
    assert_same([endless.step(action) for action in ACTIONS[3:]], expected[4:])


def test_actions_of_every_integer_type_are_taken(endless: WorldEnv):
    expected = play(endless, [1, 2], seed=0)
    for kind in (np.int64, np.uint8, np.float32, np.array):
        assert_same(play(endless, [kind(1), kind(2)], seed=0), expected)


def test_a_box_takes_what_its_space_holds_and_nothing_beyond(tmp_path: Path):
    pytest.importorskip("torch")
    build_tiny_world(tmp_path, ActionMap("box", (0, 0), low=(-0.1, 0.0), high=(0.1, 3.3)))
    env = WorldEnv(tmp_path, backend="torch")
    env.reset(seed=0)
    edges = [env.action_space.low, env.action_space.high, env.action_space.high.astype(np.float64), [0, 1]]
    for action in edges:
        env.step(action)
        env.reset()
    for wrong in ([0.2, 0.0], [0.0, -1e-3], [np.inf, 0.0], [0.0]):
        with pytest.raises(gymnasium.error.InvalidAction, match="action"):
            env.step(wrong)
    with pytest.raises(gymnasium.error.InvalidAction, match="ClipAction"):
        env.step([0.2, 0.0])


def test_the_sound_of_a_clip_reaches_the_world(loud_world: Path):
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (2, 3, SIDE, SIDE, 3), dtype=np.uint8)
    sounds = rng.uniform(-0.5, 0.5, (2, 3, LOUD_SAMPLES, LOUD_CHANNELS)).astype(np.float32)
    env = WorldEnv(loud_world, include_sound=True)
    envs = WorldVectorEnv(loud_world, 2, include_sound=True)
    heard = {}
    for known in (True, False):
        options = {"start": clips[0], **({"start_sound": sounds[0]} if known else {})}
        env.reset(seed=1, options=options)
        heard[known] = env.step(1)[-1]["sound"]
        options = {"start": clips, **({"start_sound": sounds} if known else {})}
        envs.reset(seed=[1, 2], options=options)
        beside = envs.step(np.array([1, 1]))[-1]["sound"]
        np.testing.assert_allclose(beside[0], heard[known], atol=1e-5)
    assert not np.array_equal(heard[True], heard[False])
    state = env.snapshot()
    with pytest.raises(gymnasium.error.Error, match="from a start or from a state"):
        env.reset(options={"start_sound": sounds[0], "state": state})
    with pytest.raises(gymnasium.error.Error, match="belong to a prompt"):
        env.reset(options={"start_sound": sounds[0]})


@pytest.mark.parametrize(
    "options, said",
    [
        ({"strat": 1}, "strat.*start, start_actions, start_sound, state"),
        ({"reset_mask": np.ones(1, bool)}, "reset_mask"),
        ({"start": 3}, r"start 3 .*0\.\.2"),
        ({"start": "first"}, "'first'.*'random'"),
        ({"start": [0, 1]}, "start"),
        ({"start": np.zeros((SIDE, SIDE + 1, 3), np.uint8)}, rf"start.*\({SIDE}, {SIDE}, 3\)"),
        ({"start": np.zeros((SIDE, SIDE, 3))}, "start.*uint8"),
        ({"state": {"step": 3}}, "snapshot"),
        ("start", "options is a dict, got str"),
        ({"start_sound": np.zeros((1, 4, 1))}, "include_sound=True"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_wrong_options_are_refused_and_the_game_goes_on(endless: WorldEnv, options: dict, said: str):
    expected = play(endless, ACTIONS, seed=0)
    play(endless, ACTIONS[:3], seed=0)
    with pytest.raises(gymnasium.error.Error, match=said):
        endless.reset(options=options)
    assert_same([endless.step(action) for action in ACTIONS[3:]], expected[4:])


def test_a_start_and_a_state_at_once_are_refused(env: WorldEnv):
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.Error, match="not from both"):
        env.reset(options={"start": 1, "state": env.snapshot()})


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5])
def test_a_wrong_seed_is_refused(env: WorldEnv, seed: object):
    with pytest.raises(gymnasium.error.Error, match="[Ss]eed"):
        env.reset(seed=seed)  # type: ignore[arg-type]


def test_wrong_arguments_are_refused(tiny_world: Path):
    wrong = [
        ({"render_mode": "ansi"}, "ansi.*rgb_array"),
        ({"max_episode_steps": 0}, "max_episode_steps.*0"),
        ({"nfe": 3}, "nfe.*3"),
        ({"include_sound": True}, "silent"),
        ({"world": "no such world"}, "no such world"),
        ({"world": World.load(tiny_world, batch=2)}, "WorldEnv plays one game.*batch=2"),
        ({"world": World.load(tiny_world), "backend": "torch"}, "backend"),
    ]
    for arguments, said in wrong:
        with pytest.raises(gymnasium.error.Error, match=said):
            WorldEnv(**{"world": tiny_world, **arguments})
        with pytest.raises(InputError, match=said):
            WorldEnv(**{"world": tiny_world, **arguments})


def test_a_world_without_heads_says_so(tiny_world: Path):
    with pytest.warns(UserWarning, match="'tiny' has no trained reward or terminated head: every reward is 0"):
        WorldEnv(headless(tiny_world, has_reward=False, has_terminated=False))
    with pytest.warns(UserWarning, match="no trained terminated head: no episode terminates"):
        WorldEnv(headless(tiny_world, has_terminated=False))


# Sound and rendering


def test_sound_is_in_info_on_request_and_belongs_to_the_step(tiny_world: Path):
    env = WorldEnv(SoundingWorld.load(tiny_world), include_sound=True)
    _, info = env.reset(seed=0)
    assert "sound" not in info
    observation, *_, info = env.step(1)
    assert info["sound"].shape == (SAMPLES, 1) and info["sound"].dtype == np.float32
    np.testing.assert_allclose(info["sound"], observation.mean() / 255, rtol=1e-5)
    quiet = WorldEnv(SoundingWorld.load(tiny_world))
    quiet.reset(seed=0)
    assert "sound" not in quiet.step(1)[-1]


def test_the_rendered_picture_is_the_observation(tiny_world: Path):
    env = WorldEnv(tiny_world, render_mode="rgb_array")
    for call in (lambda: env.reset(seed=0), lambda: env.step(1)):
        observation = call()[0]
        picture = env.render()
        np.testing.assert_array_equal(picture, observation)
        picture[...] = 0
        np.testing.assert_array_equal(env.render(), observation)


def test_without_a_render_mode_nothing_is_rendered(env: WorldEnv):
    env.reset(seed=0)
    assert env.render() is None


def test_the_one_window_is_of_one_environment(tiny_world: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    one, other = (WorldEnv(EndlessWorld.load(tiny_world), render_mode="human") for _ in range(2))
    one.reset(seed=0)
    with pytest.raises(gymnasium.error.Error, match=r"close\(\) it first"):
        other.reset(seed=0)
    one.step(0)
    one.close()
    other.reset(seed=0)
    other.close()


def test_a_person_sees_every_frame(tiny_world: Path, monkeypatch: pytest.MonkeyPatch):
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = WorldEnv(EndlessWorld.load(tiny_world), render_mode="human")
    for call in (lambda: env.reset(seed=0), lambda: env.step(1), lambda: env.step(2)):
        observation = call()[0]
        assert env.render() is None
        screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        scale = screen.shape[0] // SIDE
        np.testing.assert_array_equal(screen[::scale, ::scale], observation)
    env.close()
    assert pygame.display.get_surface() is None


def test_without_a_screen_the_window_names_the_way_out(tiny_world: Path, monkeypatch: pytest.MonkeyPatch):
    pygame = pytest.importorskip("pygame")
    pygame.display.quit()
    monkeypatch.setenv("SDL_VIDEODRIVER", "none such")
    env = WorldEnv(tiny_world, render_mode="human")
    with pytest.raises(gymnasium.error.Error, match="no window.*rgb_array"):
        env.reset(seed=0)


# Gymnasium's wrappers


def test_frames_can_be_stacked(endless: WorldEnv):
    frames = frames_of(play(endless, ACTIONS, seed=0))
    stacked = FrameStackObservation(endless, 3)
    assert stacked.observation_space.shape == (3, SIDE, SIDE, 3)
    np.testing.assert_array_equal(play(stacked, ACTIONS, seed=0)[-1][0], frames[-3:])


def test_returns_can_be_recorded(tiny_world: Path):
    env = RecordEpisodeStatistics(WorldEnv(EndlessWorld.load(tiny_world), max_episode_steps=4))
    env.reset(seed=0)
    given = [env.step(0) for _ in range(4)]
    assert given[-1][-1]["episode"]["l"] == 4
    assert given[-1][-1]["episode"]["r"] == pytest.approx(sum(each[1] for each in given))


def test_a_torch_policy_is_served(endless: WorldEnv):
    torch = pytest.importorskip("torch")
    pytest.importorskip("array_api_compat", reason="gymnasium's NumpyToTorch needs array-api-compat")
    from gymnasium.wrappers import NumpyToTorch

    expected = frames_of(play(endless, ACTIONS, seed=0))
    given = play(NumpyToTorch(endless, device="cpu"), [torch.tensor(a) for a in ACTIONS], seed=0)
    assert given[0][0].dtype == torch.uint8
    np.testing.assert_array_equal(np.stack([each[0].numpy() for each in given]), expected)


@pytest.mark.skipif(not importlib.util.find_spec("moviepy"), reason="moviepy is not installed")
def test_a_game_can_be_filmed(tiny_world: Path, tmp_path: Path):
    from gymnasium.wrappers import RecordVideo

    env = WorldEnv(EndlessWorld.load(tiny_world), render_mode="rgb_array", max_episode_steps=5)
    filmed = RecordVideo(env, str(tmp_path), episode_trigger=lambda i: True, disable_logger=True)
    filmed.reset(seed=0)
    for _ in range(5):
        filmed.step(0)
    filmed.close()
    assert list(tmp_path.glob("*.mp4"))


# Made by name

FRESH = """
import sys
import gymnasium as gym
import worldgen.envs
heavy = [m for m in ("torch", "pygame", "onnxruntime", "stable_baselines3") if m in sys.modules]
assert not heavy, heavy
from worldgen.envs.toy_game import ToyGame
one = gym.make("worldgen.envs:worldgen/World-v0", world=sys.argv[1], nfe=1)
first, info = one.reset(seed=4)
assert one.observation_space.contains(first) and info["seed"] == 4
assert "torch" not in sys.modules and "pygame" not in sys.modules
"""
FRESH_VECTOR = """
import sys
import gymnasium as gym
many = gym.make_vec("worldgen.envs:worldgen/World-v0", num_envs=3, world=sys.argv[1], max_episode_steps=9)
frames, infos = many.reset(seed=4)
assert type(many.unwrapped).__name__ == "WorldVectorEnv" and many.unwrapped.max_episode_steps == 9
assert many.observation_space.contains(frames) and infos["seed"].tolist() == [4, 5, 6]
many.step(many.action_space.sample())
"""


@pytest.mark.parametrize("code", [FRESH, FRESH_VECTOR], ids=["make", "make_vec"])
def test_gymnasium_makes_it_by_name_in_a_fresh_process(tiny_world_onnx: Path, tmp_path: Path, code: str):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tiny_world_onnx)], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_a_name_that_the_package_does_not_have_is_an_attribute_error():
    import worldgen.envs

    with pytest.raises(AttributeError, match="NoSuchEnv"):
        worldgen.envs.NoSuchEnv  # noqa: B018
