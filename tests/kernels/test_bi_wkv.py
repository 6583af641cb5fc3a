"""Every backend against the definition in float64, and what no backend may do."""

import importlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from rwkvsearch.kernels import BackendError, available_backends, bi_wkv
from rwkvsearch.kernels.levels import bi_wkv_levels
from rwkvsearch.kernels.reference import bi_wkv_reference

LIMIT = 5e-6
"""Largest error of an output or a gradient, relative to the largest value of the truth."""
TOKENS = (1, 2, 3, 7, 16, 17, 49, 77)
KINDS = ("mid", "slow", "fast", "mixed", "overflow")
NAMES = ("y", "gr", "gk", "gv", "gw", "gu")

needs_scan = pytest.mark.skipif(
    available_backends()["scan"] is not None, reason="numba is not installed"
)
BACKENDS = [
    "reference",
    "levels",
    pytest.param("scan", marks=needs_scan),
]


def make(
    tokens: int, kind: str = "mid", size: int = 16, batch: int = 2, heads: int = 2
) -> list[Tensor]:
    """Draw r, k, v, w `[B, T, H, N]`, u `[H, N]` and the gradient of the output, float32."""
    random = torch.Generator().manual_seed(1000 * tokens + KINDS.index(kind))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    shape = (batch, tokens, heads, size)
    r, k, v, gy, noise = (normal(*shape) for _ in range(5))
    chance = torch.rand(shape, generator=random)
    mid, slow, fast = -2 + 1.5 * noise, -12 + 0.5 * noise, 4 + 0.5 * noise
    w = {
        "mid": mid,
        "slow": slow,
        "fast": fast,
        "mixed": torch.where(chance < 0.4, slow, torch.where(chance < 0.8, fast, mid)),
        "overflow": torch.where(chance < 0.2, 120.0, torch.where(chance < 0.4, -120.0, mid)),
    }[kind]
    return [r, k, v, w, normal(heads, size), gy]


def run(inputs: list[Tensor], backend: str | None) -> dict[str, Tensor]:
    """Return the output and the five gradients."""
    *inputs, gy = inputs
    inputs = [x.detach().requires_grad_() for x in inputs]
    y = bi_wkv(*inputs, backend=backend)
    grads = torch.autograd.grad(y, inputs, gy.to(y.dtype), materialize_grads=True)
    return dict(zip(NAMES, (y.detach(), *grads), strict=True))


@cache
def truth(tokens: int, kind: str, size: int = 16, batch: int = 2) -> dict[str, Tensor]:
    return run([x.double() for x in make(tokens, kind, size, batch)], "reference")


def assert_close(got: dict[str, Tensor], wanted: dict[str, Tensor], limit: float = LIMIT) -> None:
    for name, tensor in got.items():
        largest = float(wanted[name].abs().max())
        error = float((tensor.double() - wanted[name]).abs().max())
        assert error <= limit * largest, f"{name}: {error:.1e} of {largest:.1e}"  # nan fails too


