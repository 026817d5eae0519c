"""PPO on vector environments of pictures, and the whole of examples/take_cover.py in miniature."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from env_worlds import EndlessWorld
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from safetensors import safe_open
from safetensors.torch import save

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from test_training import micro  # noqa: E402

from worldgen.config import WorldConfig  # noqa: E402
from worldgen.envs import WorldVectorEnv  # noqa: E402
from worldgen.envs.game_env import GameEnv  # noqa: E402
from worldgen.envs.toy_game import ToyGame  # noqa: E402
from worldgen.errors import InputError  # noqa: E402
from worldgen.training import ppo, presets  # noqa: E402
from worldgen.training.held_out import open_for  # noqa: E402
from worldgen.training.ppo import PpoRecipe, new_policy, play_episodes, train_ppo  # noqa: E402
from worldgen.training.recorded_starts import recorded_starts  # noqa: E402
from worldgen.world import World  # noqa: E402

LENGTH = 8


class BrightSide(gymnasium.Env):
    """A point for pointing at the half of the picture that is bright; LENGTH times."""

    observation_space = spaces.Box(0, 255, (16, 16, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._num_steps = 0
        return self._draw(), {}

    def step(self, action):
        reward = float(action == self._side)
        self._num_steps += 1
        return self._draw(), reward, False, self._num_steps == LENGTH, {}

    def _draw(self) -> np.ndarray:
        self._side = int(self.np_random.integers(2))
        picture = np.full((16, 16, 3), 30, np.uint8)
        picture[:, 8 * self._side : 8 * self._side + 8] = 220
        return picture


def bright_sides() -> SyncVectorEnv:
    return SyncVectorEnv([BrightSide] * 8, autoreset_mode=AutoresetMode.SAME_STEP)


RECIPE = PpoRecipe(steps=2048, rollout=16, stack=1)


def quiet(text: str) -> None:
    pass


def test_an_agent_learns_what_the_picture_says(tmp_path: Path):
    policy = train_ppo(bright_sides(), RECIPE, tmp_path, say=quiet)
    learned = np.mean([row["return"] for row in play_episodes(BrightSide(), policy, list(range(20)))])
    by_chance = np.mean([row["return"] for row in play_episodes(BrightSide(), None, list(range(20)))])
    assert by_chance < 0.7 * LENGTH and learned > 0.85 * LENGTH
    curve = json.loads((tmp_path / "curve.json").read_text())["curve"]
    assert curve[-1]["steps"] == RECIPE.steps and curve[-1]["return"] > curve[0]["return"]


def test_training_is_resumed_and_a_finished_one_is_loaded(tmp_path: Path):
    part, whole = replace(RECIPE, steps=256), replace(RECIPE, steps=512)
    first = train_ppo(bright_sides(), part, tmp_path, resume=True, say=quiet)
    again = train_ppo(bright_sides(), part, tmp_path, resume=True, say=quiet)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    said: list[str] = []
    train_ppo(bright_sides(), whole, tmp_path, resume=True, say=said.append)
    assert "from step 256" in said[0]
    assert json.loads((tmp_path / "curve.json").read_text())["curve"][-1]["steps"] == 512
    with pytest.raises(InputError, match="another gamma"):
        train_ppo(bright_sides(), replace(whole, gamma=0.5), tmp_path, resume=True, say=quiet)
    (tmp_path / "policy.safetensors").write_bytes(b"half a file")
    with pytest.raises(InputError, match="policy.safetensors is no policy"):
        train_ppo(bright_sides(), whole, tmp_path, resume=True, say=quiet)


def test_a_kill_between_weights_and_curve_does_not_part_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    part, whole = replace(RECIPE, steps=256), replace(RECIPE, steps=512)
    train_ppo(bright_sides(), part, tmp_path, say=quiet)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ppo, "write_json", lambda path, value: (_ for _ in ()).throw(KeyboardInterrupt))
        train_ppo(bright_sides(), whole, tmp_path, say=quiet)
    said: list[str] = []
    train_ppo(bright_sides(), whole, tmp_path, resume=True, say=said.append)
    assert not said  # finished: nothing is trained upon weights of another time
    assert json.loads((tmp_path / "curve.json").read_text())["curve"][-1]["steps"] == 512


def test_an_episode_depends_on_its_seed_alone():
    policy = new_policy(BrightSide(), RECIPE)
    rows = play_episodes(BrightSide(), policy, [3, 4, 5])
    assert rows[1:] == play_episodes(BrightSide(), policy, [4, 5])


def test_a_random_player_holds_its_actions_as_an_agent_does():
    env = Diary()
    play_episodes(env, None, [1, 2, 3], action_repeat=4)
    assert all(len(set(game[i : i + 4])) == 1 for game in env.games for i in range(0, LENGTH, 4))
    assert any(len(set(game)) == 2 for game in env.games)


def test_the_learning_rate_begins_whole_and_nothing_is_played_in_vain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rates, update = [], ppo._update

    def watched(policy, optimizer, *given):
        rates.append(optimizer.param_groups[0]["lr"])
        update(policy, optimizer, *given)

    monkeypatch.setattr(ppo, "_update", watched)
    train_ppo(bright_sides(), replace(RECIPE, steps=4 * 8 * RECIPE.rollout), tmp_path, say=quiet)
    assert rates == pytest.approx([RECIPE.learning_rate * x for x in (1, 0.75, 0.5, 0.25)])


def test_an_agent_of_other_games_is_refused(tmp_path: Path):
    part = replace(RECIPE, steps=256)
    train_ppo(bright_sides(), part, tmp_path, games="bright sides", say=quiet)
    with pytest.raises(InputError, match="was trained in bright sides, not in dark ones"):
        train_ppo(bright_sides(), part, tmp_path, resume=True, games="dark ones", say=quiet)
    train_ppo(bright_sides(), part, tmp_path, resume=True, say=quiet)  # who does not say is not asked
    wide = SyncVectorEnv([lambda: WideSide()] * 8, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(InputError, match="pictures of another size"):
        train_ppo(wide, part, tmp_path, resume=True, games="bright sides", say=quiet)


class WideSide(BrightSide):
    observation_space = spaces.Box(0, 255, (16, 48, 3), np.uint8)

    def _draw(self) -> np.ndarray:
        return np.tile(super()._draw(), (1, 3, 1))


def test_what_training_gains_is_held_against_chance_only_where_it_gains(monkeypatch: pytest.MonkeyPatch):
    example = load_example("take_cover", monkeypatch)
    players = {
        name: {"real": {"mean": mean, "low": mean - 20, "high": mean + 20}}
        for name, mean in (("random", 300), ("dream", 320), ("real", 400))
    }
    assert example.ratio(players) == pytest.approx(0.2)
    players["real"]["real"]["low"] = 315  # no more than a random player may have
    assert example.ratio(players) is None


def test_a_greedy_player_takes_its_likeliest_actions():
    policy = new_policy(Diary(), RECIPE)  # of a fresh one, hardly likelier than the others
    env, again = Diary(), Diary()
    play_episodes(env, policy, [3], is_greedy=True)
    picture, _ = again.reset(seed=3)
    for action in env.games[0]:
        with torch.no_grad():
            assert action == int(policy(torch.from_numpy(picture)[None, None])[0].argmax())
        picture = again.step(action)[0]


class Diary(BrightSide):
    """Writes down what is done in it; every game but its first is worth a hundred points a step."""

    def __init__(self):
        self.games: list[list[int]] = []

    def reset(self, **options):
        self.games.append([])
        return super().reset(**options)

    def step(self, action):
        self.games[-1].append(int(action))
        picture, _, _, is_over, info = super().step(action)
        return picture, 1.0 if len(self.games) == 1 else 100.0, is_over, False, info


def test_an_action_is_held_as_often_as_asked_and_no_longer_than_its_game(tmp_path: Path):
    recipe = replace(RECIPE, action_repeat=3, rollout=16, steps=48)
    policy = new_policy(Diary(), recipe)
    with torch.no_grad():
        policy.actor.weight.mul_(100)  # sure of what it does, so that a change shows
    env = Diary()
    play_episodes(env, policy, [1, 2])
    assert [len(game) for game in env.games] == [LENGTH, LENGTH]
    assert all(len(set(game[i : i + 3])) == 1 for game in env.games for i in range(0, LENGTH, 3))
    assert any(len(set(game)) == 2 for game in env.games)

    envs = SyncVectorEnv([Diary], autoreset_mode=AutoresetMode.SAME_STEP)
    stack = ppo.FrameStack(envs.reset(seed=0)[0], recipe.stack)
    returns, lengths, ended = np.zeros(1), np.zeros(1, int), []
    batch = ppo._play(envs, policy, stack, recipe, torch.Generator().manual_seed(0), returns, lengths, ended)
    played = sum(envs.envs[0].games, [])
    assert played == [action for action in batch["actions"].tolist() for _ in range(3)]
    assert [game for game, _ in ended] == [LENGTH, *[100 * LENGTH] * 5] and all(k == LENGTH for _, k in ended)
    worth = batch["values"] + batch["advantages"]
    assert worth[2].item() == pytest.approx(2)  # the game ends in the second step of its third action


class Cut(gymnasium.Env):
    """Gets brighter with every step and is cut after `length` of them; nothing is to be won."""

    observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self, length: int, brightness: int):
        self._length, self._brightness = length, brightness

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._num_steps = 0
        return self._picture(), {}

    def step(self, action):
        self._num_steps += 1
        return self._picture(), 0.0, False, self._num_steps == self._length, {}

    def _picture(self) -> np.ndarray:
        return np.full((8, 8, 3), self._brightness + 10 * self._num_steps, np.uint8)


class Photometer:
    """A critic that sees how bright the last picture is."""

    def act(self, pictures, generator):
        b = len(pictures)
        return torch.zeros(b, dtype=torch.long), torch.zeros(b), pictures[:, -1].float().mean((1, 2, 3))


def test_what_a_cut_game_would_have_brought_is_what_the_critic_sees_in_its_last_picture():
    games = [lambda: Cut(4, 0), lambda: Cut(5, 100)]
    envs = SyncVectorEnv(games, autoreset_mode=AutoresetMode.SAME_STEP)
    recipe = replace(RECIPE, action_repeat=3, rollout=2, gamma=0.5)
    stack = ppo.FrameStack(envs.reset(seed=0)[0], recipe.stack)
    empty = np.zeros(2), np.zeros(2, int), []
    batch = ppo._play(envs, Photometer(), stack, recipe, torch.Generator(), *empty)
    assert batch["values"].tolist() == [0, 100, 30, 130]  # of two actions in two games
    worth = batch["values"] + batch["advantages"]
    assert worth[2:].tolist() == pytest.approx([0.5 * 40, 0.5 * 150])  # each is cut in the midst of the second


class Fading(Cut):
    """A point a step, and a quarter of the games would end with each."""

    def step(self, action):
        picture, _, *ends, _ = super().step(action)
        return picture, 1.0, *ends, {"end_probability": 0.25}


def test_what_follows_counts_as_much_as_the_game_is_likely_to_go_on():
    games = [lambda: Fading(4, 0), lambda: Fading(5, 100)]
    envs = SyncVectorEnv(games, autoreset_mode=AutoresetMode.SAME_STEP)
    recipe = replace(RECIPE, action_repeat=3, rollout=2, gamma=0.5, lam=0.0, soft_ends=True)
    stack = ppo.FrameStack(envs.reset(seed=0)[0], recipe.stack)
    empty = np.zeros(2), np.zeros(2, int), []
    batch = ppo._play(envs, Photometer(), stack, recipe, torch.Generator(), *empty)
    assert batch["lives"].tolist() == [0.75**3, 0.75**3, 0, 0]
    worth = (batch["values"] + batch["advantages"]).tolist()
    first = 1 + 0.75 + 0.75**2
    assert worth[:2] == pytest.approx([first + 0.5 * 0.75**3 * 30, first + 0.5 * 0.75**3 * 130])
    assert worth[2:] == pytest.approx([1 + 0.5 * 0.75 * 40, 1 + 0.75 + 0.5 * 0.75**2 * 150])  # cut


def test_an_agent_of_a_recipe_with_fewer_choices_is_trained_on(tmp_path: Path):
    part = replace(RECIPE, steps=256)
    train_ppo(bright_sides(), part, tmp_path, say=quiet)
    path = tmp_path / "policy.safetensors"
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["training"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del facts["recipe"]["action_repeat"]
    path.write_bytes(save(tensors, {"training": json.dumps(facts)}))
    said: list[str] = []
    train_ppo(bright_sides(), replace(part, steps=512), tmp_path, resume=True, say=said.append)
    assert "from step 256" in said[0]


def test_an_agent_plays_in_a_generated_world(tiny_world: Path, tmp_path: Path):
    envs = WorldVectorEnv(EndlessWorld.load(tiny_world, batch=2), 2, autoreset_mode="SameStep", max_episode_steps=5)
    train_ppo(envs, PpoRecipe(steps=32, rollout=8, epochs=1), tmp_path, say=quiet)
    curve = json.loads((tmp_path / "curve.json").read_text())["curve"]
    assert sum(row["episodes"] for row in curve) == 6 and all(row["length"] == 5 for row in curve)


def test_an_agent_sees_what_came_before_a_generated_game(tiny_world: Path, tmp_path: Path, monkeypatch):
    seen: list[np.ndarray] = []
    act = ppo.Policy.act
    monkeypatch.setattr(
        ppo.Policy, "act", lambda self, pictures, g: seen.append(pictures.numpy().copy()) or act(self, pictures, g)
    )
    envs = WorldVectorEnv(EndlessWorld.load(tiny_world, batch=2), 2, autoreset_mode="SameStep", max_episode_steps=2)
    seeds: list[int] = []
    prompts = envs.world.prompts
    train_ppo(
        envs, PpoRecipe(steps=16, rollout=4, epochs=1, stack=3), tmp_path, say=quiet,
        prompts=lambda x: seeds.extend(x) or prompts(x),
    )  # fmt: skip
    assert seeds[:2] == [0, 1] and len(seeds) == 2 + 2 * 4  # two at first, and after every second step
    for i, begun in ((0, seeds[:2]), (3, seeds[2:4])):  # two actions, a look at where they are cut, and the next game
        np.testing.assert_array_equal(seen[i][:, :2], prompts(begun)[:, -3:-1])
        np.testing.assert_array_equal(seen[i][:, 2], EndlessWorld.load(tiny_world, batch=2).reset(begun).image)
    np.testing.assert_array_equal(seen[1][:, 0], prompts(seeds[:2])[:, -2])  # and then moves on
    stack = ppo.FrameStack(np.zeros((1, 4, 4, 3), np.uint8), 4)
    stack.remember(np.ones(1, bool), np.full((1, 2, 4, 4, 3), 9, np.uint8))  # fewer than it has places for
    assert stack.pictures[0, :, 0, 0, 0].tolist() == [9, 9, 9, 0]


def test_what_cannot_be_trained_on_is_refused(tiny_world: Path, tmp_path: Path):
    with pytest.raises(InputError, match='autoreset_mode="SameStep"'):
        train_ppo(WorldVectorEnv(tiny_world, 2), RECIPE, tmp_path)
    with pytest.raises(InputError, match="sees pictures"):
        train_ppo(WorldVectorEnv(tiny_world, 2, observation="tokens", autoreset_mode="SameStep"), RECIPE, tmp_path)
    with pytest.raises(InputError, match="reward_scale is above 0"):
        PpoRecipe(reward_scale=0)
    with pytest.raises(InputError, match="leave as_torch out"):
        train_ppo(WorldVectorEnv(tiny_world, 2, as_torch=True, autoreset_mode="SameStep"), RECIPE, tmp_path)


def test_a_real_game_is_an_environment_that_gymnasium_finds_nothing_to_say_about():
    env = GameEnv(ToyGame(fps=10), 48, 64, render_mode="rgb_array")
    check_env(env, skip_render_check=True)
    first, _ = env.reset(seed=3)
    assert first.shape == (48, 64, 3) and env.render().shape == env.game.image().shape
    with pytest.raises(gymnasium.error.InvalidAction, match="9"):
        env.step(9)
    cut = GameEnv(ToyGame(fps=10), 48, 64, max_episode_steps=2)
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        cut.step(0)
    cut.reset(seed=0)
    assert [cut.step(0)[3] for _ in range(2)] == [False, True]


def load_example(name: str, monkeypatch: pytest.MonkeyPatch):
    path = Path(__file__).parent.parent / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    example = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, example)
    spec.loader.exec_module(example)
    return example


def test_the_example_trains_and_plays(tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    example = load_example("ppo", monkeypatch)
    words = ["--out", str(tmp_path), "--world", str(tiny_world), "--steps", "256", "--games", "4", "--seconds", "1"]
    assert example.main(words) == 0
    assert (tmp_path / "policy.safetensors").is_file()


def test_the_proof_runs_from_recording_to_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    example = load_example("take_cover", monkeypatch)
    monkeypatch.setattr(example, "EPISODE_SECONDS", 0.5)
    monkeypatch.setitem(presets.PRESETS, "micro", lambda: micro(steps=2))
    choices = {
        "preset": "micro",
        "steps": 128,
        "games": 2,
        "episodes": 2,
        "dream_episodes": 1,
        "backend": "torch",
        "end_above": None,
    }
    proof = example.Proof(tmp_path, game="toy", frames=400, **choices)
    said: list[str] = []
    figures = example.prove(proof, said.append)
    assert set(figures["players"]) == {"random", "trained in the dream", "trained in the real game"}
    assert all(part["real"]["episodes"] == 2 for part in figures["players"].values())
    assert all(part["dream"]["episodes"] == 1 for part in figures["players"].values())
    assert "| random |" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "curves.png").stat().st_size > 1000
    said.clear()
    assert example.prove(replace(proof, episodes=3), said.append)["players"]["random"]["real"]["episodes"] == 3
    assert not any("recording" in line or "ppo:" in line for line in said)  # what is done is not done again
    assert example.main(["--out", str(tmp_path), "--steps", "0"]) == 2
    assert example.main(["--out", str(tmp_path), "--dream-seconds", "0"]) == 2
    assert example.main(["--out", str(tmp_path), "--world", str(tmp_path / "world")]) == 2
    assert example.main(["--out", str(tmp_path), "--action-repeat", "0"]) == 2
    with pytest.raises(InputError, match="was begun with temperature 1.0, not 1.5"):
        example.prove(replace(proof, temperature=1.5), said.append)
    for choices in ({"steps": 768}, {"steps": 768, "greedy": False}):  # trained on, or playing otherwise
        said.clear()
        example.prove(replace(proof, **choices), said.append)  # agents play their games anew
        assert [line.split(":")[0] for line in said if line.endswith("episodes")] == [
            f"trained in the {by}, {in_} game" for by in ("dream", "real game") for in_ in ("real", "dream")
        ]

    # what its generated games began from
    config = WorldConfig.load(tmp_path / "world" / "world.json")
    starts = recorded_starts(tmp_path / "recordings", config, 30, said.append)
    cache = open_for(config, tmp_path / "recordings", said.append)
    assert starts.frames.shape == (30, 4, cache.height, cache.width, 3)
    moments = {
        (cache.frames[i : i + 4].tobytes(), cache.actions[i : i + 3].tobytes()): i
        for i in range(cache.num_frames - 4)
        if i + 4 < cache.starts[np.searchsorted(cache.starts, i, side="right")]  # within one episode
    }
    rows = [moments[c.tobytes(), a[1:].tobytes()] for c, a in zip(starts.frames, starts.actions, strict=True)]
    assert np.array_equal(starts.actions[:, 0], config.actions.null(30))
    assert len(set(rows)) > 25 and rows[0] < 20 and rows[-1] > 300
    world = World.load(tmp_path / "world", backend="torch", batch=2, starts=starts)
    picture = world.reset([1, 2], start=[0, 29]).image.astype(int)
    near, far = (np.abs(picture - starts.frames[[i, j], -1]).mean() for i, j in ((0, 29), (29, 0)))
    assert world.num_starts == 30 and near < far
    with pytest.raises(InputError, match="others were given, are not of this world"):
        World.load(tmp_path / "world", backend="torch", starts=replace(starts, frames=starts.frames[:, :, 1:]))
    with pytest.raises(InputError, match="at least 1 start"):
        recorded_starts(tmp_path / "recordings", config, 0)
