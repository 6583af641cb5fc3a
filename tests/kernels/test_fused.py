"""The Triton kernels against the definition in float64.

Interpreted on the CPU where TRITON_INTERPRET=1 (`make test` runs this file so, in a process of its
own: the interpreter changes triton for good), compiled where there is a CUDA device.
"""

import importlib.util
import os

import pytest
import torch
from torch import Tensor

from rwkvsearch.kernels import available_backends, bi_wkv
from rwkvsearch.kernels.reference import bi_wkv_reference

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)
if DEVICE == "cpu" and not INTERPRETED:
    pytest.skip("no CUDA device, and not TRITON_INTERPRET=1", allow_module_level=True)

from rwkvsearch.kernels.fused import fused_forward  # noqa: E402
from rwkvsearch.kernels.fused_backward import fused_backward  # noqa: E402

LIMIT = 5e-6
HALF_LIMIT = LIMIT if INTERPRETED else 1e-3
"""Of the output where r, k and v are half precision: one product of 11 bits, which the interpreter
does not round."""
KINDS = ("mid", "slow", "fast", "mixed", "overflow")
NAMES = ("y", "gr", "gk", "gv", "gw", "gu")


def make(
    tokens: int, kind: str = "mid", size: int = 16, batch: int = 1, heads: int = 2
) -> list[Tensor]:
    """Draw r, k, v, w `[B, T, H, N]`, u `[H, N]` and the gradient of the output, float32."""
    random = torch.Generator().manual_seed(1000 * tokens + KINDS.index(kind))
    shape = (batch, tokens, heads, size)
    r, k, v, gy, noise = (torch.randn(*shape, generator=random) for _ in range(5))
    chance = torch.rand(shape, generator=random)
    mid, slow, fast = -2 + 1.5 * noise, -12 + 0.5 * noise, 4 + 0.5 * noise
    w = {
        "mid": mid,
        "slow": slow,
        "fast": fast,
        "mixed": torch.where(chance < 0.4, slow, torch.where(chance < 0.8, fast, mid)),
        "overflow": torch.where(chance < 0.2, 120.0, torch.where(chance < 0.4, -120.0, mid)),
    }[kind]
    u = torch.randn(heads, size, generator=random)
    return [x.to(DEVICE) for x in (r, k, v, w, u, gy)]


def run(inputs: list[Tensor]) -> dict[str, Tensor]:
    *inputs, gy = inputs
    y = fused_forward(*inputs)
    return dict(zip(NAMES, (y, *fused_backward(gy, *inputs)), strict=True))


def truth(inputs: list[Tensor]) -> dict[str, Tensor]:
    *leaves, gy = (x.double() for x in inputs)
    leaves = [x.requires_grad_() for x in leaves]
    y = bi_wkv_reference(*leaves)
    grads = torch.autograd.grad(y, leaves, gy, materialize_grads=True)
    return dict(zip(NAMES, (y.detach(), *grads), strict=True))


def assert_close(got: dict[str, Tensor], wanted: dict[str, Tensor], limit: float = LIMIT) -> None:
    for name, tensor in got.items():
        largest = float(wanted[name].abs().max())
        error = float((tensor.double() - wanted[name]).abs().max())
        assert error <= limit * largest, f"{name}: {error:.1e} of {largest:.1e}"  # nan fails too


@pytest.mark.parametrize(
    ("tokens", "kind"),
    [(t, kind) for t in (1, 2, 15, 16) for kind in ("mid", "overflow")]
    + [(t, kind) for t in (17, 33) for kind in KINDS],
)
def test_equals_the_definition(tokens: int, kind: str) -> None:
    inputs = make(tokens, kind, heads=1)
    got = run(inputs)
    assert all(x.dtype == torch.float32 and x.is_contiguous() for x in got.values())
    assert_close(got, truth(inputs))
    assert (got["gw"][:, [0, -1]] == 0).all()
    assert (got["gw"][inputs[3].abs() > 80] == 0).all()


@pytest.mark.parametrize("size", [1, 12, 32, 64, 80, 100, 128])
def test_every_head_size(size: int) -> None:
    inputs = make(18, "mixed", size, heads=1)
    assert_close(run(inputs), truth(inputs))


def test_paths_over_several_chunks() -> None:
    """Six chunks: three levels of them, the last group incomplete on the right."""
    inputs = make(81, "slow", heads=1)
    assert_close(run(inputs), truth(inputs))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("tokens", "size"), [(49, 80), (77, 64), (196, 80)])
