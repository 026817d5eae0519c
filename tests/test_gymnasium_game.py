import gymnasium
import numpy as np
import pytest
from game_checks import assert_same, go_on, is_over, play, read_recording, recordings
from gymnasium import spaces

from worldgen.envs.gymnasium_game import GymnasiumGame
from worldgen.envs.record import record
from worldgen.errors import InputError


class Painter(gymnasium.Env):
    """Paints the sum of all that was done; remembers the action as it came."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = spaces.Box(-1e6, 1e6, (1,), np.float32)

    def __init__(self, space: gymnasium.Space, render_mode: str | None = None):
        self.action_space = space
        self.last_action = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.total, self.steps = 0.0, 0
        return np.array([self.total], np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.last_action = action
        self.total += float(np.sum(action))
        self.steps += 1
        return np.array([self.total], np.float32), 1.0, self.steps == 50, False, {}

    def render(self):
        return np.full((16, 16, 3), int(abs(self.total) * 8) % 256, np.uint8)


SPACES = {
    "discrete": spaces.Discrete(3, start=5),
    "multi_discrete": spaces.MultiDiscrete([2, 4]),
    "multi_binary": spaces.MultiBinary(3),
    "box": spaces.Box(np.array([-1, 0], np.float32), np.array([1, 2], np.float32)),
}


@pytest.fixture(scope="module", autouse=True)
def painters():
    names = [*SPACES, "unbounded", "dict"]
    extra = [spaces.Box(-np.inf, np.inf, (1,)), spaces.Dict({"a": spaces.Discrete(2)})]
    for name, space in zip(names, [*SPACES.values(), *extra], strict=True):
        gymnasium.register(f"Painter{name}-v0", entry_point=lambda space=space, **kw: Painter(space, **kw))
    yield
    for name in names:
        del gymnasium.registry[f"Painter{name}-v0"]


@pytest.mark.parametrize("kind", SPACES)
def test_every_kind_of_action_is_played_and_recorded(kind, tmp_path):
    result = record(f"gym:Painter{kind}-v0", tmp_path, 60, policy="sticky")
    assert (result["frames"], result["game_fps"], result["sound_seconds"]) == (60, 20, 0)
    frames, sound, rows = read_recording(recordings(tmp_path)[0])
    assert sound is None
    assert len(frames) == 51
    assert rows[49]["terminated"]
    steps = np.diff([row["observation_0"] for row in rows])
    start = 5 if kind == "discrete" else 0
    assert steps == pytest.approx([np.sum(row["action"]) + start for row in rows[:-1]], abs=1e-3)


def test_a_seed_gives_the_same_episode_and_a_loaded_game_goes_on():
    game = GymnasiumGame("CartPole-v1")
    assert_same(play(game, seed=1, num_frames=9), play(game, seed=1, num_frames=9))
    play(game, seed=1, num_frames=5)
    state = game.save()
    future = go_on(game, 5, action_seed=2)
    game.load(state)
    assert_same(future, go_on(game, 5, action_seed=2))
    game.close()


def test_well_known_actions_have_names_and_keys():
    game = GymnasiumGame("CartPole-v1")
    assert game.fps == 50
    assert game.actions.name(game.actions.from_keys({"right"})) == "right"
    game.close()


def test_half_the_rate_takes_two_steps_a_frame_and_adds_their_rewards():
    game = GymnasiumGame("Painterbox-v0", fps=10)
    game.reset(0)
    frame = game.step([0.5, 1.0])
    assert (frame.state["observation_0"], frame.reward) == (3.0, 2.0)
    with pytest.raises(InputError, match="--fps 15"):
        GymnasiumGame("Painterbox-v0", fps=15)


def test_an_episode_that_is_over_asks_for_a_reset():
    game = GymnasiumGame("Painterdiscrete-v0")
    assert is_over(play(game, seed=0, num_frames=100)[-1])
    with pytest.raises(InputError, match="reset"):
        game.step(0)


@pytest.mark.parametrize(
    ("env_id", "said"),
    [("NoSuchThing-v0", "NoSuchThing"), ("Painterunbounded-v0", "without bounds"), ("Painterdict-v0", "Dict")],
)
def test_what_cannot_be_recorded_is_named_with_the_reason(env_id, said):
    with pytest.raises(InputError, match=said):
        GymnasiumGame(env_id)
