"""Captioners and taggers of transformers, as tiny models with random weights made on the spot."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rwkvsearch.data.descriptions.protocols import Failed
from rwkvsearch.data.descriptions.texts import Tag
from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.describing import pipelines
from rwkvsearch.retrieval.describing.pipelines import (
    TransformersCaptioner,
    TransformersTagger,
    in_parts,
)

T: Any = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
SQUARE = {"height": 32, "width": 32}
IMAGES = [Image.new("RGB", (50, 40), colour) for colour in ("red", "green", "blue")]
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a dog cat on grass the is red of photo and".split()


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    T.logging.set_verbosity_error()
    T.logging.disable_progress_bar()
    torch.manual_seed(0)


def tokenizer(folder: Path, **how: Any) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return T.BertTokenizerFast.from_pretrained(folder, **how)


def vision(**more: Any) -> dict[str, Any]:
    return {"image_size": 32, "patch_size": 16, **SIZE, **more}


@pytest.fixture
def blip(tmp_path: Path) -> Path:
    ends = {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = {"vocab_size": len(WORDS), "encoder_hidden_size": 16, "max_position_embeddings": 64}
    config = T.BlipConfig(
        text_config={**SIZE, **ends, **text, "projection_dim": 16},
        vision_config=vision(projection_dim=16),
        projection_dim=16,
        image_text_hidden_size=16,
    )
    T.BlipForConditionalGeneration(config).save_pretrained(tmp_path / "blip")
    processor = T.BlipProcessor(T.BlipImageProcessor(size=SQUARE), tokenizer(tmp_path / "words"))
    processor.save_pretrained(tmp_path / "blip")
    return tmp_path / "blip"


@pytest.fixture
def two_towers(tmp_path: Path) -> Path:
    decoder = T.BertConfig(vocab_size=len(WORDS), is_decoder=True, add_cross_attention=True, **SIZE)
    config = T.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        T.ViTConfig(**vision()), decoder
    )
    model = T.VisionEncoderDecoderModel(config=config)
    ends = {"decoder_start_token_id": 2, "pad_token_id": 0, "eos_token_id": 3}
    for settings in (model.config, model.generation_config):
        for name, value in ends.items():
            setattr(settings, name, value)
    model.save_pretrained(tmp_path / "pair")
    T.ViTImageProcessor(size=SQUARE).save_pretrained(tmp_path / "pair")
    tokenizer(tmp_path / "words").save_pretrained(tmp_path / "pair")
    return tmp_path / "pair"


CHAT = (
    "{% for m in messages %}{{ m['role'] }} {% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    """A chat model that sees, of LLaVA's kind."""
    inputs = ["input_ids", "attention_mask"]
    words = tokenizer(tmp_path / "words", padding_side="left", model_input_names=inputs)
    words.add_tokens(["<image>"], special_tokens=True)
    ends = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "num_key_value_heads": 2}
    config = T.LlavaConfig(
        vision_config=T.CLIPVisionConfig(**vision()),
        text_config=T.LlamaConfig(vocab_size=len(words), **SIZE, **ends),
        image_token_index=len(words) - 1,
        vision_feature_layer=-1,
    )
    T.LlavaForConditionalGeneration(config).save_pretrained(tmp_path / "llava")
    processor = T.LlavaProcessor(
        T.CLIPImageProcessor(size=SQUARE, crop_size=SQUARE),
        words,
        patch_size=16,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )
    processor.save_pretrained(tmp_path / "llava")
    return tmp_path / "llava"


