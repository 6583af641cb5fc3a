"""Sets of captioned photographs, in every layout that the usual benchmarks come in.

A set with a fault is refused with its reason and never mended in silence: a recall over fewer
images is another recall.
"""

from rwkvsearch.data.captions.load import has_captions, load_captions
from rwkvsearch.data.captions.sets import EVERY_SPLIT, CaptionedImage, CaptionSet

__all__ = ["EVERY_SPLIT", "CaptionSet", "CaptionedImage", "has_captions", "load_captions"]
