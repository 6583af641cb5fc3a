"""The comparison runs, and its transformers have the shape of CLIP's."""

import sys

import pytest
import torch

from rwkvsearch.retrieval import speed
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig


def test_transformers_have_the_size_of_clip() -> None:
    """ViT-B/32: 87.8M parameters for images, 63.4M for texts (open_clip)."""
    with torch.device("meta"):
        towers = speed.ClipImage(32), speed.ClipText()
    counts = [sum(p.numel() for p in tower.parameters()) / 1e6 for tower in towers]
    assert counts == pytest.approx([87.8, 63.4], abs=0.1)


def test_a_text_does_not_see_what_comes_after_its_end() -> None:
    tower = speed.ClipText().eval()
    ids = torch.randint(1, 400, (2, 77), generator=torch.Generator().manual_seed(0))
    ids[:, 5] = 49407
    changed = ids.clone()
    changed[:, 6:] = 1
    with torch.inference_mode():
        torch.testing.assert_close(tower(ids), tower(changed))


def test_the_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_config: ModelConfig
) -> None:
    monkeypatch.setattr(speed, "MODELS", {"starter": tiny_config})
    arguments = ["--model", "starter", "--batch", "1", "--rounds", "1", "--threads"]
    monkeypatch.setattr(sys, "argv", ["speed", *arguments, str(torch.get_num_threads())])
    speed.main()
    lines = capsys.readouterr().out.splitlines()
    ratios = [line[34:42] for line in lines if line.startswith(("CLIP", "ours"))]
    assert len(ratios) == 12 and ratios[0].strip() == ratios[6].strip() == "1.00"
    assert all(float(ratio) > 0 for ratio in ratios)
