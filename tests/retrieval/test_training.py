"""The loss against a loop, batches as pure functions of (seed, step), and a run that resumes."""

import io
import json
import math
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rwkvsearch.data.tokenizer import Tokenizer
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.initialise import initialise
from rwkvsearch.retrieval.training.loop import Recipe, gradients, train
from rwkvsearch.retrieval.training.loss import MAX_LOG_SCALE, contrastive_loss
from rwkvsearch.retrieval.training.mixture import (
    Example,
    Source,
    augment,
    captioned,
    draw_batch,
    labelled,
)

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


def naive_loss(
    images: NDArray[np.float64], texts: NDArray[np.float64], log_scale: float, groups: Sequence[int]
) -> float:
    """The definition, one image and one text at a time, in float64."""
    scale = math.exp(min(max(log_scale, 0), math.log(100)))
    count, total = len(images), 0.0
    for one, other in ((images, texts), (texts, images)):
        for i in range(count):
            cosines = [
                float(one[i] @ x / np.linalg.norm(one[i]) / np.linalg.norm(x)) for x in other
            ]
            log_sum = math.log(sum(math.exp(scale * c) for c in cosines))
            own = [j for j in range(count) if groups[j] == groups[i]]
            total += sum(log_sum - scale * cosines[j] for j in own) / len(own)
    return total / count / 2


@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 1], [3, 3, 3, 3, 3]])
@pytest.mark.parametrize("log_scale", [-1.0, 0.0, 1.3, math.log(1 / 0.07), 9.0])
def test_loss_equals_the_loop(log_scale: float, groups: list[int]) -> None:
    images, texts = (torch.randn(5, 8) * 3 for _ in range(2))
    got = contrastive_loss(images, texts, torch.tensor(log_scale), torch.tensor(groups))
    wanted = naive_loss(images.double().numpy(), texts.double().numpy(), log_scale, groups)
    assert got.dtype == torch.float32 and got.shape == ()
    assert float(got) == pytest.approx(wanted, rel=2e-6)


def test_loss_by_hand() -> None:
    """Two pairs, cosines 1 and 0, scale e^0 = 1: log(e + 1) - 1 in every row and column."""
    eye, groups = torch.eye(2), torch.arange(2)
    got = contrastive_loss(eye, eye, torch.tensor(0.0), groups)
    assert float(got) == pytest.approx(math.log(math.e + 1) - 1)
    merged = contrastive_loss(eye, eye, torch.tensor(0.0), torch.zeros(2, dtype=torch.long))
    assert float(merged) == pytest.approx(math.log(math.e + 1) - 0.5)


def test_loss_ignores_how_long_features_are_and_how_groups_are_numbered() -> None:
    images, texts, scale = torch.randn(4, 8), torch.randn(4, 8), torch.tensor(1.0)
    one = contrastive_loss(images, texts, scale, torch.tensor([0, 1, 0, 2]))
    other = contrastive_loss(images * 7, texts * 0.1, scale, torch.tensor([5, 9, 5, 1]))
    torch.testing.assert_close(one, other)


def test_gradient_of_the_loss_reaches_everything() -> None:
    leaves = [torch.randn(4, 8), torch.randn(4, 8), torch.tensor(1.0)]
    leaves = [x.requires_grad_() for x in leaves]
    grads = torch.autograd.grad(contrastive_loss(*leaves, torch.tensor([0, 1, 0, 2])), leaves)
    assert all(g.isfinite().all() and g.any() for g in grads)
    beyond = torch.tensor(MAX_LOG_SCALE + 1, requires_grad=True)
    contrastive_loss(*leaves[:2], beyond, torch.arange(4)).backward()
    assert beyond.grad is not None and beyond.grad == 0


@pytest.fixture(scope="module")
def tokenize(tiny_config: ModelConfig) -> Tokenizer:
    return Tokenizer(tiny_config.text.vocabulary, tiny_config.text.context)


@pytest.fixture(scope="module")
def sources(pictures: list[Image.Image]) -> list[Source]:
    """Nine captioned pictures, four in every batch, and six labelled ones, three in every batch."""
    examples = [
        Example(picture, (f"picture number {n}", f"the {n} of nine"), f"file{n}")
        for n, picture in enumerate(pictures)
    ]
    classes = [
        Example(picture, ("a cat",) if n < 3 else ("a dog",), "cat" if n < 3 else "dog")
        for n, picture in enumerate(pictures[:6])
    ]
    return [Source(examples, 4), Source(classes, 3)]


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_gradients_of_parts_are_those_of_the_whole(
    tiny_config: ModelConfig, sources: list[Source], tokenize: Tokenizer, cores: int
) -> None:
    model = RwkvClip(tiny_config)
    initialise(model, 1)
    random = torch.Generator().manual_seed(2)
    for parameter in model.parameters():  # no branch may start at 0: its gradient would say nothing
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=random)
    batch = draw_batch(sources, tokenize, size=32, seed=0, step=0)
    with torch.autocast("cpu", torch.bfloat16):
        images, texts, _ = model(torch.from_numpy(batch.pixels), torch.from_numpy(batch.ids))
    loss = contrastive_loss(images, texts, model.logit_scale, torch.from_numpy(batch.groups))
    wanted = torch.autograd.grad(loss, list(model.parameters()))
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        gradients(model, batch)  # what is there already is replaced
        assert gradients(model, batch) == pytest.approx(loss.item(), rel=1e-5)
    finally:
        torch.set_num_threads(before)
    for parameter, grad in zip(model.parameters(), wanted, strict=True):
        assert parameter.grad is not None
        error = float((parameter.grad - grad).norm() / grad.norm())
        assert error < 2e-2, error  # bfloat16 sums in another order


