"""Gradients in parts, from a cache, with checkpoints, by two processes: those of the whole."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rwkvsearch.data.tokenizer import Tokenizer
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.classes import Classes
from rwkvsearch.retrieval.training.config import Hardware, Objective
from rwkvsearch.retrieval.training.examples import Source
from rwkvsearch.retrieval.training.loss import (
    class_loss,
    contrastive_loss,
    relation_loss,
    target_loss,
)
from rwkvsearch.retrieval.training.mixture import Batch, make_batch, plan_batch
from rwkvsearch.retrieval.training.step import checkpoint_blocks, gradients
from rwkvsearch.retrieval.training.targets import Targets

EXACT = Hardware(precision="fp32", part=3)
ALL = Objective(
    contrast=0.7,
    targets="t",
    image=1.1,
    patch=0.9,
    text=0.8,
    relation=0.5,
    classes=0.6,
    sentences=4,
)
Make = Callable[..., Batch]


@pytest.fixture
def make(sources: list[Source], tokenize: Tokenizer, targets: Targets) -> Make:
    def make(part: int = 0, parts: int = 1) -> Batch:
        plan = plan_batch(sources, seed=0, step=0, sentences=targets.texts, extra=4)
        return make_batch(
            plan,
            tokenize,
            size=32,
            patch=8,
            seed=0,
            targets=targets,
            classes=Classes.read(sources, targets),
            part=part,
            parts=parts,
        )

    return make


def whole_loss(model: RwkvClip, batch: Batch, objective: Objective) -> Tensor:
    """The definition, in one piece."""
    tokens = model.image.tokens(torch.from_numpy(batch.pixels))
    images, texts = tokens.mean(1), model.text(torch.from_numpy(batch.ids))
    goals, words = batch.patch_targets, batch.text_targets
    assert goals is not None and words is not None
    assert batch.classes is not None and batch.class_rows is not None
    rows = torch.from_numpy(batch.class_rows)
    classed = rows >= 0
    assert 0 < classed.sum() < len(rows)
    pairs = batch.pairs
    groups = torch.from_numpy(batch.groups)
    return (
        objective.contrast
        * contrastive_loss(images[:pairs], texts[:pairs], model.logit_scale, groups)
        + objective.image * target_loss(images, goals.mean(1))
        + objective.patch * target_loss(tokens, goals)
        + objective.text * target_loss(texts, words)
        + objective.relation
        * relation_loss(images[:pairs], texts[:pairs], goals.mean(1)[:pairs], words[:pairs])
        + objective.classes
        * class_loss(images[classed], rows[classed], batch.classes.targets)
        / classed.sum()
    )


def check(model: RwkvClip, wanted: dict[str, Tensor], tolerance: float) -> None:
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        error = float((parameter.grad - wanted[name]).norm() / wanted[name].norm())
        assert error < tolerance, (name, error)


def gradients_of_the_whole(
    model: RwkvClip, batch: Batch, objective: Objective
) -> tuple[float, dict[str, Tensor]]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    loss = whole_loss(model, batch, objective)
    grads = torch.autograd.grad(loss, parameters)
    return loss.item(), dict(zip(names, grads, strict=True))


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("cached", [False, True])
def test_parts_and_cache(moving_model: RwkvClip, make: Make, cores: int, cached: bool) -> None:
    batch = make()
    loss, wanted = gradients_of_the_whole(moving_model, batch, ALL)
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        gradients(moving_model, batch, ALL, EXACT)  # what is there already is replaced
        figures = gradients(moving_model, batch, ALL, replace(EXACT, cached=cached))
    finally:
        torch.set_num_threads(before)
    assert figures["loss"] == pytest.approx(loss, rel=1e-5)
    assert sorted(figures) == ["classes", "contrast", "image", "loss", "patch", "relation", "text"]
    check(moving_model, wanted, 1e-4)


def test_checkpointing(moving_model: RwkvClip, make: Make) -> None:
    batch = make()
    names = list(moving_model.state_dict())
    _, wanted = gradients_of_the_whole(moving_model, batch, ALL)
    checkpoint_blocks(moving_model)
    gradients(moving_model, batch, ALL, replace(EXACT, checkpointing=True))
    check(moving_model, wanted, 1e-4)
    assert list(moving_model.state_dict()) == names


def test_bfloat16_is_near(moving_model: RwkvClip, make: Make) -> None:
    batch, objective = make(), Objective()
    loss, wanted = gradients_of_the_whole(moving_model, batch, replace(ALL, image=0.0))
    _, wanted = gradients_of_the_whole(
        moving_model,
        batch,
        replace(ALL, contrast=1.0, image=0, patch=0, text=0, relation=0, classes=0),
    )
    figures = gradients(moving_model, batch, objective, Hardware(part=3))
    assert sorted(figures) == ["contrast", "loss"] and loss > 0
    check(moving_model, wanted, 0.1)


@pytest.mark.parametrize("frozen", ["image", "text"])
def test_a_frozen_tower_gets_no_gradient(moving_model: RwkvClip, make: Make, frozen: str) -> None:
    batch = make()
    _, wanted = gradients_of_the_whole(moving_model, batch, ALL)
    for name, parameter in moving_model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    gradients(moving_model, batch, ALL, EXACT)
    for name, parameter in moving_model.named_parameters():
        if name.startswith(frozen):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-3, atol=1e-6)


def test_without_contrast(moving_model: RwkvClip, make: Make) -> None:
    figures = gradients(moving_model, make(), ALL, EXACT, contrast=False)
    assert "contrast" not in figures and moving_model.logit_scale.grad is None


PROCESS = """
import sys
from pathlib import Path
import torch
from torch import distributed
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.processes import Processes
from rwkvsearch.retrieval.training.step import gradients

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
meeting = f"file://{folder / 'meet'}"
distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
config, state, batches, objective, hardware = torch.load(folder / "work.pt", weights_only=False)
model = RwkvClip(config)
model.load_state_dict(state)
processes = Processes(rank, 2)
figures = gradients(model, batches[rank], objective, hardware, processes=processes)
grads = {name: parameter.grad for name, parameter in model.named_parameters()}
torch.save((figures, grads), folder / f"{rank}.pt")
distributed.destroy_process_group()
"""


def test_two_processes_equal_one(
    moving_model: RwkvClip, make: Make, tmp_path: Path, tiny_config: ModelConfig
) -> None:
    """Seven pairs and four sentences, so that the two shares are not equal."""
    batches = [make(part, 2) for part in range(2)]
    assert [batch.pairs for batch in batches] == [3, 4]
    work = (tiny_config, moving_model.state_dict(), batches, ALL, EXACT)
    torch.save(work, tmp_path / "work.pt")
    running = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), str(tmp_path)])
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    loss, wanted = gradients_of_the_whole(moving_model, make(), ALL)
    both = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for figures, grads in both:
        assert figures["loss"] == pytest.approx(loss, rel=1e-5)
        for name, grad in grads.items():
            torch.testing.assert_close(grad, wanted[name], rtol=1e-3, atol=2e-6)
    assert all(torch.equal(both[0][1][name], grad) for name, grad in both[1][1].items())
