"""Proximal policy optimisation (Schulman et al. 2017) on any Gymnasium vector environment of pictures: generated games
or real ones. One file, as CleanRL has it; an agent is trained by

    train_ppo(WorldVectorEnv("doom", 16, autoreset_mode="SameStep"), PpoRecipe(steps=500_000), Path("agent"))

Letters: n games, s frames that the policy sees, t steps between updates.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from worldgen.errors import InputError
from worldgen.files import write_bytes, write_json

SAVE_SECONDS = 60.0


@dataclass(frozen=True)
class PpoRecipe:
    """steps: of all games together. rollout: actions chosen in each game between updates. action_repeat: steps that
    each action is held, in all games together: where a game ends among them the next one is played on with it, and
    not learned from until they are over. stack: frames that the policy sees. reward_scale: rewards are divided by it,
    so that returns are not far from 1: where they are large the critic learns and the actor does not. gamma, lam: an
    action's. soft_ends: what follows a step counts as much as the game is likely to go on, infos["end_probability"]
    less, as in Dreamer (Hafner et al. 2020): for generated games that ignore_ends, in which ends are rare guesses."""

    steps: int = 500_000
    rollout: int = 64
    epochs: int = 3
    minibatches: int = 4
    learning_rate: float = 5e-4
    gamma: float = 0.99
    lam: float = 0.95
    clip: float = 0.2
    entropy: float = 0.01
    value_share: float = 0.5
    clip_norm: float = 0.5
    stack: int = 3
    action_repeat: int = 1
    soft_ends: bool = False
    reward_scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.rollout, self.epochs, self.minibatches, self.stack, self.action_repeat) < 1:
            raise InputError("steps, rollout, epochs, minibatches, stack and action_repeat are at least 1")
        if self.reward_scale <= 0:
            raise InputError(f"reward_scale is above 0, got {self.reward_scale}")


class Policy(nn.Module):
    """Pictures (b, s, h, w, 3) uint8 -> logits of the actions (b, a), value (b,)"""

    def __init__(self, height: int, width: int, num_actions: int, stack: int, action_repeat: int = 1):
        super().__init__()
        self.stack, self.action_repeat = stack, action_repeat
        sizes = [(3 * stack, 16, 5, 3), (16, 32, 4, 2), (32, 32, 3, 1)]
        convs: list[nn.Module] = []
        for channels, out, side, stride in sizes:
            convs += [nn.Conv2d(channels, out, side, stride, padding=side // 2), nn.ReLU()]
        self.convs = nn.Sequential(*convs, nn.Flatten())
        with torch.no_grad():
            num_features = self.convs(torch.zeros(1, 3 * stack, height, width)).shape[1]
        self.trunk = nn.Sequential(nn.Linear(num_features, 256), nn.ReLU())
        self.actor, self.critic = nn.Linear(256, num_actions), nn.Linear(256, 1)
        gains = {id(self.actor): 0.01, id(self.critic): 1.0}
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.orthogonal_(layer.weight, gains.get(id(layer), 2**0.5))
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        b, s, h, w, c = pictures.shape
        x = pictures.permute(0, 1, 4, 2, 3).reshape(b, s * c, h, w).float() / 127.5 - 1
        x = self.trunk(self.convs(x))
        return self.actor(x), self.critic(x)[:, 0]

    @torch.no_grad()
    def act(self, pictures: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """generator: draws the actions; None takes the likeliest -> actions, their log-probabilities, values: (b,)
        each"""
        logits, value = self(pictures)
        chances = logits.softmax(-1)
        action = chances.argmax(-1) if generator is None else torch.multinomial(chances, 1, generator=generator)[:, 0]
        return action, chances.gather(1, action[:, None])[:, 0].log(), value


Prompts = Callable[[np.ndarray], np.ndarray]  # seeds (b,) of games -> the frames that they begin from (b, t, h, w, 3)


class FrameStack:
    """The last s pictures of each game, (n, s, h, w, 3) uint8; a game that begins has its first one s times, unless
    remember() says what came before it."""

    def __init__(self, first: np.ndarray, stack: int):
        self.pictures = torch.from_numpy(np.repeat(first[:, None], stack, axis=1))

    def remember(self, rows: np.ndarray, prompts: np.ndarray) -> None:
        """Games that have just begun, (n,) bool, and the frames that each began from (b, t, h, w, 3), its first picture
        last"""
        places = np.arange(1 - self.pictures.shape[1], 0) + prompts.shape[1] - 1  # its first frame where there is none
        before = np.ascontiguousarray(prompts[:, np.maximum(places, 0)])
        self.pictures[torch.from_numpy(rows), :-1] = torch.from_numpy(before)

    def push(self, latest: np.ndarray, begins: np.ndarray) -> None:
        new = torch.from_numpy(np.ascontiguousarray(latest))[:, None]
        fresh = torch.from_numpy(begins)
        self.pictures = torch.cat([self.pictures[:, 1:], new], dim=1)
        self.pictures[fresh] = new[fresh].expand(-1, self.pictures.shape[1], -1, -1, -1)

    def with_last(self, i: int, last: np.ndarray) -> Tensor:
        """What game i ended with: (1, s, h, w, 3)"""
        return torch.cat([self.pictures[i : i + 1, 1:], torch.from_numpy(last.copy())[None, None]], dim=1)


def new_policy(envs: Any, recipe: PpoRecipe) -> Policy:
    """A fresh one for a vector or a single environment."""
    space = getattr(envs, "single_observation_space", envs.observation_space)
    actions = getattr(envs, "single_action_space", envs.action_space)
    if len(space.shape) != 3 or not hasattr(actions, "n"):
        raise InputError(f"this policy sees pictures and takes one of n actions, not {space} and {actions}")
    torch.manual_seed(recipe.seed)
    height, width, _ = space.shape
    return Policy(height, width, int(actions.n), recipe.stack, recipe.action_repeat)


def train_ppo(
    envs: VectorEnv,
    recipe: PpoRecipe,
    folder: Path,
    *,
    resume: bool = False,
    games: str = "",
    prompts: Prompts | None = None,
    say: Callable[[str], None] = print,
) -> Policy:
    """Trains a policy into folder/policy.safetensors, and its curve into folder/curve.json: rows of steps, seconds, and
    mean return and length of the episodes that ended since the row before; with soft_ends how probably a game ends
    while an action is held. resume: goes on where a killed run was, with new games; a finished one is loaded. games: in
    words, which ones these are; an agent of others is refused. prompts: of generated games that begin in the midst of
    something, so that the policy sees what moves from its first action on."""
    if envs.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP:
        raise InputError('train_ppo takes games that begin anew in the step they end: autoreset_mode="SameStep"')
    if getattr(envs.unwrapped, "as_torch", False):
        raise InputError("train_ppo takes arrays: leave as_torch out")
    policy = new_policy(envs, recipe)
    optimizer = torch.optim.Adam(policy.parameters(), recipe.learning_rate, eps=1e-5)
    curve = _load(folder, policy, optimizer, recipe, games) if resume else []
    done = int(curve[-1]["steps"]) if curve else 0
    if done >= recipe.steps:
        return policy
    say(f"ppo: {recipe.steps} steps of {envs.num_envs} games side by side, from step {done}, into {folder}")
    generator = torch.Generator().manual_seed(recipe.seed + done)
    # later seeds than those of the games played before a kill
    first, infos = envs.reset(seed=recipe.seed + done)
    stack = FrameStack(first, recipe.stack)
    if prompts is not None:
        stack.remember(np.ones(envs.num_envs, bool), prompts(infos["seed"]))
    returns, lengths = np.zeros(envs.num_envs), np.zeros(envs.num_envs, int)
    ended: list[tuple[float, int]] = []
    began, saved = time.monotonic(), time.monotonic()
    before = curve[-1]["seconds"] if curve else 0.0
    while done < recipe.steps:
        batch = _play(envs, policy, stack, recipe, generator, returns, lengths, ended, prompts)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * (1 - done / recipe.steps)
        done += recipe.rollout * recipe.action_repeat * envs.num_envs
        _update(policy, optimizer, batch, recipe, generator)
        row = {"steps": done, "seconds": round(before + time.monotonic() - began, 1), "episodes": len(ended)}
        if recipe.soft_ends:
            lives = batch["lives"][batch["lives"] > 0]  # of the actions that no game was cut or over with
            if len(lives):
                row["end_probability"] = 1 - float(lives.mean())
        if ended:
            row |= {"return": float(np.mean([r for r, _ in ended])), "length": float(np.mean([k for _, k in ended]))}
            ended.clear()
        curve.append(row)
        if done >= recipe.steps or time.monotonic() - saved > SAVE_SECONDS:
            _save(folder, policy, optimizer, curve, recipe, games)
            saved = time.monotonic()
            told = [r for r in curve if "return" in r][-1:]
            score = f", return {told[0]['return']:.1f} over {told[0]['length']:.0f} steps" if told else ""
            score += (
                f", an action ends {100 * row['end_probability']:.1f} % of games" if "end_probability" in row else ""
            )
            rate = done / max(1e-9, row["seconds"])
            say(f"  step {done} of {recipe.steps}{score}, {rate:.0f} steps/s")
    return policy


def _play(
    envs: VectorEnv,
    policy: Policy,
    stack: FrameStack,
    recipe: PpoRecipe,
    generator: torch.Generator,
    returns: np.ndarray,
    lengths: np.ndarray,
    ended: list[tuple[float, int]],
    prompts: Prompts | None = None,
) -> dict[str, Tensor]:
    """A rollout with its advantages (GAE, Schulman et al. 2016): pictures (t * n, ...), the rest (t * n,)"""
    rows: dict[str, list[Tensor]] = {k: [] for k in ("pictures", "actions", "log_probs", "values", "rewards", "lives")}
    for _ in range(recipe.rollout):
        action, log_prob, value = policy.act(stack.pictures, generator)
        pictures = stack.pictures
        gained, lives = torch.zeros(envs.num_envs), torch.ones(envs.num_envs)  # lives: the chance that the game goes on
        for _ in range(recipe.action_repeat):
            latest, reward, terminated, truncated, infos = envs.step(action.numpy())
            returns += reward
            lengths += 1
            gained += lives * torch.from_numpy(reward / recipe.reward_scale).float()
            if recipe.soft_ends:
                lives = lives * (1 - end_probability(infos, envs.num_envs))
            cut = np.flatnonzero(truncated & ~terminated)
            if len(cut):  # what would have come, as the critic sees it
                last = torch.cat([stack.with_last(i, infos["final_obs"][i]) for i in cut.tolist()])
                gained[cut] += recipe.gamma * lives[cut] * policy.act(last, None)[2]
            ends = terminated | truncated
            lives[torch.from_numpy(ends)] = 0  # what is left of an action is played in the next game, for nothing
            ended += [(float(returns[i]), int(lengths[i])) for i in np.flatnonzero(ends)]
            returns[ends], lengths[ends] = 0, 0
            stack.push(latest, ends)
            if prompts is not None and ends.any():
                stack.remember(ends, prompts(infos["seed"][ends]))
        for part, new in zip(rows.values(), (pictures, action, log_prob, value, gained, lives), strict=True):
            part.append(new)
    next_value = policy.act(stack.pictures, None)[2]
    advantage, advantages = torch.zeros(envs.num_envs), []
    for reward, value, lives in reversed(list(zip(rows["rewards"], rows["values"], rows["lives"], strict=True))):
        delta = reward + recipe.gamma * lives * next_value - value
        advantage = delta + recipe.gamma * recipe.lam * lives * advantage
        advantages.append(advantage)
        next_value = value
    kept = {name: torch.cat(rows[name]) for name in ("pictures", "actions", "log_probs", "values", "lives")}
    return {**kept, "advantages": torch.cat(advantages[::-1])}


def end_probability(infos: dict[str, Any], n: int) -> Tensor:
    """(n,) of the step that gave these infos, also of games that were over with it"""
    if "end_probability" not in infos and "end_probability" not in infos.get("final_info", {}):
        raise InputError('soft_ends needs infos["end_probability"]: a generated world with a head for ends')
    out = np.zeros(n, np.float32)
    for part in (infos, infos.get("final_info", {})):
        if "end_probability" in part:
            out[part["_end_probability"]] = part["end_probability"][part["_end_probability"]]
    return torch.from_numpy(out)


def _update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    recipe: PpoRecipe,
    generator: torch.Generator,
) -> None:
    targets = batch["values"] + batch["advantages"]
    for _ in range(recipe.epochs):
        order = torch.randperm(len(targets), generator=generator)
        for rows in order.chunk(recipe.minibatches):
            logits, value = policy(batch["pictures"][rows])
            log_chances = logits.log_softmax(-1)
            log_prob = log_chances.gather(1, batch["actions"][rows, None])[:, 0]
            ratio = (log_prob - batch["log_probs"][rows]).exp()
            advantage = batch["advantages"][rows]
            advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
            clipped = ratio.clamp(1 - recipe.clip, 1 + recipe.clip)
            gain = torch.minimum(ratio * advantage, clipped * advantage).mean()
            entropy = -(log_chances.exp() * log_chances).sum(-1).mean()
            value_loss = (value - targets[rows]).square().mean()
            loss = -gain - recipe.entropy * entropy + recipe.value_share * value_loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), recipe.clip_norm)
            optimizer.step()


def _save(
    folder: Path,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    curve: list[dict[str, Any]],
    recipe: PpoRecipe,
    games: str,
) -> None:
    """Weights, optimiser and curve in one file, which is there whole or not at all; the curve beside it for readers."""
    tensors = {f"policy.{k}": v for k, v in policy.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{k}": v for k, v in state.items()}
    facts = {"recipe": asdict(recipe), "games": games, "curve": curve}
    content = save({k: v.contiguous() for k, v in tensors.items()}, {"training": json.dumps(facts)})
    write_bytes(folder / "policy.safetensors", content)
    write_json(folder / "curve.json", facts)


def _load(
    folder: Path, policy: Policy, optimizer: torch.optim.Optimizer, recipe: PpoRecipe, games: str
) -> list[dict[str, Any]]:
    """-> the curve so far, empty where there is none"""
    path = folder / "policy.safetensors"
    try:
        with safe_open(path, "pt") as file:
            kept = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it cannot be iterated over)
    except FileNotFoundError:
        return []
    except (SafetensorError, TypeError, KeyError, ValueError):
        raise InputError(f"{path} is no policy that train_ppo() left: choose another folder, or delete it") from None
    known = asdict(PpoRecipe()) | kept["recipe"]  # of a worldgen that had fewer choices
    changed = {k for k, v in asdict(recipe).items() if known[k] != v} - {"steps"}
    if changed:
        raise InputError(f"{folder} was trained with another {sorted(changed)[0]}: choose another folder, or delete it")
    if games and kept.get("games") not in (None, "", games):
        raise InputError(
            f"{folder} was trained in {kept['games']}, not in {games}: choose another folder, or delete it"
        )
    weights = {k.removeprefix("policy."): v for k, v in tensors.items() if k.startswith("policy.")}
    shapes, known_shapes = ({k: v.shape for k, v in x.items()} for x in (policy.state_dict(), weights))
    if shapes != known_shapes:
        raise InputError(
            f"{folder} holds an agent of pictures of another size or of other actions: choose another folder, or "
            "delete it"
        )
    policy.load_state_dict(weights)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("adam."):
            _, i, key = name.split(".")
            state.setdefault(int(i), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    write_json(folder / "curve.json", kept)  # a kill may have come between the two
    return kept["curve"]


def play_episodes(
    env: Any,
    policy: Policy | None,
    seeds: list[int],
    on_episode: Callable[[dict[str, float]], None] = lambda row: None,
    *,
    is_greedy: bool = False,
    action_repeat: int = 1,
) -> list[dict[str, float]]:
    """An episode of a single environment for each seed, by the policy or, with None, uniformly random actions, each
    held for action_repeat steps. Each episode depends on its seed alone. is_greedy: the policy takes its likeliest
    action instead of drawing one -> rows of seed, return and length"""
    rows, held = [], action_repeat if policy is None else policy.action_repeat
    for seed in seeds:
        picture, _ = env.reset(seed=seed)
        generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng([seed, 1])
        stack = FrameStack(picture[None], 1 if policy is None else policy.stack)
        total, length, is_over = 0.0, 0, False
        while not is_over:
            if length % held == 0:
                action = (
                    int(rng.integers(env.action_space.n))
                    if policy is None
                    else int(policy.act(stack.pictures, None if is_greedy else generator)[0])
                )
            picture, reward, terminated, truncated, _ = env.step(action)
            stack.push(picture[None], np.zeros(1, bool))
            total, length, is_over = total + reward, length + 1, terminated or truncated
        rows.append({"seed": seed, "return": total, "length": length})
        on_episode(rows[-1])
    return rows
