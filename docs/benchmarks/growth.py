"""Time and memory of an image tower as the picture grows: `python docs/benchmarks/growth.py`.

Ours of the B/16 shape beside ViT-B/16 with torch's two kinds of attention, random weights, position
embeddings resized; then what mixes tokens alone. Memory is what a forward adds at its peak: on a
CPU resident memory of a process of its own, by `/proc/self/clear_refs` of Linux, with freed blocks
given back at once; on a GPU what torch's allocator has given out.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from report import Table, as_json, machine, tell  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

from rwkvsearch.kernels.bi_wkv import bi_wkv  # noqa: E402
from rwkvsearch.retrieval.speed import MODELS, ClipImage, packed_clip, random_model  # noqa: E402
from rwkvsearch.retrieval.speed_times import Effort, Run, race  # noqa: E402

PATCH = 16
SIZES = (112, 160, 224, 288, 336, 384, 448)
GPU_SIZES = (*SIZES, 672, 1024)
OURS, MATH, FUSED = "ours", "ViT, plain attention", "ViT, fused attention"
NAMES = (OURS, MATH, FUSED)
COLOURS = {OURS: "#1a7f5a", MATH: "#b2182b", FUSED: "#e08214"}
KINDS = {
    MATH: [SDPBackend.MATH],
    FUSED: [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION],
}
HEADS, WIDTH = 12, 768
"""Of ViT-B's attention; Bi-WKV of ours has 8 heads of 80."""
PLOT = Path(__file__).with_name("growth.png")
Make = Callable[[str, int], Run]
"""A contender by name and the size of the picture, in pixels."""


@dataclass(frozen=True)
class Setting:
    """Where and in what to compute."""

    device: torch.device
    half: bool
    batch: int

    def wait(self) -> None:
        """Return when the device has done all that it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensors that only mix tokens."""
        return torch.bfloat16 if self.half else torch.float32


