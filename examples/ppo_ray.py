"""PPO in generated worlds on Ray: every player steps many games in one forward, on a GPU of its own where it has one.

    pip install -e ".[cpu,train,ray]"
    python examples/ppo_ray.py --world doom --players 2 --games 16 --iterations 50

With RAY_ADDRESS set the players are on that cluster's machines (worldgen must be installed there). A player that dies
is started again. Proximal Policy Optimization: Schulman et al. 2017.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldgen.envs import WorldVectorEnv

GAMMA, LAMBDA, CLIP, ENTROPY, VALUE = 0.99, 0.95, 0.2, 0.01, 0.5
EPOCHS, MINIBATCHES = 4, 4


class Policy(nn.Module):
    """frames (b, h, w, 3) uint8 -> logits (b, actions), value (b,)"""

    def __init__(self, height: int, width: int, num_actions: int, dim: int = 128):
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(3, 16, 8, 4, 2), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.LazyLinear(dim), nn.ReLU(),
        )  # fmt: skip
        self.act, self.value = nn.Linear(dim, num_actions), nn.Linear(dim, 1)
        self(torch.zeros(1, height, width, 3, dtype=torch.uint8))
        nn.init.orthogonal_(self.act.weight, 0.01)  # begins with all actions alike

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        x = self.see(frames.permute(0, 3, 1, 2).float() / 127.5 - 1)
        return self.act(x), self.value(x)[:, 0]


@dataclass
class Rollout:
    """t steps of n games. is_step (t, n): False where an environment only began a new episode, whatever the action."""

    frames: np.ndarray
    actions: np.ndarray
    log_probs: np.ndarray
    advantages: np.ndarray
    returns: np.ndarray
    is_step: np.ndarray
    scores: list[float]  # of the episodes that ended


class Player:
    """One world of many games, and the policy that plays them."""

    def __init__(self, world: str, games: int, seed: int, max_episode_steps: int):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self.env = WorldVectorEnv(world, games, max_episode_steps=max_episode_steps)
        height, width, _ = self.env.single_observation_space.shape
        self.policy = Policy(height, width, int(self.env.single_action_space.n)).eval()
        self.frames, _ = self.env.reset(seed=seed * games)
        self.was_over, self.score = np.zeros(games, bool), np.zeros(games)

    def shape(self) -> tuple[int, int, int]:
        """Of the policy: height, width and number of actions"""
        height, width, _ = self.env.single_observation_space.shape
        return height, width, int(self.env.single_action_space.n)

    @torch.inference_mode()
    def play(self, weights: dict[str, Tensor], steps: int) -> Rollout:
        self.policy.load_state_dict(weights)
        rows: list[tuple[np.ndarray, ...]] = []
        scores: list[float] = []
        for _ in range(steps):
            logits, value = self.policy(torch.from_numpy(self.frames))
            choice = torch.distributions.Categorical(logits=logits)
            action = choice.sample()
            seen, is_step = self.frames, ~self.was_over
            self.frames, reward, terminated, truncated, _ = self.env.step(action.numpy())
            self.was_over = terminated | truncated
            self.score += reward
            scores += self.score[self.was_over].tolist()
            self.score[self.was_over] = 0
            # an episode that was cut short would have gone on: what it was worth is added to its last reward
            after = self.policy(torch.from_numpy(self.frames))[1].numpy()
            reward = reward + GAMMA * after * (truncated & ~terminated)
            rows.append(
                (seen, action.numpy(), choice.log_prob(action).numpy(), value.numpy(), reward, self.was_over, is_step)
            )
        frames, actions, log_probs, values, rewards, is_over, is_step = (
            np.stack(column) for column in zip(*rows, strict=True)
        )
        last = self.policy(torch.from_numpy(self.frames))[1].numpy()
        gained = advantages(rewards, values, is_over, last)
        return Rollout(frames, actions, log_probs, gained, gained + values, is_step, scores)


def advantages(rewards: np.ndarray, values: np.ndarray, is_over: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Generalised advantage estimation: (t, n) each, last (n,) the value of what follows -> (t, n)"""
    out, after, gain = np.zeros_like(values), last, np.zeros_like(last)
    for t in reversed(range(len(rewards))):
        goes_on = ~is_over[t]
        error = rewards[t] + GAMMA * after * goes_on - values[t]
        gain = error + GAMMA * LAMBDA * goes_on * gain
        out[t], after = gain, values[t]
    return out


