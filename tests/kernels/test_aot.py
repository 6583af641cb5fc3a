"""No shipped configuration may spill; compiled here, for GPUs that are not here."""

import importlib.util
import os
import sys

import pytest

if importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("needs triton, not interpreted", allow_module_level=True)

FAST = {("forward", 80, "fp32", 90), ("gradient", 32, "fp32", 80)}
CASES = [
    pytest.param(*case, marks=() if case in FAST else pytest.mark.slow)
    for case in (
        (kernel, size, dtype, arch)
        for kernel in ("forward", "gradient", "decay")
        for size in (16, 32, 64, 80, 128)
        for dtype in ("fp32", "bf16", "fp16")
        for arch in (80, 90)
    )
]


@pytest.mark.parametrize(("kernel", "size", "dtype", "arch"), CASES)
def test_nothing_spills(kernel: str, size: int, dtype: str, arch: int) -> None:
    from rwkvsearch.kernels.aot import compiled

    binary = compiled(kernel, size, dtype, arch)
    assert binary.spilled_bytes == 0
    assert 0 < binary.registers <= 255
    assert binary.programs >= 1


def test_account() -> None:
    from rwkvsearch.kernels.aot import Shape, account

    small, large = (account(Shape(b, 49, 8, 80), "forward", "fp32") for b in (1, 256))
    assert large.bytes == 256 * 49 * 640 * 5 * 4
    assert large.estimate_us == pytest.approx(256 * small.estimate_us)
    assert 0 < large.memory_us < large.estimate_us < large.scan_us


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    from rwkvsearch.kernels.aot import main

    main(["--arch", "90", "--size", "16", "--dtype", "fp32", "--no-account"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["kernel", "forward", "gradient", "decay"]
    assert {row[5] for row in rows[1:]} == {"0"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="triton's compiler")
def test_compiles_for_blackwell() -> None:
    from rwkvsearch.kernels.aot import compiled

    assert compiled("forward", 64, "fp32", 100).registers > 0
