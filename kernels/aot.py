"""Compile the Triton kernels without a GPU and account for what an H100 would do with them.

`python -m rwkvsearch.kernels.aot` prints registers, spills and shared memory of every shipped
configuration, then bytes, bounds and an instruction count for the shapes of the official models.
Nothing here is a measurement: the estimate is instructions over issue slots, never reached in full.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from rwkvsearch.kernels.fused import (
    CHUNK,
    channel_parts,
    forward_kernel,
    forward_warps,
    launch_options,
)
from rwkvsearch.kernels.fused_backward import backward_options, decay_kernel, gradient_kernel

SIZES = (16, 32, 64, 80, 128)
KERNELS = ("forward", "gradient", "decay")
DTYPES = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Types of r, k, v and their gradients, bytes each; w, u, y and gy are float32."""

# H100 SXM, from its data sheet: bytes and operations a second, processors, clock at boost.
MEMORY, TF32, FP32 = 3.35e12, 495e12, 67e12
PROCESSORS, ISSUES, CLOCK = 132, 4, 1.755e9
REGISTERS, SHARED, WARPS = 65536, 227 * 1024, 64

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
LEVEL_TRIPS = 4
INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)(.*)")


@dataclass(frozen=True)
class Binary:
    """One compiled kernel; `programs` is how many fit on a processor of an H100 at once."""

    kernel: str
    size: int
    dtype: str
    arch: int
    registers: int
    spilled_bytes: int
    shared_bytes: int
    warps: int
    programs: int
    sass: str


