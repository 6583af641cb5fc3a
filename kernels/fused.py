"""Bi-WKV on a GPU, forward pass: Triton, chunks of 16 tokens on tensor cores.

One program owns the 16 queries of one chunk of one head and walks over the keys, outward from its
chunk, first to the left, then to the right. A decay product is split at the border of the chunk,

    decay(key .. query) = exp(sum over the tokens outside) * exp(sum over the tokens inside),

and inside the chunk at the boundaries of `levels.py`. Every factor is at most 1, sums of logarithms
only grow, nothing is subtracted. Cost grows with T^2, memory with T; see README.md for why.

Importing this module needs triton, and decides by TRITON_INTERPRET=1 whether the CPU interprets it.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# mypy: disable-error-code="assignment, operator"

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rwkvsearch.kernels.bi_wkv import FUSED_LARGEST_SIZE
from rwkvsearch.kernels.reference import MAX_LOG_DECAY_INPUT

INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))
CHUNK = tl.constexpr(16)
LIMIT = tl.constexpr(MAX_LOG_DECAY_INPUT)
LOG2_E = tl.constexpr(1.4426950408889634)
LOG2_LOG2_E = tl.constexpr(0.5287663729448977)

Parts = tuple[tuple[int, int], ...]


def fused_forward(r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor) -> Tensor:
    """Compute Bi-WKV in one launch, reading every input in place, whatever its type and strides.

    Args:
        r, k, v, w: `[B, T, H, N]`, N up to 128; float32, bfloat16 or float16, in any mixture.
        u: bonus `[H, N]`.

    Returns:
        `[B, T, H, N]` float32, contiguous.

    Raises:
        ValueError: N is larger than 128.
    """
    return run_forward(r, k, v, w, u, torch.float32)


def run_forward(
    r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor, dtype: torch.dtype
) -> Tensor:
    """Compute `fused_forward` with the result in `dtype`."""
    batch, tokens, heads, size = r.shape
    y = torch.empty(r.shape, dtype=dtype, device=r.device)
    if y.numel():
        parts, warps = channel_parts(size), forward_warps(size)
        grid = (batch * heads * triton.cdiv(tokens, CHUNK.value),)
        with on(r.device):
            forward_kernel[grid](
                r, k, v, w, u, y, r.stride(), k.stride(), v.stride(), w.stride(), u.stride(),
                tokens, heads, size, parts, is_exact(r, k, v), **launch_options(warps),
            )  # fmt: skip
    return y


def is_exact(*tensors: Tensor) -> bool:
    """Say whether products need three tf32 terms: one is enough beside 8 or 11 bits of input."""
    return any(x.dtype == torch.float32 for x in tensors)


def channel_parts(size: int) -> Parts:
    """Cut N channels into one or two tiles (start, width), widths powers of two, smaller first.

    80 = 16 + 64, so that no tensor core works on padding. The layout of the first product decides
    that of the others: with the small tile first, two warps share each product without repeats.
    """
    if not 0 < size <= FUSED_LARGEST_SIZE:
        raise ValueError(
            f"fused Bi-WKV knows heads of 1 to {FUSED_LARGEST_SIZE} channels, not {size}"
        )
    if size <= 64:
        return ((0, max(16, triton.next_power_of_2(size))),)
    rest = max(16, triton.next_power_of_2(size - 64))
    return ((0, rest), (rest, 64))


def forward_warps(size: int) -> int:
    """Return the number of warps at which the forward kernel keeps everything in registers."""
    return 1 if size <= 32 else 2


def launch_options(warps: int) -> dict[str, Any]:
    """Return the compiler's options; fusing is named because its default is about to change."""
    return {"num_warps": warps, "num_stages": 1, "enable_fp_fusion": True}


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Make `device` the one that Triton launches on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@triton.jit
def exp2(x):
    """2^x, tiny results flushed to 0: one instruction instead of four."""
    if INTERPRETED:
        return tl.exp2(x)
    return tl.inline_asm_elementwise(
        "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def zeros(WIDTH: tl.constexpr):
    """Return zeros `[16, WIDTH]`; a shape taken from a tuple needs a function of its own."""
    return tl.zeros((CHUNK, WIDTH), tl.float32)


@triton.jit
def zero_row(WIDTH: tl.constexpr):
    """Return zeros `[WIDTH]`."""
    return tl.zeros((WIDTH,), tl.float32)


@triton.jit
def load_rows(
    start, stride, t, N: tl.constexpr, FIRST: tl.constexpr, WIDTH: tl.constexpr,
    AGAIN: tl.constexpr = False,
):  # fmt: skip
    """Read the tokens `t` `[16]` of one head as `[16, WIDTH]` float32.

    AGAIN reads memory (the nearest cache) anew instead of keeping an earlier copy in registers.

    Vectors of four channels in every type, so that all tensors get one register layout.
    """
    n = tl.max_contiguous(FIRST + tl.arange(0, WIDTH), 4)[None, :]
    t = t[:, None]
    if FIRST + WIDTH > N:
        x = tl.load(start + t * stride[1] + n * stride[3], mask=n < N, other=0.0, volatile=AGAIN)
    else:
        x = tl.load(start + t * stride[1] + n * stride[3], volatile=AGAIN)
    return x.to(tl.float32)


@triton.jit
def load_decay(start, stride, t, N: tl.constexpr, FIRST: tl.constexpr, WIDTH: tl.constexpr):
    """Read `-log2(decay)` = exp(w) log2(e), at least 0 and finite, `[16, WIDTH]`."""
    w = load_rows(start, stride, t, N, FIRST, WIDTH)
    w = tl.minimum(w, LIMIT, propagate_nan=tl.PropagateNan.ALL)
    return exp2(w * LOG2_E + LOG2_LOG2_E)


@triton.jit
def split(x):
    """Cut float32 into a tf32 (the upper 10 bits of the mantissa) and the rest."""
    high = (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    return high, x - high


@triton.jit
def product(a, b, acc, EXACT: tl.constexpr):
    """acc + a b on tensor cores; EXACT: only the product of the two rests, 2^-20, is left out."""
    if EXACT:
        a, a_rest = split(a)
        b, b_rest = split(b)
        acc = tl.dot(a_rest, b, acc, input_precision="tf32")
        acc = tl.dot(a, b_rest, acc, input_precision="tf32")
    else:
        a = nearest(a)
        b = nearest(b)
    return tl.dot(a, b, acc, input_precision="tf32")


@triton.jit
def nearest(x):
    """Let the tensor core, which cuts bits off, round to nearest."""
    if INTERPRETED:
        return x
    return (x.to(tl.int32, bitcast=True) + 4096).to(tl.float32, bitcast=True)


@triton.jit
def add_up(choice, x, acc):
    """acc + choice x for a matrix of 0 and +-1, which is exact in tf32."""
    x, rest = split(x)
    acc = tl.dot(choice, rest, acc, input_precision="tf32")
    return tl.dot(choice, x, acc, input_precision="tf32")


@triton.jit
def paired(x, WIDTH: tl.constexpr):
    """Reorder columns within eights from 0 1 2 .. to 0 2 4 6 1 3 5 7.

    A result of a tensor core then lies in the registers where the next product wants its operand:
    nothing moves. Right as long as both sides of the product are reordered.
    """
    x = tl.permute(tl.reshape(x, (CHUNK, WIDTH // 8, 4, 2)), (0, 1, 3, 2))
    return tl.reshape(x, (CHUNK, WIDTH))


@triton.jit
def paired_rows():
    """Return the order of 16 tokens that belongs to `paired` scores."""
    i = tl.arange(0, CHUNK)
    return i // 8 * 8 + i % 4 * 2 + i // 4 % 2


@triton.jit
def level_sums(level):
    """Return for 16 tokens (rows) which decays they pass on the way to their boundary."""
    row, column = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    right = (row >> level) & 1 == 1
    return ((row ^ column) >> level == 0) & (row != column) & ((column < row) == right)


@triton.jit
def own_edge(
    start, stride, first, SIDE: tl.constexpr,
    T, N: tl.constexpr, FIRST: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Return the factor of every own token up to the border of its chunk on SIDE, -1 or 1."""
    i = tl.arange(0, CHUNK)
    t = tl.maximum(first + i - 1, 0) if SIDE < 0 else first + i + 1
    e = load_decay(start, stride, tl.minimum(t, T - 1), N, FIRST, WIDTH)
    e = tl.where(i[:, None] == (0 if SIDE < 0 else CHUNK - 1), 0.0, e)
    return exp2(-tl.cumsum(e, 0, reverse=SIDE > 0))


@triton.jit
def key_factor(
    start, stride, at, SIDE: tl.constexpr, step, between,
    T, N: tl.constexpr, FIRST: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Return the factors of 16 keys, going outward from token `at`, and `between` `[WIDTH]` beyond.

    `between` is log2 of the decay from the border of the query's chunk to the key before `at`.
    """
    i = tl.arange(0, CHUNK)
    t = at + 1 - i if SIDE < 0 else tl.minimum(at - 1 + i, T - 1)
    e = load_decay(start, stride, t, N, FIRST, WIDTH)
    e = tl.where((i[:, None] == 0) & (step == 0), 0.0, e)  # neighbours of the border pass nobody
    return exp2(between[None, :] - tl.cumsum(e, 0)), between - tl.sum(e, 0)


@triton.jit
def add_values(
    y, scores, v_ptr, vs, at, SIDE: tl.constexpr,
    T, N: tl.constexpr, PARTS: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Add scores `[16, 16]` times the values of 16 tokens, going in direction SIDE from `at`."""
    column = tl.arange(0, CHUNK)[None, :]
    scores = paired(tl.where(at + SIDE * column < T, scores, 0.0), CHUNK)
    result = ()
    for p in tl.static_range(len(PARTS)):
        t = at - paired_rows() if SIDE < 0 else tl.minimum(at + paired_rows(), T - 1)
        v = load_rows(v_ptr, vs, t, N, PARTS[p][0], PARTS[p][1])
        result += (product(scores, v, y[p], EXACT),)
    return result


@triton.jit
def forward_kernel(  # noqa: C901
    r_ptr, k_ptr, v_ptr, w_ptr, u_ptr, y_ptr, rs, ks, vs, ws, us,
    T, H, N: tl.constexpr, PARTS: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Write the outputs of one chunk of one head; `rs` .. `us` are the strides."""
    chunks = tl.cdiv(T, CHUNK)
    chunk = tl.program_id(0) % chunks
    head = tl.program_id(0) // chunks % H
    batch = (tl.program_id(0) // chunks // H).to(tl.int64)
    r_ptr += batch * rs[0] + head * rs[2]
    k_ptr += batch * ks[0] + head * ks[2]
    v_ptr += batch * vs[0] + head * vs[2]
    w_ptr += batch * ws[0] + head * ws[2]
    y_ptr += batch * T * H * N + head * N
    i = tl.arange(0, CHUNK)
    row, column = i[:, None], i[None, :]
    first = chunk * CHUNK
    t = tl.minimum(first + i, T - 1)  # tokens beyond the last are read as the last, then masked

    # Own chunk: the token itself, then pairs by the highest bit in which they differ.
    r, k, e, y = (), (), (), ()
    own = tl.zeros((CHUNK,), tl.float32)
    for p in tl.static_range(len(PARTS)):
        n = PARTS[p][0] + tl.arange(0, PARTS[p][1])
        u = tl.load(u_ptr + head * us[0] + n * us[1], mask=n < N, other=0.0).to(tl.float32)
        r += (load_rows(r_ptr, rs, t, N, PARTS[p][0], PARTS[p][1]),)
        k += (load_rows(k_ptr, ks, t, N, PARTS[p][0], PARTS[p][1]),)
        e += (load_decay(w_ptr, ws, t, N, PARTS[p][0], PARTS[p][1]),)
        y += (zeros(PARTS[p][1]),)
        own += tl.sum(r[p] * u[None, :] * k[p], 1)
    scores = tl.where(row == column, own[:, None], 0.0)
    # Unrolled where, by trial, the compiler needs it to spill nothing.
    for level in tl.range(4, loop_unroll_factor=4 if EXACT and N > 80 else 1):
        passed = tl.where(level_sums(level), -1.0, 0.0)
        s = tl.zeros((CHUNK, CHUNK), tl.float32)
        for p in tl.static_range(len(PARTS)):
            f = exp2(add_up(passed, e[p], zeros(PARTS[p][1])))
            s = product(
                paired(r[p] * f, PARTS[p][1]), tl.trans(paired(k[p] * f, PARTS[p][1])), s, EXACT
            )
        scores = tl.where((row ^ column) >> level == 1, s, scores)
    y = add_values(y, scores, v_ptr, vs, first, 1, T, N, PARTS, EXACT)

    queries = ()
    for SIDE in tl.static_range(-1, 2, 2):
        passed = tl.where((column < row) if SIDE < 0 else (column > row), -1.0, 0.0)
        for p in tl.static_range(len(PARTS)):
            edge = exp2(add_up(passed, e[p], zeros(PARTS[p][1])))
            queries += (r[p] * edge,)
    for SIDE in tl.static_range(-1, 2, 2):
        between = ()
        for p in tl.static_range(len(PARTS)):
            between += (zero_row(PARTS[p][1]),)
        for step in range(chunk if SIDE < 0 else chunks - 1 - chunk):
            at = first + (-1 if SIDE < 0 else CHUNK) + SIDE * CHUNK * step
            scores = tl.zeros((CHUNK, CHUNK), tl.float32)
            beyond = ()
            for p in tl.static_range(len(PARTS)):
                f, b = key_factor(
                    w_ptr, ws, at, SIDE, step, between[p], T, N, PARTS[p][0], PARTS[p][1]
                )
                of = at - i if SIDE < 0 else tl.minimum(at + i, T - 1)
                key = f * load_rows(k_ptr, ks, of, N, PARTS[p][0], PARTS[p][1])
                scores = product(
                    queries[(SIDE + 1) // 2 * len(PARTS) + p], tl.trans(key), scores, EXACT
                )
                beyond += (b,)
            between = beyond
            y = add_values(y, scores, v_ptr, vs, at, SIDE, T, N, PARTS, EXACT)
    for p in tl.static_range(len(PARTS)):
        n = PARTS[p][0] + tl.arange(0, PARTS[p][1])[None, :]
        here = y_ptr + (first + row) * (H * N) + n
        tl.store(here, y[p], mask=(first + row < T) & (n < N))
