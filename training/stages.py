"""Each stage made ready for a run: its data, and a network that fits it."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from worldgen.bundle import load_network
from worldgen.data.dataset import ClipSampler
from worldgen.data.shaping import shaping_words
from worldgen.errors import InputError
from worldgen.models.conditioning import action_arguments, has_actions
from worldgen.models.dynamics import Dynamics
from worldgen.models.heads import Heads
from worldgen.models.latent_action import NUM_MOVES, LatentActionModel
from worldgen.models.tokenizer import Tokenizer
from worldgen.training.common_moves import common_moves
from worldgen.training.dynamics import DynamicsLoss, DynamicsStage
from worldgen.training.fit import Fit, Stage
from worldgen.training.heads import HeadsStage
from worldgen.training.held_out import known_segments
from worldgen.training.latent_action import LatentActionStage, choose_labels
from worldgen.training.output_stages import (
    between_stage,
    sound_codec_stage,
    sound_events_stage,
    sound_stage,
    super_resolution_stage,
)
from worldgen.training.rollout import PROMPT
from worldgen.training.run import VALIDATION_HORIZON, Run
from worldgen.training.tokenizer import TokenizerStage
from worldgen.training.world_facts import write_facts

NO_SHARE = -6.0  # logit of what a network begins with that knew no cubic kernels
MOVING_CLIPS = 200  # that tell latent actions how far things move in a game


def make_stage(run: Run, name: str, fit: Fit) -> Stage:
    match name:
        case "tokenizer":
            return _tokenizer_stage(run, fit)
        case "latent_action":
            return _latent_action_stage(run, fit)
        case "dynamics":
            return _dynamics_stage(run, fit)
        case "heads":
            return _heads_stage(run, fit)
        case "super_resolution":
            return super_resolution_stage(run, fit, *run.tokens())
        case "between":
            return between_stage(run, fit, *run.tokens())
        case "sound_codec":
            return sound_codec_stage(run, fit)
        case "sound":
            return sound_stage(run, fit, run.tokens()[1], run.device)
        case "sound_events":
            return sound_events_stage(run, fit, run.tokens()[1], run.device)
    raise AssertionError(name)


def _tokenizer_stage(run: Run, fit: Fit) -> Stage:
    """With --from the other world's tokenizer decides how wide tokens are, where they are of the same size."""
    network = run.fresh(Tokenizer, height=run.height, width=run.width, **run.preset.tokenizer)
    own, known = network.config, run.source_config("tokenizer")
    if (
        known is not None
        and len(known["channels"]) == len(own.channels)
        and any(own[key] != known[key] for key in known)
    ):
        network = run.fresh(Tokenizer, **known)
        width = f"{known['token_dim']} numbers a token ({run.recipe.preset}: {own.token_dim})"
        run.say(f"  the tokenizer stays as large as that of {run.recipe.source}: {width}")
    return TokenizerStage(run.begin(network, "tokenizer"), *_samplers(run, fit), fit.batch)


def _latent_action_stage(run: Run, fit: Fit) -> Stage:
    labels = None
    if run.recipe.labels:
        labels = choose_labels(run.cache, run.train, run.recipe.labels, run.recipe.seed)
        run.say(f"  {len(labels.rows)} frames with their recorded action draw the codes towards {len(labels.names)}")
    network = run.fresh(
        LatentActionModel,
        height=run.height,
        width=run.width,
        num_codes=run.num_codes(),
        num_labels=len(labels.names) if labels else 0,
        **run.preset.latent_action,
    )
    train, validation = _samplers(run, fit)
    network.take_moves(torch.from_numpy(common_moves(train.evenly(MOVING_CLIPS).frames, NUM_MOVES)))
    return LatentActionStage(run.begin(network, "latent_action"), train, validation, fit.batch, labels)