@dataclass(frozen=True)
class Shape:
    """A batch: B items, T tokens, H heads of N channels."""

    batch: int
    tokens: int
    heads: int
    size: int

    @property
    def chunks(self) -> int:
        """Chunks of 16 tokens, the last one perhaps partly empty."""
        return -(-self.tokens // int(CHUNK.value))


SHAPES = (Shape(256, 49, 8, 80), Shape(256, 77, 10, 64), Shape(256, 196, 8, 80))


@dataclass(frozen=True)
class Account:
    """What one layer costs on an H100: `bytes`, and microseconds by each resource alone."""

    shape: Shape
    direction: str
    dtype: str
    bytes: int
    memory_us: float
    tensor_us: float
    issue_us: float
    scan_us: float

    @property
    def estimate_us(self) -> float:
        """The slowest resource, everything else hidden behind it."""
        return max(self.memory_us, self.tensor_us, self.issue_us)


@cache
def compiled(kernel: str, size: int, dtype: str, arch: int) -> Binary:
    """Compile a kernel in its shipped configuration for `sm_<arch>`; seconds each."""
    function = {"forward": forward_kernel, "gradient": gradient_kernel, "decay": decay_kernel}
    forward = kernel == "forward"
    options = launch_options(forward_warps(size)) if forward else backward_options(size)
    source = _source(function[kernel], size, dtype)
    binary = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        usage = _tool("cuobjdump", "--dump-resource-usage", file.name)
        sass = _tool("nvdisasm", "-c", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", usage)
    if found is None:
        raise RuntimeError(f"cuobjdump printed no resource usage: {usage.strip()[:200]}")
    registers, stack, static, local = (int(x) for x in found.groups())
    shared, warps = max(binary.metadata.shared, static), options["num_warps"]
    programs = min(
        32, WARPS // warps, REGISTERS // (-(-registers // 8) * 8 * 32 * warps),
        SHARED // (shared + 1024),
    )  # fmt: skip
    return Binary(
        kernel, size, dtype, arch, registers, stack + local, shared, warps, programs, sass
    )


def account(shape: Shape, direction: str, dtype: str) -> Account:
    """Account for the forward or backward pass of one layer, from the binary for sm_90."""
    width, elements = DTYPES[dtype], shape.batch * shape.tokens * shape.heads * shape.size
    forward = 3 * width + 4 + 4  # r, k, v, w, y
    moved = elements * forward
    kernels = {"forward": 1}
    if direction == "backward":
        gradient = 3 * width + 4 + 4 + width + 4  # r, k, v, w, gy, one gradient, its share
        moved = elements * (2 * width + 4 + 4 + width + 2 * gradient + 4 + 8 + 4)
        kernels = {"forward": 1, "gradient": 2, "decay": 1}
    issued = products = 0.0
    programs = shape.batch * shape.heads * shape.chunks
    for kernel, times in kernels.items():
        binary = compiled(kernel, shape.size, dtype, 90)
        counts = [_executed(binary, shape, kind) for kind in ("", "HMMA")]
        issued += counts[0] * times * programs * binary.warps
        products += counts[1] * times * programs * binary.warps
    scans = 6 if direction == "forward" else 16  # multiply-adds per token and element of a state
    return Account(
        shape, direction, dtype, moved,
        memory_us=moved / MEMORY * 1e6,
        tensor_us=products * 2 * 16 * 8 * 8 / TF32 * 1e6,
        issue_us=issued / (PROCESSORS * ISSUES * CLOCK) * 1e6,
        scan_us=elements * shape.size * scans * 2 / FP32 * 1e6,
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m rwkvsearch.kernels.aot", description=__doc__)
    parser.add_argument("--arch", type=int, nargs="+", default=[80, 90], help="compute capability")
    parser.add_argument("--size", type=int, nargs="+", default=SIZES, help="channels of a head")
    parser.add_argument("--dtype", nargs="+", default=["fp32", "bf16"], choices=DTYPES)
    parser.add_argument("--no-account", action="store_true", help="registers and spills only")
    options = parser.parse_args(arguments)
    write = sys.stdout.write
    write("kernel     N  dtype   sm  registers  spilled  shared  warps  programs/SM\n")
    for arch in options.arch:
        for kernel in KERNELS:
            for size in options.size:
                for dtype in options.dtype:
                    x = compiled(kernel, size, dtype, arch)
                    write(
                        f"{kernel:8} {size:3}  {dtype:5} {arch:4} {x.registers:10} "
                        f"{x.spilled_bytes:8} {x.shared_bytes:7} {x.warps:6} {x.programs:12}\n"
                    )
    if options.no_account:
        return
    write("\nB    T    H x N  pass      dtype     MB  memory  tensor   issue    scan  (us, H100)\n")
    for shape in SHAPES:
        for direction in ("forward", "backward"):
            for dtype in options.dtype:
                a = account(shape, direction, dtype)
                write(
                    f"{shape.batch} {shape.tokens:4} {shape.heads:4}x{shape.size:<3} "
                    f"{direction:9} {dtype:5} {a.bytes / 1e6:6.0f} {a.memory_us:7.0f} "
                    f"{a.tensor_us:7.0f} {a.issue_us:7.0f} {a.scan_us:7.0f}\n"
                )


def _source(function: Any, size: int, dtype: str) -> ASTSource:
    """Describe the arguments of a launch on contiguous tensors."""
    types: dict[str, Any] = {}
    constants: dict[tuple[int, ...], Any] = {}
    aligned: dict[tuple[int, ...], Any] = {}
    values = {"N": size, "PARTS": channel_parts(size), "EXACT": dtype == "fp32"}
    half = {"r_ptr", "k_ptr", "v_ptr", "b_ptr", "x_ptr", "c_ptr", "out_ptr"}
    for index, name in enumerate(function.arg_names):
        if name in values:
            types[name], constants[index,] = "constexpr", values[name]
        elif name in ("T", "H", "LEVELS"):
            types[name] = "i32"
        elif name.endswith("s") or name.endswith("s_"):  # strides, the last one 1
            count = 2 if name == "us" else 4
            types[name] = ("i32",) * (count - 1) + ("constexpr",)
            constants[index, count - 1] = 1
            aligned |= {(index, i): [["tt.divisibility", 16]] for i in range(count - 1)}
        else:
            types[name] = "*" + (dtype if name in half else "fp32")
            aligned[index,] = [["tt.divisibility", 16]]
    return ASTSource(function, types, constants, aligned)


def _tool(name: str, *arguments: str) -> str:
    command = [str(TOOLS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _executed(binary: Binary, shape: Shape, kind: str) -> float:
    """Count the instructions of a warp of an average program: every loop times its trips."""
    instructions, loops = _parse(binary.sass)
    chunks = shape.chunks
    side = (chunks - 1) / 2  # steps of an average program to one side
    levels = sum(bin(c).count("1") for c in range(chunks)) / chunks  # that have keys on one side
    total = 0.0
    for address, name in instructions:
        if not name.startswith(kind):
            continue
        around = [x for x in loops if x[0] <= address <= x[1]]
        total += _trips(binary.kernel, around, loops, side, levels)
    return total


def _trips(
    kernel: str, around: list[tuple[int, int]], loops: list[tuple[int, int]],
    side: float, levels: float,
) -> float:  # fmt: skip
    if not around:
        return 1
    if kernel == "forward":
        levels_first = len(loops) == 3  # one loop less where the levels are unrolled
        return LEVEL_TRIPS if levels_first and around[0] == loops[0] else side
    if kernel == "decay":
        return 2 * levels
    if len(around) == 2:
        return side
    inner = any(around[0][0] <= x[0] and x[1] < around[0][1] for x in loops)
    return levels if inner else LEVEL_TRIPS


def _parse(sass: str) -> tuple[list[tuple[int, str]], list[tuple[int, int]]]:
    """Return (address, opcode) of all instructions and (first, last) address of all loops."""
    labels: dict[str, int] = {}
    waiting: list[str] = []
    rows = []
    for line in sass.splitlines():
        if label := re.match(r"^(\.L_x_\d+):", line):
            waiting.append(label[1])
        elif found := INSTRUCTION.match(line):
            address = int(found[1], 16)
            labels |= dict.fromkeys(waiting, address)
            waiting.clear()
            rows.append((address, found[2], found[3]))
    return [row[:2] for row in rows], sorted(_loops(rows, labels), key=lambda x: (x[0], -x[1]))


def _loops(rows: list[tuple[int, str, str]], labels: dict[str, int]) -> Iterator[tuple[int, int]]:
    for address, name, operands in rows:
        target = re.search(r"\.L_x_\d+", operands) if name.startswith("BRA") else None
        # A jump to itself ends every kernel.
        if target and labels.get(target[0], address) < address:
            yield labels[target[0]], address


if __name__ == "__main__":
    main()