def towers(setting: Setting) -> Make:
    """The whole image towers, as an encoder runs them: on a CPU with packed products."""
    model, clip = random_model(MODELS["b16"]), ClipImage(PATCH).eval().requires_grad_(False)
    usual = clip.position
    vit: nn.Module = clip
    if setting.device.type == "cpu":
        from rwkvsearch.retrieval.rwkv_clip.packed import pack

        ours = pack(model, "bf16" if setting.half else "fp32").image
        vit = packed_clip(clip, setting.dtype)
    else:
        ours, vit = model.image.to(setting.device), copy.deepcopy(clip).to(setting.device)

    def make(name: str, size: int) -> Run:
        pixels = torch.randn(setting.batch, 3, size, size, device=setting.device)
        position = resized(usual, size // PATCH).to(setting.device)
        cast = torch.autocast(
            setting.device.type, torch.bfloat16, enabled=setting.half and pixels.is_cuda
        )

        @torch.inference_mode()
        def run() -> object:
            if name == OURS:
                with cast:
                    return ours(pixels)
            vit.position = nn.Parameter(position, requires_grad=False)
            with cast, sdpa_kernel(KINDS[name]):
                return vit(pixels)

        return run

    return make


def mixers(setting: Setting) -> Make:
    """Only what mixes tokens, of one block: Bi-WKV and attention."""

    def make(name: str, size: int) -> Run:
        tokens = (size // PATCH) ** 2
        random = partial(torch.randn, device=setting.device, dtype=setting.dtype)
        if name == OURS:
            r, k, v = (random(setting.batch, tokens, 8, 80) for _ in range(3))
            w, u = torch.randn(r.shape, device=r.device), torch.randn(8, 80, device=r.device)
            return lambda: bi_wkv(r, k, v, w, u)
        shape = (setting.batch, HEADS, tokens + 1, WIDTH // HEADS)
        q, k, v = (random(shape) for _ in range(3))

        def run() -> Tensor:
            with sdpa_kernel(KINDS[name]):
                return functional.scaled_dot_product_attention(q, k, v)

        return run

    return make


def resized(position: Tensor, rows: int) -> Tensor:
    """Position embeddings `[1, 1 + T, C]` for `rows` times `rows` patches, the first one kept."""
    usual, width = round((position.shape[1] - 1) ** 0.5), position.shape[2]
    grid = position[:, 1:].view(1, usual, usual, width).movedim(-1, 1)
    grid = functional.interpolate(grid, (rows, rows), mode="bicubic")
    return torch.cat([position[:, :1], grid.flatten(2).mT], 1)


def times(
    make: Make, setting: Setting, sizes: Sequence[int], effort: Effort
) -> dict[str, list[float]]:
    """Milliseconds of a forward of each contender at each size, medians of rounds in turn."""
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for size in sizes:
        tell(f"growth: {size} pixels")
        with torch.inference_mode():
            raced = race([make(name, size) for name in NAMES], effort, setting.wait)
        for name, each in zip(NAMES, raced, strict=True):
            # The processor's time says more on a shared machine; a GPU's own time is on the clock.
            spent = each.wall if setting.device.type == "cuda" else each.processor
            found[name].append(1e3 * float(np.median(spent)))
    return found


def peaks(setting: Setting, sizes: Sequence[int]) -> dict[str, list[float]]:
    """Megabytes that a forward of each tower adds at its peak, at each size."""
    if setting.device.type == "cuda":
        make = towers(setting)
        return {name: [_gpu_peak(make(name, size), setting) for size in sizes] for name in NAMES}
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    found: dict[str, list[float]] = {}
    for name in NAMES:
        tell(f"growth: memory of {name}")
        words = [sys.executable, __file__, "--batch", str(setting.batch), "--memory-of", name]
        words += ["--sizes", *map(str, sizes), *(["--half"] if setting.half else [])]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        found[name] = [float(value) for value in json.loads(done.stdout)]
    return found


def _gpu_peak(run: Run, setting: Setting) -> float:
    run()
    setting.wait()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(setting.device)
    torch.cuda.reset_peak_memory_stats(setting.device)
    run()
    setting.wait()
    return (torch.cuda.max_memory_allocated(setting.device) - before) / 1e6


def cpu_peaks(name: str, setting: Setting, sizes: Sequence[int]) -> list[float]:
    """As `peaks`, of one contender in this process."""
    make = towers(setting)
    found = []
    for size in sizes:
        run = make(name, size)
        run()  # what is made once: threads, compiled code
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        run()
        found.append((_status("VmHWM") - before) / 1e3)
    return found


def _status(key: str) -> int:
    """A figure of this process in kB."""
    match = re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert match
    return int(match[1])


def slope(tokens: Sequence[int], values: Sequence[float]) -> float:
    """The exponent p of a fit of `values` by tokens^p: 1 is linear growth, 2 quadratic."""
    return float(np.polyfit(np.log(tokens), np.log(np.maximum(values, 1e-3)), 1)[0])


def table(title: str, sizes: Sequence[int], found: dict[str, list[float]], last: int) -> Table:
    """A row for each size, then the exponents over all sizes and over the last few."""
    made = Table(title, ("pixels", "tokens", *NAMES, "plain to ours", "fused to ours"))
    tokens = [(size // PATCH) ** 2 for size in sizes]
    for at, size in enumerate(sizes):
        values = [found[name][at] for name in NAMES]
        made.rows.append([size, tokens[at], *values, values[1] / values[0], values[2] / values[0]])
    for name, part in (("exponent", sizes), (f"exponent, last {last}", sizes[-last:])):
        few = len(part)
        slopes = [slope(tokens[-few:], found[each][-few:]) for each in NAMES]
        made.rows.append([name, None, *slopes, None, None])
    return made


def plot(sizes: Sequence[int], panels: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw one panel for each of `panels`, both axes logarithmic."""
    import matplotlib
    from PIL import Image

    matplotlib.use("agg")
    from matplotlib import pyplot

    tokens = [(size // PATCH) ** 2 for size in sizes]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(10, 3.4), layout="constrained")
    for axis, (title, found) in zip(axes, panels.items(), strict=True):
        for name in NAMES:
            label = f"{name}: T^{slope(tokens, found[name]):.2f}"
            axis.loglog(tokens, found[name], "o-", ms=3, color=COLOURS[name], label=label)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("tokens T", fontsize=8)
        axis.set_xticks(tokens, [str(number) for number in tokens], fontsize=7, rotation=45)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
    with Image.open(path) as drawn:
        drawn.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path, optimize=True)


def main() -> None:
    """Read the options, measure, print the tables and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--half", action="store_true", help="bfloat16")
    parser.add_argument("--sizes", type=int, nargs="+", help="pixels, multiples of 16")
    parser.add_argument("--seconds", type=float, default=20, help="for each size")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, default=PLOT)
    parser.add_argument("--memory-of", choices=NAMES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    setting = Setting(torch.device(asked.device), asked.half, asked.batch)
    sizes = asked.sizes or (GPU_SIZES if setting.device.type == "cuda" else SIZES)
    if asked.memory_of:
        sys.stdout.write(json.dumps(cpu_peaks(asked.memory_of, setting, sizes)))
        return
    effort = Effort(asked.seconds, least=3)
    clock = "ms on the clock" if setting.device.type == "cuda" else "ms of processor"
    panels = {
        f"mixing of tokens alone, {clock}": times(mixers(setting), setting, sizes, effort),
        f"whole image tower, {clock}": times(towers(setting), setting, sizes, effort),
        "whole image tower, MB more at the peak": peaks(setting, sizes),
    }
    kind = f"batch {setting.batch}, {'bf16' if setting.half else 'fp32'}, {asked.device}"
    last = max(2, len(sizes) // 2)
    made = [table(f"{title}, {kind}", sizes, found, last) for title, found in panels.items()]
    if asked.json:
        sys.stdout.write(json.dumps(as_json(made), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(one.markdown() for one in made) + json.dumps(machine()) + "\n")
    if find_spec("matplotlib"):
        plot(sizes, panels, asked.plot)
    else:
        tell("no plot: matplotlib is not installed")


if __name__ == "__main__":
    main()