def _dynamics_stage(run: Run, fit: Fit) -> Stage:
    tokenizer, tokens = run.tokens()
    network = run.fresh(
        Dynamics.of_tokens, tokenizer, context=run.preset.context, **action_arguments(run.action_map()),
        **run.preset.dynamics,
    )  # fmt: skip
    write_facts(run)
    network = run.begin(network, "dynamics", lambda known: _load_dynamics(run, network, known))
    network.motion.take_basis(tokenizer)  # with --from it came with another's
    return DynamicsStage(
        network, tokenizer, run.config(), run.cache, tokens, run.actions(), run.sampler(run.train, fit.length),
        _rollouts(run), fit.batch, DynamicsLoss(**run.preset.loss),
    )  # fmt: skip


def _heads_stage(run: Run, fit: Fit) -> Stage:
    _, tokens = run.tokens()
    dynamics = load_network(run.recipe.out, "dynamics")
    _check_same_shaping(run)
    network = run.fresh(Heads, hidden_dim=dynamics.config.dim, shaping=run.recipe.shaping, **run.preset.heads)
    return HeadsStage(
        run.begin(network, "heads"), dynamics, run.action_map(), run.config().context_sigma, run.config().nfe,
        run.cache, tokens, run.actions(), *_samplers(run, fit), fit.batch,
    )  # fmt: skip


def _check_same_shaping(run: Run) -> None:
    """Raises InputError where heads that are there, begun or finished, learn another reward."""
    folder = run.recipe.out / "heads"
    if not (folder / "config.json").is_file():
        return
    known, wanted = load_network(run.recipe.out, "heads").config.shaping or {}, run.recipe.shaping
    if known != wanted:
        raise InputError(
            f"the heads in {run.recipe.out} have the shaping {shaping_words(known)}, not {shaping_words(wanted)}: "
            f"give it as before, or delete {folder} and {run.recipe.out / 'training' / 'heads'}"
        )


def _samplers(run: Run, fit: Fit) -> tuple[ClipSampler, ClipSampler]:
    """Of training and of held-out clips"""
    return run.sampler(run.train, fit.length), run.sampler(run.validation, fit.length)


def _load_dynamics(run: Run, network: Dynamics, known: Dynamics) -> None:
    """All of known's weights, but for its actions where the two have others. What it sees besides, more frames or
    another stem, begins without effect; where pure noise was shown, it no longer is; of motion, what both have."""
    state, fresh = known.state_dict(), network.state_dict()
    more = (network.config.history - known.config.history) * network.config.token_dim
    state["tokens_in.weight"] = F.pad(state["tokens_in.weight"], (0, max(0, more)))
    stem, known_stem = ({k: v for k, v in x.items() if k.startswith("stem.")} for x in (fresh, state))
    if {k: v.shape for k, v in stem.items()} != {k: v.shape for k, v in known_stem.items()}:
        state = {key: value for key, value in state.items() if key not in known_stem} | stem
    if not has_actions(known.config, run.action_map()):
        run.say(f"  the actions of {run.recipe.source} are others: what these here do is learned anew")
        state = {key: value for key, value in state.items() if not key.startswith("action.")}
        state |= {key: value for key, value in fresh.items() if key.startswith("action.")}
    motion = {key for key in fresh if key.startswith("motion.")}
    state = {key: value for key, value in state.items() if key in motion or not key.startswith("motion.")}
    state |= {key: fresh[key] for key in motion - state.keys()}
    if network.config.cubic and not known.config.cubic:
        state["motion.cubic_share.bias"] = torch.full_like(state["motion.cubic_share.bias"], NO_SHARE)
    network.load_state_dict(state)


def _rollouts(run: Run) -> ClipSampler | None:
    """Held-out clips to look at while training: every action in them is known. None where there are none."""
    length = PROMPT + VALIDATION_HORIZON
    segments = known_segments(run.validation, (run.actions() != run.action_map().null()).any(-1))
    if (segments.lengths >= length).any():
        return run.sampler(segments, length)
    run.say(f"  no {length} frames in a row with known actions are held out: the dynamics is not validated")
    return None
