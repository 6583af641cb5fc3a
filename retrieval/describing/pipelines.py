"""Captioners and taggers of the `transformers` library, by model id or folder.

A model that is already on this machine is used as it is; only one that is not is fetched from the
hub, by the id the user named. Code that comes with a model is never run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from rwkvsearch.data.descriptions.protocols import Failed
from rwkvsearch.data.descriptions.texts import Tag, digest
from rwkvsearch.data.errors import ModelError

LONGEST_CAPTION = 40
"""Tokens."""
LEAST_CONFIDENCE = 0.02
MOST_TAGS = 10
AT_ONCE = 8
"""Pictures in one forward pass."""
Task = Literal["image-classification", "object-detection", "zero-shot-object-detection"]

_CLASSES: dict[Task, str] = {
    "image-classification": "AutoModelForImageClassification",
    "object-detection": "AutoModelForObjectDetection",
    "zero-shot-object-detection": "AutoModelForZeroShotObjectDetection",
}


class TransformersCaptioner:
    """A captioner such as BLIP, GIT or ViT-GPT2, or a chat model that sees, such as Qwen-VL."""

    provider = "transformers"

    def __init__(self, model: str, *, device: str | None = None, prompt: str = "") -> None:
        """Load the model; a chat model is asked `prompt`, others take it as the caption's start.

        Raises:
            ModelError: transformers is missing, or the model is or cannot be loaded.
        """
        auto = _library()
        self.model_id = f"{model}?prompt={prompt}" if prompt else model
        self._device, self._prompt = device or "cpu", prompt
        self._model = _loaded(model, auto.AutoModelForImageTextToText.from_pretrained)
        self._model = self._model.to(self._device).eval()
        self._processor = _loaded(model, auto.AutoProcessor.from_pretrained)
        self._tokenizer: Any = getattr(self._processor, "tokenizer", None)
        self._images = self._processor
        if self._tokenizer is None:  # a pair of towers without a processor for both
            self._tokenizer = _loaded(model, auto.AutoTokenizer.from_pretrained)
            self._images = _loaded(model, auto.AutoImageProcessor.from_pretrained)

    def caption(self, images: Sequence[Image.Image]) -> list[str | Failed]:
        """One sentence for each RGB picture."""
        return [_sentence(text) for text in in_parts(self._generate, images)]

    def _generate(self, images: Sequence[Image.Image]) -> list[str]:
        import torch

        inputs = self._inputs(images).to(self._device)
        with torch.inference_mode():
            tokens = self._model.generate(
                **inputs, max_new_tokens=LONGEST_CAPTION, do_sample=False, num_beams=1
            )
        if self._is_chat():
            tokens = tokens[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return texts

    def _inputs(self, images: Sequence[Image.Image]) -> Any:
        if self._is_chat():
            return self._processor.apply_chat_template(
                [_conversation(image, self._prompt) for image in images],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                padding=True,
            )
        texts = {"text": [self._prompt] * len(images)} if self._prompt else {}
        return self._images(images=list(images), return_tensors="pt", **texts)

    def _is_chat(self) -> bool:
        return bool(getattr(self._processor, "chat_template", None))


class TransformersTagger:
    """A classifier, a detector of fixed classes, or a detector of `words` it is given."""

    def __init__(
        self, model: str, task: Task, words: Sequence[str], *, device: str | None = None
    ) -> None:
        """Load the model; only `zero-shot-object-detection` looks for `words`.

        Raises:
            ModelError: transformers is missing, or the model is or cannot be loaded.
        """
        self._task, self._words = task, list(words)
        looked_for = f"/{digest(*words)[:8]}" if task.startswith("zero-shot") else ""
        self.model_id = f"{task}:{model}{looked_for}"
        auto, self._device = _library(), device or "cpu"
        self._model = _loaded(model, getattr(auto, _CLASSES[task]).from_pretrained)
        if task == "zero-shot-object-detection":
            self._model = self._model.to(self._device).eval()
            self._processor = _loaded(model, auto.AutoProcessor.from_pretrained)
        else:
            images = _loaded(model, auto.AutoImageProcessor.from_pretrained)
            self._pipeline = auto.pipeline(
                task, model=self._model, image_processor=images, device=self._device
            )

    def tag(self, images: Sequence[Image.Image]) -> list[tuple[Tag, ...] | Failed]:
        """The tags of each RGB picture, most confident first; a detector counts."""
        found = in_parts(self._run, images)
        return [answer if isinstance(answer, Failed) else _tags(answer) for answer in found]

    def _run(self, images: Sequence[Image.Image]) -> list[Any]:
        if self._task == "zero-shot-object-detection":
            return self._look_for_words(images)
        how = (
            {"top_k": MOST_TAGS}
            if self._task == "image-classification"
            else {"threshold": LEAST_CONFIDENCE}
        )
        return list(self._pipeline(list(images), **how))

    def _look_for_words(self, images: Sequence[Image.Image]) -> list[Any]:
        """All words in one forward pass; the library's pipeline takes one for each word."""
        import torch

        texts = [self._words] * len(images)
        inputs = self._processor(text=texts, images=list(images), return_tensors="pt")
        with torch.inference_mode():
            outputs = self._model(**inputs.to(self._device))
        found = self._processor.image_processor.post_process_object_detection(
            outputs, threshold=LEAST_CONFIDENCE
        )
        return [
            [
                {"label": self._words[int(label)], "score": float(score)}
                for label, score in zip(boxes["labels"], boxes["scores"], strict=True)
            ]
            for boxes in found
        ]