class TestBatches:
    def test_shape(self, sources: list[Source], tokenize: Tokenizer) -> None:
        batch = draw_batch(sources, tokenize, size=24, seed=0, step=0)
        assert batch.pixels.shape == (7, 3, 24, 24) and batch.pixels.dtype == np.float32
        assert batch.ids.shape == (7, 12) and batch.groups.shape == (7,)

    def test_a_pure_function_of_seed_and_step(
        self, sources: list[Source], tokenize: Tokenizer
    ) -> None:
        def draw(seed: int, step: int) -> tuple[bytes, bytes, bytes]:
            np.random.seed(step)  # the state of the process is not part of it
            batch = draw_batch(sources, tokenize, size=16, seed=seed, step=step)
            return batch.pixels.tobytes(), batch.ids.tobytes(), batch.groups.tobytes()

        drawn = {(seed, step): draw(seed, step) for seed in (0, 1) for step in (0, 1, 2)}
        assert len(set(drawn.values())) == 6
        assert all(draw(*key) == drawn[key] for key in reversed(drawn))

    def test_pairs_stay_together(self, tokenize: Tokenizer) -> None:
        """Pictures of one grey each, texts that name it: the text of a row fits its pixels."""
        examples = [
            Example(Image.new("RGB", (20, 30), (n * 28,) * 3), (f"grey {n}",), str(n))
            for n in range(9)
        ]
        batch = draw_batch([Source(examples, 9)], tokenize, size=8, seed=0, step=3)
        names = [ids.tobytes() for ids in tokenize([f"grey {n}" for n in range(9)])]
        numbers = [names.index(ids.tobytes()) for ids in batch.ids]
        assert sorted(numbers) == list(range(9))  # none twice
        light = batch.pixels.mean((1, 2, 3))
        assert np.corrcoef(numbers, light)[0, 1] > 0.9

    def test_positives_of_one_group_share_a_number(
        self, sources: list[Source], tokenize: Tokenizer
    ) -> None:
        for step in range(5):
            batch = draw_batch(sources, tokenize, size=8, seed=0, step=step)
            assert len(set(batch.groups[:4])) == 4
            texts = [ids.tobytes() for ids in batch.ids[4:]]
            for i in range(3):
                for j in range(3):
                    same = batch.groups[4 + i] == batch.groups[4 + j]
                    assert same == (texts[i] == texts[j])

    def test_augmented_pictures_stay_pictures(self, pictures: list[Image.Image]) -> None:
        random = np.random.default_rng(0)
        for picture in (*pictures, Image.new("RGB", (500, 3)), Image.new("RGB", (1, 1))):
            for _ in range(10):
                pixels = augment(picture, 16, random)
                assert pixels.shape == (3, 16, 16) and pixels.dtype == np.float32
                assert np.abs(pixels).max() < 4


def test_captioned_examples() -> None:
    examples = captioned(SAMPLES, "test")
    assert len({example.group for example in examples}) == len(examples) >= 30
    assert all(e.image.mode == "RGB" and e.texts for e in examples)