def test_shapes_of_the_model(tokens: int, size: int, kind: str) -> None:
    inputs = make(tokens, kind, size, heads=1)
    assert_close(run(inputs), truth(inputs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mixture", ["all", "all but w", "only v"])
def test_half_precision_is_read_in_place(dtype: torch.dtype, mixture: str) -> None:
    chosen = {"all": range(6), "all but w": (0, 1, 2, 4, 5), "only v": (2,)}[mixture]
    inputs = [x.to(dtype) if i in chosen else x for i, x in enumerate(make(18, size=24))]
    got, wanted = run(inputs), truth(inputs)
    assert got["y"].dtype == torch.float32
    assert [got[name].dtype for name in NAMES[1:]] == [x.dtype for x in inputs[:5]]
    assert_close({"y": got["y"]}, wanted, LIMIT if mixture == "only v" else HALF_LIMIT)
    assert_close(got, wanted, torch.finfo(dtype).eps)


def test_strides_do_not_matter() -> None:
    inputs = make(18, "mixed", 24, batch=2)
    wanted = run(inputs)
    r, k, v, w, u, gy = inputs
    strided = [
        r.movedim(1, -1).contiguous().movedim(-1, 1),
        k.transpose(1, 2).contiguous().transpose(1, 2),
        v.repeat_interleave(2, -1)[..., ::2],
        w.flip(0).contiguous().flip(0).transpose(0, 1).contiguous().transpose(0, 1),
        u.T.contiguous().T,
        gy.repeat_interleave(3, 1)[:, ::3],
    ]
    assert not any(x.is_contiguous() for x in strided)
    got = run(strided)
    assert all(torch.equal(got[name], wanted[name]) for name in NAMES)
    assert all(x.is_contiguous() for x in got.values())


def test_a_gradient_that_is_expanded() -> None:
    """What `y.sum().backward()` sends: one number with strides 0."""
    inputs = make(5)
    inputs[5] = torch.ones(()).expand(inputs[0].shape)
    assert_close(run(inputs), truth(inputs))


@pytest.mark.parametrize("tokens", [1, 7, 18])
def test_every_element_is_written(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make(tokens, size=24)
    wanted = run(inputs)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **how: empty(*size, **how).fill_(torch.nan))
    assert torch.empty(2, 3).isnan().all()
    got = run(inputs)  # also: the same bits twice
    assert all(torch.equal(got[name], wanted[name]) for name in NAMES)


def test_reversed_tokens_give_the_reversed_result() -> None:
    *inputs, u, gy = make(19, "mixed")
    straight = run([*inputs, u, gy])
    turned = run([*(x.flip(1) for x in inputs), u, gy.flip(1)])
    gu = turned.pop("gu")
    assert_close({k: x.flip(1) for k, x in turned.items()} | {"gu": gu}, straight, 1e-6)


def test_infinite_w() -> None:
    inputs = make(18)
    huge, infinite = inputs[3].clone(), inputs[3].clone()
    huge[:, 2], huge[:, 16], huge[:, -1] = 1000.0, -1000.0, 1000.0
    infinite[:, 2], infinite[:, 16], infinite[:, -1] = torch.inf, -torch.inf, torch.inf
    one, other = (run([*inputs[:3], x, *inputs[4:]]) for x in (huge, infinite))
    assert all(torch.equal(one[name], other[name]) for name in NAMES)
    assert not any(x.isnan().any() for x in one.values())


def test_nothing_given_is_ignored() -> None:
    for index in range(5):
        inputs = [x.clone() for x in make(18)[:5]]
        inputs[index][..., 1 if index == 3 else 0, :] = torch.nan
        assert fused_forward(*inputs).isnan().any()


def test_items_and_heads_do_not_see_each_other() -> None:
    *inputs, u, gy = make(18, batch=2, heads=3)
    whole = run([*inputs, u, gy])
    alone = run([*(x[1:, :, 2:] for x in inputs), u[2:], gy[1:, :, 2:]])
    for name in NAMES[:-1]:
        assert torch.equal(alone[name], whole[name][1:, :, 2:])


def test_no_items() -> None:
    *inputs, u, gy = make(3)
    got = run([*(x[:0] for x in inputs), u, gy[:0]])
    assert all(got[name].shape == (0, 3, 2, 16) for name in NAMES[:-1])
    assert (got["gu"] == 0).all()


def test_heads_that_are_too_large() -> None:
    with pytest.raises(ValueError, match="1 to 128 channels, not 129"):
        fused_forward(*make(2, size=129)[:5])


class TestPublicOperator:
    def test_equals_the_definition_with_its_gradients(self) -> None:
        inputs = make(18, "mixed")
        leaves = [x.clone().requires_grad_() for x in inputs[:5]]
        y = bi_wkv(*leaves, backend="fused")
        grads = torch.autograd.grad(y, leaves, inputs[5])
        assert_close(dict(zip(NAMES, (y.detach(), *grads), strict=True)), truth(inputs))

    def test_autocast_changes_nothing(self) -> None:
        *inputs, _ = make(18)
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            got = bi_wkv(*inputs, backend="fused")
        assert torch.equal(got, bi_wkv(*inputs, backend="fused"))

    def test_is_well_formed(self) -> None:
        *inputs, _ = (x.requires_grad_() for x in make(3))
        checks = ("test_schema", "test_autograd_registration", "test_faketensor")
        operator = torch.ops.rwkvsearch.bi_wkv.default
        torch.library.opcheck(operator, (*inputs, "fused"), test_utils=checks)

    def test_is_available(self) -> None:
        assert available_backends(DEVICE)["fused"] is None

    @pytest.mark.skipif(not INTERPRETED, reason="not interpreted")
    def test_the_interpreter_has_no_gpu(self) -> None:
        reason = available_backends("cuda")["fused"]
        assert reason == "TRITON_INTERPRET=1 runs on the CPU only"