def ppo_loss(policy: Policy, batch: dict[str, Tensor]) -> Tensor:
    logits, value = policy(batch["frames"])
    choice = torch.distributions.Categorical(logits=logits)
    ratio = (choice.log_prob(batch["actions"]) - batch["log_probs"]).exp()
    gained = batch["advantages"]
    gained = (gained - gained.mean()) / (gained.std() + 1e-6)
    gain = torch.minimum(ratio * gained, ratio.clamp(1 - CLIP, 1 + CLIP) * gained).mean()
    return -gain + VALUE * F.mse_loss(value, batch["returns"]) - ENTROPY * choice.entropy().mean()


def learn(policy: Policy, optimizer: torch.optim.Optimizer, rollouts: list[Rollout]) -> float:
    """A few passes over what was played -> the mean loss"""
    device = next(policy.parameters()).device
    names = [f.name for f in fields(Rollout) if f.name not in ("is_step", "scores")]
    batch = {
        name: torch.from_numpy(np.concatenate([getattr(r, name)[r.is_step] for r in rollouts])).to(device)
        for name in names
    }
    batch = {k: v.float() if v.dtype == torch.float64 else v for k, v in batch.items()}
    losses = []
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(batch["actions"]), device=device).chunk(MINIBATCHES):
            loss = ppo_loss(policy, {k: v[rows] for k, v in batch.items()})
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
            optimizer.step()
            losses.append(loss.item())
    return float(np.mean(losses))


def train(options: argparse.Namespace) -> tuple[Policy, list[dict[str, float]]]:
    import ray

    ray.init(ignore_reinit_error=True, include_dashboard=False, log_to_driver=False)
    num_gpus = min(1.0, ray.cluster_resources().get("GPU", 0) / options.players)
    remote = ray.remote(num_cpus=1, num_gpus=num_gpus, max_restarts=-1, max_task_retries=2)(Player)
    players = [
        remote.remote(options.world, options.games, options.seed + i, options.episode) for i in range(options.players)
    ]
    torch.manual_seed(options.seed)
    policy = Policy(*ray.get(players[0].shape.remote())).to("cuda" if torch.cuda.is_available() else "cpu")
    optimizer = torch.optim.Adam(policy.parameters(), lr=options.learning_rate, eps=1e-5)
    history = []
    for iteration in range(options.iterations):
        weights = ray.put({k: v.cpu() for k, v in policy.state_dict().items()})
        rollouts = ray.get([player.play.remote(weights, options.steps) for player in players])
        scores = [score for rollout in rollouts for score in rollout.scores]
        row = {
            "iteration": iteration,
            "loss": learn(policy, optimizer, rollouts),
            "episodes": len(scores),
            "score": float(np.mean(scores)) if scores else float("nan"),
        }
        print(json.dumps(row), flush=True)
        history.append(row)
    ray.shutdown()
    return policy, history


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="doom", help="a bundled world or a world's folder, with discrete actions")
    parser.add_argument("--players", type=int, default=2)
    parser.add_argument("--games", type=int, default=16, help="of each player, in one forward")
    parser.add_argument("--steps", type=int, default=64, help="of each game between two updates")
    parser.add_argument("--episode", type=int, default=500, help="steps at most")
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="write the policy's weights here (safetensors)")
    options = parser.parse_args(argv)
    policy, _ = train(options)
    if options.out:
        from safetensors.torch import save_file

        save_file({k: v.contiguous().cpu() for k, v in policy.state_dict().items()}, options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