def in_parts(
    run: Callable[[Sequence[Image.Image]], list[Any]], images: Sequence[Image.Image]
) -> list[Any]:
    """`run` on a few pictures at a time; where that fails, on each alone, so that one fails."""
    out: list[Any] = []
    for start in range(0, len(images), AT_ONCE):
        part = images[start : start + AT_ONCE]
        try:
            out += run(part)
        # Models raise whatever a strange picture leads them to; out of memory is one of them.
        except Exception as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            out += in_singles(run, part) if len(part) > 1 else [Failed(reason)]
    return out


def in_singles(
    run: Callable[[Sequence[Image.Image]], list[Any]], images: Sequence[Image.Image]
) -> list[Any]:
    """`run` on each picture alone."""
    return [answer for image in images for answer in in_parts(run, [image])]


def _tags(found: Sequence[dict[str, Any]]) -> tuple[Tag, ...]:
    """One tag a label; what a detector found several times, about as surely, is counted."""
    scores: dict[str, list[float]] = {}
    for item in found:
        name = str(item["label"]).split(",")[0].strip().replace("_", " ").lower()
        scores.setdefault(name, []).append(round(float(item["score"]), 3))
    tags = [
        Tag(name, max(of), sum(score >= max(of) / 2 for score in of)) for name, of in scores.items()
    ]
    tags.sort(key=lambda tag: (-tag.confidence, tag.name))
    return tuple(tag for tag in tags[:MOST_TAGS] if tag.confidence >= LEAST_CONFIDENCE)


def _sentence(text: str | Failed) -> str | Failed:
    if isinstance(text, Failed):
        return text
    return " ".join(text.split()) or Failed("the captioner said nothing")


def _conversation(image: Image.Image, prompt: str) -> list[dict[str, Any]]:
    asked = prompt or "Describe this photograph in one plain sentence."
    content = [{"type": "image", "image": image}, {"type": "text", "text": asked}]
    return [{"role": "user", "content": content}]


def _library() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            "transformers is not installed: pip install 'rwkvsearch[describe]', or describe "
            "without --captioner and with `--tagger own`"
        ) from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def _loaded(model: str, load: Callable[..., Any]) -> Any:
    """What `load` makes of a model: from this machine if it is here, else from the hub."""
    try:
        try:
            return load(model, local_files_only=True)
        except OSError:
            if Path(model).exists() or os.environ.get("HF_HUB_OFFLINE"):
                raise
            return load(model, local_files_only=False)
    # Of transformers, the hub library or torch: all one to us.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{model}: cannot be loaded by transformers: {reason}") from error