def test_definition_by_hand() -> None:
    """Three tokens, one channel, decay of the middle token 1/2: every term can be checked by eye.

    y_0 = r_0 (u k_0 v_0 + k_1 v_1 + k_2 d_1 v_2) = 1 (10 * 1 * 1 + 1 * 2 + 1 * 0.5 * 3) = 13.5
    y_1 = r_1 (k_0 v_0 + u k_1 v_1 + k_2 v_2) = 2 (1 + 10 * 2 + 3) = 48
    y_2 = r_2 (k_0 d_1 v_0 + k_1 v_1 + u k_2 v_2) = 1 (0.5 + 2 + 10 * 3) = 32.5
    """
    half = torch.log(-torch.log(torch.tensor(0.5)))
    r, k, v = (torch.tensor(x).view(1, 3, 1, 1) for x in ([1.0, 2, 1], [1.0, 1, 1], [1.0, 2, 3]))
    w = torch.stack([torch.tensor(7.0), half, torch.tensor(-7.0)]).view(1, 3, 1, 1)
    u = torch.tensor([[10.0]])
    for backend in ("reference", "levels"):
        y = bi_wkv(r, k, v, w, u, backend=backend)
        torch.testing.assert_close(y.flatten(), torch.tensor([13.5, 48.0, 32.5]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", TOKENS)
def test_equals_the_definition_in_float64(tokens: int, kind: str, backend: str) -> None:
    got = run(make(tokens, kind), backend)
    assert all(x.dtype == torch.float32 for x in got.values())
    assert_close(got, truth(tokens, kind))


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("tokens", "size"), [(49, 80), (77, 64), (196, 80), (63, 12), (5, 1)])
def test_equals_the_definition_in_other_shapes(
    tokens: int, size: int, kind: str, backend: str
) -> None:
    assert_close(run(make(tokens, kind, size, 1), backend), truth(tokens, kind, size, 1))


@pytest.mark.parametrize("tokens", [1, 2, 5, 6])
def test_gradcheck_of_levels(tokens: int) -> None:
    *inputs, _ = (x.double() for x in make(tokens, size=3, batch=1))
    assert torch.autograd.gradcheck(bi_wkv_levels, [x.requires_grad_() for x in inputs])


@pytest.mark.parametrize("tokens", TOKENS)
def test_levels_in_float64_equal_the_definition_to_rounding(tokens: int) -> None:
    got = run([x.double() for x in make(tokens, "mixed")], "levels")
    assert all(x.dtype == torch.float64 for x in got.values())
    assert_close(got, truth(tokens, "mixed"), 1e-14 * max(tokens, 10))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tokens", [2, 16, 17])
def test_reversed_tokens_give_the_reversed_result(tokens: int, backend: str) -> None:
    """Exact in mathematics: w belongs to the token passed, so it turns round with the others."""
    *inputs, u, gy = make(tokens, "mixed")
    straight = run([*inputs, u, gy], backend)
    turned = run([*(x.flip(1) for x in inputs), u, gy.flip(1)], backend)
    gu = turned.pop("gu")
    assert_close({k: x.flip(1) for k, x in turned.items()} | {"gu": gu}, straight, 1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tokens", TOKENS)
def test_w_of_the_ends_is_never_used(tokens: int, backend: str) -> None:
    inputs = make(tokens)
    got = run(inputs, backend)
    assert (got["gw"][:, [0, -1]] == 0).all()
    inputs[3] = inputs[3].clone()
    inputs[3][:, [0, -1]] = torch.tensor([50.0, -50.0])[:, None, None]
    assert torch.equal(run(inputs, backend)["y"], got["y"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_w_that_overflows_has_no_gradient(backend: str) -> None:
    inputs = make(17, "overflow")
    gw = run(inputs, backend)["gw"]
    assert (gw[inputs[3].abs() > 80] == 0).all()
    assert (gw[:, 1:-1][inputs[3][:, 1:-1].abs() < 80] != 0).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_infinite_w(backend: str) -> None:
    inputs = make(7)
    *_, w, _, _ = inputs
    huge, infinite = w.clone(), w.clone()
    huge[:, 2], huge[:, 4] = 1000.0, -1000.0
    infinite[:, 2], infinite[:, 4] = torch.inf, -torch.inf
    one, other = (run([*inputs[:3], x, *inputs[4:]], backend) for x in (huge, infinite))
    assert all(torch.equal(one[name], other[name]) for name in NAMES)


@needs_scan
@pytest.mark.parametrize("tokens", [1, 2, 7])
def test_scan_writes_every_element(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make(tokens)
    wanted = run(inputs, "scan")

    def poisoned_like(x: Tensor) -> Tensor:
        return torch.full_like(x, torch.nan)

    def poisoned(x: Tensor, *shape: int) -> Tensor:
        return x.new_full(shape, torch.nan)

    monkeypatch.setattr(torch, "empty_like", poisoned_like)
    monkeypatch.setattr(Tensor, "new_empty", poisoned)
    assert torch.empty_like(inputs[0]).isnan().all() and inputs[0].new_empty(2, 3).isnan().all()
    got = run(inputs, "scan")
    assert all(torch.equal(got[name], wanted[name]) for name in NAMES)


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_need_not_be_contiguous(backend: str) -> None:
    inputs = make(7)
    wanted = run(inputs, backend)
    strided = [x.movedim(1, -1).contiguous().movedim(-1, 1) for x in inputs[:4]]
    u = inputs[4].T.contiguous().T
    gy = inputs[5].repeat_interleave(2, -1)[..., ::2]
    assert not any(x.is_contiguous() for x in (*strided, u, gy))
    assert_close(run([*strided, u, gy], backend), {k: x.double() for k, x in wanted.items()}, 1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype: torch.dtype, backend: str) -> None:
    half = [x.to(dtype) for x in make(17)]
    got = run(half, backend)
    assert got["y"].dtype == torch.float32
    assert all(got[name].dtype == dtype for name in NAMES[1:])
    wanted = run([x.double() for x in half], "reference")
    assert_close({"y": got["y"]}, wanted)
    assert_close(got, wanted, 2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bfloat16_bonus_beside_float32(backend: str) -> None:
    """The official text tower: everything float32, u a bfloat16 parameter."""
    inputs = make(7)
    inputs[4] = inputs[4].bfloat16()
    got = run(inputs, backend)["y"]
    inputs[4] = inputs[4].float()
    assert got.dtype == torch.float32 and torch.equal(got, run(inputs, backend)["y"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_changes_nothing(backend: str) -> None:
    *inputs, _ = make(17)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = bi_wkv(*inputs, backend=backend)
    assert got.dtype == torch.float32
    assert torch.equal(got, bi_wkv(*inputs, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_first_use_in_inference_mode_leaves_training_possible(backend: str) -> None:
    inputs = make(23)
    with torch.inference_mode():
        bi_wkv(*inputs[:5], backend=backend)
    assert_close(run(inputs, backend), truth(23, "mid"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_items_and_heads_do_not_see_each_other(backend: str) -> None:
    *inputs, u, _ = make(7, batch=3)
    whole = bi_wkv(*inputs, u, backend=backend)
    inputs = [x[1:2, :, 1:] for x in inputs]
    torch.testing.assert_close(bi_wkv(*inputs, u[1:], backend=backend), whole[1:2, :, 1:])


@pytest.mark.parametrize("backend", BACKENDS)
def test_shapes_that_do_not_fit(backend: str) -> None:
    """Compiled code would read and write beyond the end."""
    *inputs, _ = make(7)
    wrong = [
        [*inputs[:4], inputs[4][:1]],
        [inputs[0], inputs[1][:, :5], *inputs[2:]],
        [*inputs[:3], inputs[3][:1], inputs[4]],
        [*inputs[:2], inputs[2][..., :6], *inputs[3:]],
    ]
    for each in wrong:
        with pytest.raises(ValueError, match=r"bi_wkv wants .* not \[2, 7, 2, 16\]"):
            bi_wkv(*each, backend=backend)


@needs_scan
def test_scan_is_safe_among_threads() -> None:
    *inputs, _ = make(77, batch=8)
    wanted = bi_wkv(*inputs, backend="scan")
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(bi_wkv, *inputs, backend="scan") for _ in range(32)]
    assert all(torch.equal(job.result(), wanted) for job in jobs)


@needs_scan
def test_scan_is_a_well_formed_operator() -> None:
    *inputs, _ = make(3, batch=1)
    operator = torch.ops.rwkvsearch.bi_wkv.default
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    arguments = (*(x.requires_grad_() for x in inputs), "scan")
    torch.library.opcheck(operator, arguments, test_utils=checks)


@needs_scan
def test_exported_by_torch() -> None:
    class Operator(torch.nn.Module):
        def forward(self, *inputs: Tensor) -> Tensor:
            return bi_wkv(*inputs, backend="scan")

    *inputs, _ = make(49)
    program = torch.export.export(Operator(), tuple(inputs))
    assert any(node.target is torch.ops.rwkvsearch.bi_wkv.default for node in program.graph.nodes)
    assert torch.equal(program.module()(*inputs), bi_wkv(*inputs, backend="scan"))


@needs_scan
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.parametrize("autocast", [False, True])
def test_compiled_by_torch(autocast: bool) -> None:
    """The compiler runs the backward pass under the autocast around the forward pass."""
    inputs = make(49, batch=64 if autocast else 8)
    wanted = run(inputs, None)
    compiled = torch.compile(bi_wkv, fullgraph=True)
    leaves = [x.requires_grad_() for x in inputs[:5]]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        y = compiled(*leaves)
    grads = torch.autograd.grad(y, leaves, inputs[5])
    got = dict(zip(NAMES, (y.detach(), *grads), strict=True))
    assert_close(got, {k: x.double() for k, x in wanted.items()}, 1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_items(backend: str) -> None:
    *inputs, u, _ = make(3)
    assert bi_wkv(*(x[:0] for x in inputs), u, backend=backend).shape == (0, 3, 2, 16)


class TestChoice:
    @pytest.fixture(autouse=True)
    def forgetful(self) -> Iterator[None]:
        self.module = importlib.import_module("rwkvsearch.kernels.bi_wkv")
        self._forget()
        yield
        self._forget()

    def _forget(self) -> None:
        self.module._say_once.cache_clear()

    @pytest.fixture
    def without_numba(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(self.module, "SCAN_MISSING", "numba is not installed")

    def test_unknown(self) -> None:
        with pytest.raises(BackendError, match="unknown bi_wkv backend 'cuda'.*levels"):
            bi_wkv(*make(3)[:5], backend="cuda")

    @pytest.mark.usefixtures("without_numba")
    def test_what_is_asked_for_and_missing_is_an_error(self) -> None:
        assert available_backends()["scan"] == "numba is not installed"
        with pytest.raises(BackendError, match="'scan' cannot run here: numba is not installed"):
            bi_wkv(*make(3)[:5], backend="scan")

    @pytest.mark.usefixtures("without_numba")
    def test_the_choice_without_numba_is_levels_and_is_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        *inputs, _ = make(77, batch=32)
        with caplog.at_level(logging.INFO):
            y = bi_wkv(*inputs)
        assert caplog.messages == ["bi_wkv on cpu: levels (numba is not installed)"]
        assert torch.equal(y, bi_wkv_levels(*inputs))

    @needs_scan
    def test_much_work_is_compiled_and_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        *inputs, _ = make(77, batch=32)
        with caplog.at_level(logging.INFO):
            y = [bi_wkv(*inputs) for _ in range(2)][0]
        assert caplog.messages == ["bi_wkv on cpu: scan (compiled)"]
        assert torch.equal(y, bi_wkv(*inputs, backend="scan"))

    def test_little_work_and_float64_take_levels(self) -> None:
        *inputs, _ = make(7)
        assert torch.equal(bi_wkv(*inputs), bi_wkv_levels(*inputs))
        *inputs, _ = (x.double() for x in make(77, batch=32))
        assert torch.equal(bi_wkv(*inputs), bi_wkv_levels(*inputs))

    @pytest.mark.skipif(available_backends()["fused"] is None, reason="triton is interpreted")
    def test_a_cpu_is_no_place_for_the_gpu_kernel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(self.module, "FUSED_MISSING", None)
        with pytest.raises(BackendError, match="'fused' cannot run here: the tensors are on cpu"):
            bi_wkv(*make(3)[:5], backend="fused")
        monkeypatch.setattr(self.module, "FUSED_MISSING", "triton is not installed")
        assert available_backends("cuda")["fused"] == "triton is not installed"

    def test_old_gpus_take_levels_and_say_so(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(self.module, "FUSED_MISSING", None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
        r = SimpleNamespace(dtype=torch.float32, device=torch.device("cuda"), shape=(1, 2, 3, 64))
        with caplog.at_level(logging.INFO):
            assert self.module._choose(r) == "levels"
        assert "levels (it needs an NVIDIA GPU of compute capability 8.0 or newer)" in caplog.text
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
        assert self.module._choose(r) == "fused"
        r.shape = (1, 2, 3, 129)
        assert self.module._choose(r) == "levels"

    @needs_scan
    def test_a_failure_is_not_hidden_by_another_backend(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from rwkvsearch.kernels import scan

        def broken(*_: Tensor) -> Tensor:
            raise RuntimeError("broken")

        monkeypatch.setattr(scan, "scan_forward", broken)
        with pytest.raises(RuntimeError, match="broken"):
            bi_wkv(*make(77, batch=32)[:5])


def test_the_definition_ignores_nothing_it_is_given() -> None:
    """A nan in any input reaches the output."""
    for index in range(5):
        inputs = [x.clone() for x in make(7)[:5]]
        inputs[index][..., 1 if index == 3 else 0, :] = torch.nan
        assert bi_wkv_reference(*inputs).isnan().any()
