"""Whether the model that made the embeddings of a library is installed as it was."""

from rwkvsearch.data.errors import ModelError
from rwkvsearch.indexer.doctor.findings import State
from rwkvsearch.indexer.library import ModelInfo
from rwkvsearch.retrieval.models import (
    checked_weights,
    find_spec,
    is_present,
    known_models,
    read_card,
)


def check_installed(model: ModelInfo) -> tuple[State, str]:
    """Compare the weights file with its card, and the card with the library; see `WeightsCheck`."""
    # Of two names that fit, such as b32 and b32-yfcc15m, the longer one is meant.
    names = [name for name in known_models() if model.model_id.startswith(f"{name}-")]
    name = max(names, key=len, default=None)
    try:
        if name is None or not is_present(find_spec(name)):
            return "note", "not installed here; searches by words need it"
        card = read_card(name)
        checked_weights(card)
    except (ModelError, OSError) as error:
        return "fault", str(error)
    if card.sha256 != model.weights_sha256:
        return "note", (
            f"made by weights {model.weights_sha256[:12]}..., installed are {card.sha256[:12]}...; "
            f"`index --model {name}` embeds with those"
        )
    return "ok", f"the weights that made its embeddings (sha256 {card.sha256[:12]}...)"
