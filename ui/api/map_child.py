"""The process that makes the map for a server. Ended at any moment, it leaves the map before."""

from __future__ import annotations

import json
import sys

from rwkvsearch.ui.api.child import begin, say


def main() -> None:
    """Make a map as the one argument says, a JSON object."""
    begin(patience=0)
    from rwkvsearch.data.errors import RwkvSearchError
    from rwkvsearch.indexer.address import place_of
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.retrieval.mapping import make_map

    asked = json.loads(sys.argv[1])
    try:
        with Library.open(place_of(asked["library"])) as library:
            model = library.model(asked["model_id"], asked["preprocessing_id"])
            make_map(library, model, anew=asked["anew"], on_step=lambda step: say(step=step))
        say(done=True)
    except (RwkvSearchError, OSError, MemoryError) as error:
        say(error=str(error) or "there is not enough memory")


if __name__ == "__main__":
    main()
