"""OpenVINO without its telemetry, which would report over the network that it was imported.

Its Python package sends the report through `openvino_telemetry`, which its wheel asks for, and does
without where that cannot be imported.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402
from openvino import opset13 as opset  # noqa: E402

__all__ = ["openvino", "opset"]
