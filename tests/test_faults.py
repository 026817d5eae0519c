"""What happens to a training besides a kill: a full disk, little memory, bad batches, a second run, more processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from safetensors.torch import load_file  # noqa: E402
from share_training import TOLERANCE, difference, start, without_last_step  # noqa: E402
from test_training import STEPS, assert_equal_training, micro, newest, step_of, train  # noqa: E402

from worldgen.bundle import WEIGHTS  # noqa: E402
from worldgen.data import cache as cache_module  # noqa: E402
from worldgen.data.cache import open_cache  # noqa: E402
from worldgen.errors import InputError, RunError  # noqa: E402
from worldgen.training import checkpoint, presets  # noqa: E402
from worldgen.training import fit as fit_module  # noqa: E402
from worldgen.training.folder_lock import sole_training  # noqa: E402
from worldgen.training.pipeline import train_world  # noqa: E402
from worldgen.training.recipe import Recipe  # noqa: E402
from worldgen.training.tokenizer import TokenizerStage  # noqa: E402


@pytest.fixture(autouse=True)
def micro_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "micro", micro)


@pytest.fixture(scope="module")
def tokenizer_alone(tmp_path_factory: pytest.TempPathFactory, toy_recordings: Path) -> Path:
    """A tokenizer trained without a fault. Read only."""
    out = tmp_path_factory.mktemp("alone") / "toy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "micro", micro)
        train(toy_recordings, out, stages=("tokenizer",))
    return out


def spoil_step(monkeypatch: pytest.MonkeyPatch, step: int, attempts: int) -> None:
    """The first `attempts` batches that are drawn for a step give NaN."""
    batch, tried = TokenizerStage.batch, [0]

    def spoiled(self, rng):
        drawn = batch(self, rng)
        entropy = rng.bit_generator.seed_seq.entropy
        self.is_spoiled = entropy[2] == step and tried[0] < attempts
        tried[0] += self.is_spoiled
        return drawn

    loss = TokenizerStage.loss

    def maybe_nan(self, *arguments):
        value, figures = loss(self, *arguments)
        return (value * float("nan") if self.is_spoiled else value), figures

    monkeypatch.setattr(TokenizerStage, "batch", spoiled)
    monkeypatch.setattr(TokenizerStage, "loss", maybe_nan)


def test_a_batch_that_is_bad_again_after_resuming_gives_way_to_another(toy_recordings, tmp_path, monkeypatch):
    out = tmp_path / "toy"
    with monkeypatch.context() as patch, pytest.raises(RunError, match="nan.*step|step 3 is nan"):
        spoil_step(patch, 3, 1)
        train(toy_recordings, out, stages=("tokenizer",))
    said: list[str] = []
    with monkeypatch.context() as patch:
        spoil_step(patch, 3, 1)
        recipe = Recipe(toy_recordings, out, preset="micro", stages=("tokenizer",), resume=True)
        train_world(recipe, say=said.append)
    assert any("another batch is drawn" in line for line in said) and step_of(out, "tokenizer") == STEPS
    for tensor in load_file(newest(out, "tokenizer") / "state.safetensors").values():
        assert tensor.isfinite().all()


def test_a_training_that_diverges_in_every_batch_stops(toy_recordings, tmp_path, monkeypatch):
    out = tmp_path / "toy"
    for match in ("step 3", "in four batches"):
        with monkeypatch.context() as patch, pytest.raises(RunError, match=match):
            spoil_step(patch, 3, 100)
            train(toy_recordings, out, stages=("tokenizer",), resume=match != "step 3")
    assert step_of(out, "tokenizer") == 3


def limit_memory(monkeypatch: pytest.MonkeyPatch, clips: int) -> None:
    loss = TokenizerStage.loss

    def limited(self, network, batch, *arguments):
        if len(batch["frames"]) > clips:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return loss(self, network, batch, *arguments)

    monkeypatch.setattr(TokenizerStage, "loss", limited)


def test_too_little_memory_divides_the_batch_and_says_so(toy_recordings, tmp_path, monkeypatch):
    """A mean over parts is the mean: the same clips are seen, and a resumed run keeps the parts."""
    monkeypatch.setitem(presets.PRESETS, "micro", lambda: micro(batch=16))
    limit_memory(monkeypatch, 4)
    said: list[str] = []
    recipe = Recipe(toy_recordings, tmp_path / "toy", preset="micro", stages=("tokenizer",), steps=2)
    train_world(recipe, say=said.append)
    assert [line.strip() for line in said if "out of memory" in line] == [
        "out of memory: batches are made of 2 parts of 8 clips from here on",
        "out of memory: batches are made of 4 parts of 4 clips from here on",
    ]
    assert json.loads((newest(tmp_path / "toy", "tokenizer") / "state.json").read_text())["parts"] == 4
    again: list[str] = []
    train_world(replace(recipe, resume=True, steps=4), say=again.append)
    assert step_of(tmp_path / "toy", "tokenizer") == 4 and not any("out of memory" in line for line in again)


def test_with_memory_for_no_part_at_all_it_stops_with_the_way_out(toy_recordings, tmp_path, monkeypatch):
    limit_memory(monkeypatch, 1)
    with pytest.raises(RunError, match="out of memory with 4 clips.*smaller preset"):
        train(toy_recordings, tmp_path / "toy", stages=("tokenizer",))


def test_two_runs_into_one_folder_are_refused(toy_recordings, tmp_path):
    out = tmp_path / "toy"
    with sole_training(out), pytest.raises(InputError, match="another run trains into"):
        train(toy_recordings, out, stages=("tokenizer",))
    train(toy_recordings, out, stages=("tokenizer",))  # the lock went with its holder


def test_a_lock_of_a_killed_run_is_no_lock(toy_recordings, tmp_path):
    code = (
        "import sys,os,signal; from pathlib import Path; from worldgen.training.folder_lock import sole_training\n"
        "with sole_training(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "toy")])
    assert (tmp_path / "toy" / "training" / ".lock").exists()
    train(toy_recordings, tmp_path / "toy", stages=("tokenizer",), steps=1)


def test_a_full_disk_keeps_the_last_checkpoint_and_resumes(toy_recordings, tmp_path, tokenizer_alone, monkeypatch):
    """The real thing, a file system of 1 MB, is in tests/full_disk.py; here the third checkpoint does not fit."""
    out, save, calls = tmp_path / "toy", checkpoint.save_file, [0]

    def full(tensors, path):
        calls[0] += 1
        if calls[0] == 3:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(tensors, path)

    with monkeypatch.context() as patch, pytest.raises(RunError, match="disk is full.*--resume"):
        patch.setattr(checkpoint, "save_file", full)
        train(toy_recordings, out, stages=("tokenizer",))
    folder = out / "training" / "tokenizer"
    assert step_of(out, "tokenizer") == 2 and not list(folder.glob(".checkpoint*"))
    train(toy_recordings, out, stages=("tokenizer",), resume=True)
    assert_equal_training(tokenizer_alone, out, "tokenizer")


def test_a_tokenizer_that_changed_makes_the_stages_after_it_train_again(toy_recordings, tmp_path):
    out = tmp_path / "toy"
    train(toy_recordings, out)
    before = {stage: (out / stage / WEIGHTS).read_bytes() for stage in ("tokenizer", "dynamics", "heads")}
    train(toy_recordings, out, stages=("tokenizer",), steps=STEPS + 2, resume=True)
    said: list[str] = []
    train_world(Recipe(toy_recordings, out, preset="micro", resume=True), say=said.append)
    stale = [line for line in said if "trained again" in line]
    assert [line.split(":")[0] for line in stale] == ["dynamics", "heads"] and "tokenizer" in stale[0]
    after = {stage: (out / stage / WEIGHTS).read_bytes() for stage in before}
    assert all(before[stage] != after[stage] for stage in before)
    said.clear()
    train_world(Recipe(toy_recordings, out, preset="micro", resume=True), say=said.append)
    assert not any("trained again" in line for line in said)


def test_a_clock_that_jumps_changes_nothing(toy_recordings, tmp_path, tokenizer_alone, monkeypatch):
    import time

    monkeypatch.setattr(time, "time", lambda: 4e9)
    train(toy_recordings, tmp_path / "toy", stages=("tokenizer",))
    assert_equal_training(tokenizer_alone, tmp_path / "toy", "tokenizer")


def test_a_clock_that_jumps_does_not_remove_a_cache_that_is_being_built(toy_recordings, tmp_path, monkeypatch):
    """Another process is building; this one believes that years have passed."""
    root = tmp_path / "cache"
    (root / ".build-other").mkdir(parents=True)
    with cache_module.build_lock(root / ".build-other"):
        monkeypatch.setattr(cache_module.time, "time", lambda: 4e9)
        open_cache(toy_recordings, height=16, width=16, cache_dir=root)
        assert (root / ".build-other").exists()
    open_cache(toy_recordings, height=8, width=16, cache_dir=root)
    assert not (root / ".build-other").exists()


class Slope:
    """The least that is a stage: a step takes a second of a clock that the test turns."""

    name = "slope"

    def __init__(self, clock: list[float]):
        self.network, self.clock = torch.nn.Linear(2, 1), clock

    def batch(self, rng):
        return {"x": torch.from_numpy(rng.random((4, 2), np.float32))}

    def loss(self, network, batch, generator, progress):
        self.clock[0] += 1
        return network(batch["x"]).square().mean(), {}

    def validate(self, network):
        return {}, None

    def finish(self, network):
        pass


def test_checkpoints_cost_two_percent_of_the_time_at_most_on_a_slow_disk(tmp_path, monkeypatch):
    clock, spent = [0.0], [0.0]

    def slow(*arguments):
        clock[0] += 5
        spent[0] += 5

    monkeypatch.setattr(fit_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(fit_module, "save_checkpoint", slow)
    monkeypatch.setattr(fit_module, "save_network", lambda *arguments: None)
    fit = fit_module.Fit(steps=3000, batch=4, length=2, learning_rate=1e-3, log_seconds=1e9)
    fit_module.train_stage(Slope(clock), fit, tmp_path, resume=False, say=lambda text: None)
    assert 5 * 8 <= spent[0] <= 0.02 * clock[0]
    rows = [json.loads(line) for line in (tmp_path / "training" / "slope" / "log.jsonl").read_text().splitlines()]
    assert 0.01 < [row for row in rows if row["kind"] == "train"][-1]["checkpoint_share"] < 0.02


def test_checkpoints_execute_nothing_and_leave_their_folder_alone(toy_recordings, tmp_path, tokenizer_alone):
    """A pickle where weights should be, names that climb out of the folder: damaged, not obeyed."""
    import pickle

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "pwned"),))

    out = Path(shutil.copytree(tokenizer_alone, tmp_path / "toy"))
    for path in (out / "training" / "tokenizer").glob("checkpoint-*"):
        (path / "state.safetensors").write_bytes(pickle.dumps(Evil()))
        facts = json.loads((path / "state.json").read_text())
        (path / "state.json").write_text(
            json.dumps({**facts, "sha256": checkpoint.file_hash(path / "state.safetensors")})
        )
    with pytest.raises(InputError, match="checkpoint"):
        train(toy_recordings, out, stages=("tokenizer",), resume=True)
    assert not (tmp_path / "pwned").exists()


# Several processes. All stages, Muon, and resuming in every direction: tests/share_training.py

SHARED = ("tokenizer", "dynamics", "heads")


@pytest.fixture(scope="module")
def by_one(toy_recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by one process that computes the two parts of every batch one after the other. Read only."""
    out = tmp_path_factory.mktemp("shared") / "one"
    start(toy_recordings, out, "--parts", "2", *THREE_STEPS)
    return out


THREE_STEPS = ("--steps", "3", "--stages", *SHARED)
several = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")


@pytest.mark.slow
@several
def test_two_processes_do_what_one_does(toy_recordings, tmp_path, by_one):
    start(toy_recordings, tmp_path / "two", *THREE_STEPS, processes=2)
    assert difference(by_one, tmp_path / "two", SHARED) == 0


@pytest.mark.slow
@several
@pytest.mark.skipif(not os.environ.get("WORLDGEN_TEST_SHARING"), reason="a minute: set WORLDGEN_TEST_SHARING=1")
def test_two_processes_that_share_the_network_out_go_on_from_one_and_one_goes_on_from_them(
    toy_recordings, tmp_path, by_one
):
    two = without_last_step(by_one, tmp_path / "two")
    start(toy_recordings, two, "--shard", "--resume", *THREE_STEPS, processes=2)
    assert difference(by_one, two, SHARED) < TOLERANCE
    again = without_last_step(two, tmp_path / "again")
    start(toy_recordings, again, "--resume", *THREE_STEPS)
    assert difference(by_one, again, SHARED) < TOLERANCE
