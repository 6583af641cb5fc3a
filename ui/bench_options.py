"""What the commands below `rwkvsearch bench` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rwkvsearch.retrieval.models import Precision

if TYPE_CHECKING:
    from rwkvsearch.indexer.results import MeasuredModel
    from rwkvsearch.retrieval.encoder import Encoder

BenchPrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="fp32 is exact; bf16 and int8 are faster.")
]
PerClassOption = Annotated[
    bool, typer.Option("--per-class", help="Every class with its accuracy, the worst first.")
]


def measured_model(encoder: Encoder) -> MeasuredModel:
    """The model as `--save` keeps it."""
    from rwkvsearch.indexer.results import MeasuredModel

    return MeasuredModel(encoder.model_id, encoder.card.sha256, encoder.preprocessing_id)


def encoder_settings(encoder: Encoder) -> dict[str, str]:
    """What of an encoder changes the figures."""
    return {"precision": encoder.precision, "device": str(encoder.device)}