def labels(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    named = labels("tabby, tabby cat", "golden_retriever", "lawn")
    T.ViTForImageClassification(T.ViTConfig(**vision(**named))).save_pretrained(tmp_path / "vit")
    T.ViTImageProcessor(size=SQUARE).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    named = labels("dog", "cat")
    shape = vision(image_size=[32, 32], num_detection_tokens=5, **named)
    T.YolosForObjectDetection(T.YolosConfig(**shape)).save_pretrained(tmp_path / "yolos")
    T.YolosImageProcessor(size=SQUARE).save_pretrained(tmp_path / "yolos")
    return tmp_path / "yolos"


@pytest.fixture
def open_detector(tmp_path: Path) -> Path:
    folder = tmp_path / "owl"
    folder.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz"
    symbols = ["!", "<|startoftext|>", "<|endoftext|>", *letters, *(f"{a}</w>" for a in letters)]
    (folder / "vocab.json").write_text(json.dumps({s: n for n, s in enumerate(symbols)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    text = {**SIZE, **ends, "vocab_size": len(symbols), "max_position_embeddings": 16}
    config = T.OwlViTConfig(text_config=text, vision_config=vision(), projection_dim=16)
    T.OwlViTForObjectDetection(config).save_pretrained(folder)
    words = T.CLIPTokenizerFast.from_pretrained(folder, pad_token="!", model_max_length=16)
    T.OwlViTProcessor(T.OwlViTImageProcessor(size=SQUARE), words).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["blip", "two_towers", "chat"])
def test_captioners(kind: str, request: pytest.FixtureRequest) -> None:
    captioner = TransformersCaptioner(str(request.getfixturevalue(kind)))
    captions = captioner.caption(IMAGES)
    assert len(captions) == 3
    assert all(isinstance(text, str) and set(text.split()) <= set(WORDS) for text in captions)
    assert captioner.caption(IMAGES) == captions
    assert captioner.provider == "transformers"


def test_a_caption_may_have_a_given_start(blip: Path) -> None:
    captioner = TransformersCaptioner(str(blip), prompt="a photo of")
    assert captioner.model_id == f"{blip}?prompt=a photo of"
    assert all(str(text).startswith("a photo of") for text in captioner.caption(IMAGES))


def test_classifier(classifier: Path) -> None:
    tagger = TransformersTagger(str(classifier), "image-classification", [])
    for tags in tagger.tag(IMAGES):
        assert isinstance(tags, tuple)
        assert {tag.name for tag in tags} == {"tabby", "golden retriever", "lawn"}
        assert sum(tag.confidence for tag in tags) == pytest.approx(1, abs=0.01)
        assert [tag.confidence for tag in tags] == sorted(
            (t.confidence for t in tags), reverse=True
        )


def test_detector_counts(detector: Path) -> None:
    tagger = TransformersTagger(str(detector), "object-detection", [])
    for tags in tagger.tag(IMAGES):
        assert isinstance(tags, tuple) and 1 <= tags[0].count <= 5
        assert {tag.name for tag in tags} <= {"dog", "cat"}


def test_open_detector_looks_for_words(
    open_detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines, "LEAST_CONFIDENCE", -1.0)
    words = ["dog", "red car"]
    tagger = TransformersTagger(str(open_detector), "zero-shot-object-detection", words)
    (tags, *_) = tagger.tag(IMAGES)
    assert isinstance(tags, tuple) and {tag.name for tag in tags} <= set(words) and tags
    other = TransformersTagger(str(open_detector), "zero-shot-object-detection", ["cat"])
    assert other.model_id != tagger.model_id


def test_what_was_found_several_times_is_counted() -> None:
    found = [{"label": "dog", "score": score} for score in (0.9, 0.5, 0.4)]
    assert pipelines._tags([*found, {"label": "Cat", "score": 0.95}]) == (
        Tag("cat", 0.95),
        Tag("dog", 0.9, 2),
    )


def test_one_strange_picture_fails_alone() -> None:
    def run(images: Any) -> list[str]:
        if any(image.width < 2 for image in images):
            raise RuntimeError("kernel larger than\nthe picture")
        return ["fine"] * len(images)

    tiny = Image.new("RGB", (1, 1))
    answers = in_parts(run, [IMAGES[0], tiny, *IMAGES * 3])
    assert answers == ["fine", Failed("kernel larger than the picture"), *["fine"] * 9]


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in (str(tmp_path / "empty"), "nobody/nothing"):
        with pytest.raises(ModelError, match=f"{name}: cannot be loaded by transformers") as caught:
            TransformersCaptioner(name)
        assert "\n" not in str(caught.value)


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ModelError, match=r"pip install 'rwkvsearch\[describe\]'"):
        TransformersCaptioner("any/model")
