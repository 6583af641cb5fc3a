"""The operators RWKV-CLIP is made of; see README.md for the mathematics."""

from rwkvsearch.kernels.bi_wkv import BackendError, available_backends, bi_wkv
from rwkvsearch.kernels.token_shift import bidirectional_shift, q_shift

__all__ = ["BackendError", "available_backends", "bi_wkv", "bidirectional_shift", "q_shift"]
