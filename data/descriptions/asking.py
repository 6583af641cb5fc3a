"""The generated texts of a language model: what it is asked, and what is kept of its answers."""

from __future__ import annotations

from collections.abc import Sequence

from rwkvsearch.data.descriptions.cache import Cache, remembered
from rwkvsearch.data.descriptions.prompts import Question, cleaned, grounding, prompt_id
from rwkvsearch.data.descriptions.protocols import Failed, LanguageModel
from rwkvsearch.data.descriptions.recipe import Recipe
from rwkvsearch.data.descriptions.texts import Described, Text, digest


def question_of(item: Described) -> Question:
    """What a language model is asked about a picture; a sentence of mere colours is no source."""
    synthetic = ""
    for saying in item.sayings:
        if saying.kind == "synthetic" and (saying.provider, saying.confidence) != ("offline", None):
            synthetic = saying.text
    return Question(item.texts.get("raw", ()), synthetic, item.tags)


def answer_key(item: Described, question: str, recipe: Recipe, model: LanguageModel) -> str:
    """What an answer is kept under: picture, texts, instruction, model and its settings."""
    return digest("answer", item.sha256, question, recipe.instruction, model.model_id)


def ask_about(
    items: Sequence[Described], recipe: Recipe, model: LanguageModel, cache: Cache
) -> list[Text | Failed]:
    """The generated text of each picture, or why there is none.

    Each answer is in the cache as soon as it arrived; only what is fit for use is kept there, so
    that the next run asks again for the rest.

    Raises:
        ModelError: the model cannot be asked at all.
    """
    questions = [question_of(item) for item in items]
    asked = [place for place, question in enumerate(questions) if question.as_text()]
    texts = [questions[place].as_text() for place in asked]
    keys = [answer_key(items[n], t, recipe, model) for n, t in zip(asked, texts, strict=True)]
    results: list[Text | Failed] = [Failed("there is nothing to ask about") for _ in items]

    def compute(missing: list[int]) -> dict[int, str]:
        def keep(place: int, answer: str) -> None:
            if isinstance(text := cleaned(answer), str):
                cache.put({keys[missing[place]]: text})

        answers = model.answer(recipe.instruction, [texts[place] for place in missing], keep)
        good = {}
        for place, answer in zip(missing, answers, strict=True):
            text = answer if isinstance(answer, Failed) else cleaned(answer)
            if isinstance(text, Failed):
                results[asked[place]] = text
            else:
                good[place] = text
        return good

    for place, text in zip(asked, remembered(cache, keys, compute), strict=True):
        if text is not None:
            sure = grounding(text, questions[place])
            prompt = prompt_id(recipe.instruction)
            results[place] = Text("generated", text, "endpoint", model.model_id, sure, prompt)
    return results
