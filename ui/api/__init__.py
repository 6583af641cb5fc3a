"""The JSON API: FastAPI, mounted by `rwkvsearch serve`."""