def test_labelled_examples(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for key, label in (("0", "Sea_star, starfish"), ("1", "dog"), ("2", "Dog")):
            file = io.BytesIO()
            Image.new("RGB", (4, 4)).save(file, "PNG")
            for suffix, content in (("png", file.getvalue()), ("txt", label.encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    star, dog, other = labelled([tmp_path / "a.tar"])
    assert {"a Sea star", "a photo of a starfish"} <= set(star.texts) and len(star.texts) == 20
    assert dog.group == other.group != star.group


class TestInitialise:
    def test_deterministic(self, tiny_config: ModelConfig) -> None:
        states = []
        for seed in (0, 0, 1):
            model = RwkvClip(tiny_config)
            torch.rand(seed + 5)  # the state of the process is not part of it
            initialise(model, seed)
            states.append(model.state_dict())
        assert all(torch.equal(x, states[1][k]) for k, x in states[0].items())
        assert any(not torch.equal(x, states[2][k]) for k, x in states[0].items())

    def test_blocks_start_as_identity(self, tiny_config: ModelConfig) -> None:
        model = RwkvClip(tiny_config)
        initialise(model, 0)
        x = torch.randn(2, 12, 32)
        block = model.text.blocks[1]
        assert torch.equal(block(x), x)
        assert all(p.isfinite().all() for p in model.parameters())
        assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))

    def test_every_parameter_is_filled(self, tiny_config: ModelConfig) -> None:
        """None keeps what the constructor drew, but for the norms, which start at 1 and 0."""
        model = RwkvClip(tiny_config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" not in name:
                    parameter.fill_(torch.nan)
        initialise(model, 0)
        assert [k for k, p in model.named_parameters() if not p.isfinite().all()] == []


RECIPE = Recipe(steps=4, peak_rate=1e-2, warm_up=2, small_size=16, small_part=0.5)
Run = Callable[..., tuple[dict[str, Tensor], list[dict[str, float]]]]


@pytest.fixture
def run(sources: list[Source], tokenize: Tokenizer, tiny_config: ModelConfig) -> Run:
    """Train a fresh tiny model in a folder; return its weights and the log."""

    def run(
        folder: Path, recipe: Recipe = RECIPE, every: int = 2, stop_after: int | None = None
    ) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
        calls = 0

        def evaluate(model: RwkvClip) -> dict[str, float]:
            nonlocal calls
            calls += 1
            model.eval()
            if calls == stop_after:
                raise KeyboardInterrupt
            return {"scale": model.logit_scale.item()}

        model = RwkvClip(tiny_config)
        try:
            train(model, sources, tokenize, recipe, folder, evaluate=evaluate, every=every)
        except KeyboardInterrupt:
            return {}, []
        lines = (folder / "log.jsonl").read_text().splitlines()
        return dict(model.state_dict()), [json.loads(line) for line in lines]

    return run


class TestTraining:
    def test_a_stopped_run_goes_on_bit_for_bit(self, run: Run, tmp_path: Path) -> None:
        straight, log = run(tmp_path / "straight")
        assert [line["step"] for line in log] == [2, 4]
        run(tmp_path / "stopped", stop_after=1)
        assert torch.load(tmp_path / "stopped" / "checkpoint.pt", weights_only=True)["step"] == 2
        resumed, resumed_log = run(tmp_path / "stopped")
        assert [line["step"] for line in resumed_log] == [4]
        assert resumed_log[-1]["loss"] == log[-1]["loss"]
        assert all(torch.equal(resumed[key], x) for key, x in straight.items())

    def test_a_finished_run_is_left_alone(self, run: Run, tmp_path: Path) -> None:
        first, log = run(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "log.jsonl"]
        again, same_log = run(tmp_path)
        assert same_log == log and all(torch.equal(again[key], x) for key, x in first.items())

    def test_every_weight_moves(self, run: Run, tmp_path: Path, tiny_config: ModelConfig) -> None:
        trained, _ = run(tmp_path)
        start = RwkvClip(tiny_config)
        initialise(start, RECIPE.seed)
        still = [key for key, x in start.state_dict().items() if torch.equal(x, trained[key])]
        assert still == []

    def test_loss_falls(self, run: Run, tmp_path: Path) -> None:
        recipe = Recipe(steps=32, peak_rate=5e-3, warm_up=5, small_size=16, small_part=0.8)
        _, log = run(tmp_path, recipe, every=8)
        losses = [line["loss"] for line in log]
        assert losses[-1] < 0.75 * losses[0] and all(math.isfinite(x) for x in losses)


def test_rate() -> None:
    recipe = Recipe(steps=10, peak_rate=1.0, warm_up=4)
    rates = [recipe.rate(step) for step in range(10)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True) and 0 < rates[-1] < 0.1
    assert recipe.rate(10) == pytest.approx(0)


def test_image_size() -> None:
    recipe = Recipe(steps=10, small_size=80, small_part=0.7)
    assert [recipe.image_size(step, 112) for step in (0, 6, 7, 9)] == [80, 80, 112, 112]


def test_equal_texts_merge_groups(tokenize: Tokenizer) -> None:
    picture = Image.new("RGB", (16, 16))
    texts = ["a dog", "a cat", "a dog", "a bird", "a cow"]
    examples = [
        Example(picture, (text,), group)
        for text, group in zip(texts, ["1", "2", "3", "2", "5"], strict=True)
    ]
    batch = draw_batch([Source(examples, 5)], tokenize, size=16, seed=0, step=0)
    by_text = dict(zip(map(bytes, batch.ids), batch.groups.tolist(), strict=True))
    dog, cat, bird, cow = (
        by_text[bytes(ids)] for ids in tokenize(["a dog", *texts[1::2], "a cow"])
    )
    assert cat == bird and len({dog, cat, cow}) == 3
    assert sorted(np.unique(batch.groups, return_counts=True)[1].tolist()) == [1, 2, 2]
