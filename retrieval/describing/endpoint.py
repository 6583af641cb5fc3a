"""A language model behind an OpenAI-compatible endpoint: vLLM, llama.cpp, a service.

Nothing goes to any other address: redirects are refused. Many questions are under way at once, so
that a server that batches has something to batch.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rwkvsearch.data.descriptions.protocols import Failed
from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.describing.access import KEY_VARIABLE, checked_address, need_httpx

if TYPE_CHECKING:
    import httpx

LONGEST_WAIT = 60.0
"""Seconds between two tries."""
LONGEST_STREAK = 50
"""Questions that may fail one after another before the run is stopped."""
_FATAL = {401: "no access", 403: "no access", 404: "no such model or path", 405: "no such path"}
_KEPT = "what is done is kept; run the same command to go on"


@dataclass
class Usage:
    """What was asked so far: tokens as the server counts them, seconds summed over requests."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0


@dataclass
class Endpoint:
    """A `LanguageModel`; `url` ends in `/v1` or the like.

    `timeout` and `first_wait` are seconds; the wait doubles from try to try. `key` never shows.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    concurrency: int = 8
    timeout: float = 120.0
    tries: int = 6
    first_wait: float = 1.0
    temperature: float = 0.2
    max_tokens: int = 120
    usage: Usage = field(default_factory=Usage)
    _streak: int = 0

    def __post_init__(self) -> None:
        """Check the address and that httpx is there."""
        self.url = checked_address(self.url)
        need_httpx()

    @property
    def model_id(self) -> str:
        """The model and the settings that change its answers; not where it runs."""
        return f"{self.model}?temperature={self.temperature:g}&max_tokens={self.max_tokens}"

    def answer(
        self, instruction: str, questions: Sequence[str], keep: Callable[[int, str], None]
    ) -> list[str | Failed]:
        """One answer for each question; `keep` is told each as soon as it is there.

        Raises:
            ModelError: no connection, no access, no such model, or one failure after another.
        """
        return asyncio.run(self._answer_all(instruction, questions, keep))

    async def _answer_all(
        self, instruction: str, questions: Sequence[str], keep: Callable[[int, str], None]
    ) -> list[str | Failed]:
        free = asyncio.Semaphore(self.concurrency)

        async def one(number: int, question: str) -> str | Failed:
            async with free:
                answer = await self._persist(client, self._body(instruction, question))
            if isinstance(answer, str):
                keep(number, answer)
            self._count(answer)
            return answer

        async with self._client() as client:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(n, q)) for n, q in enumerate(questions)]
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    def _client(self) -> httpx.AsyncClient:
        library = need_httpx()
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        limits = library.Limits(max_connections=self.concurrency)
        client: httpx.AsyncClient = library.AsyncClient(
            timeout=self.timeout, headers=headers, limits=limits
        )
        return client

    def _body(self, instruction: str, question: str) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [
                {"role": "system", "content": instruction},
                {"role": "user", "content": question},
            ],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }

    async def _persist(self, client: httpx.AsyncClient, body: dict[str, Any]) -> str | Failed:
        """Ask until there is an answer, a reason to give up, or no try left."""
        library = need_httpx()
        reason, wait = "", self.first_wait
        for attempt in range(self.tries):
            if attempt:
                await asyncio.sleep(wait * random.uniform(0.8, 1.2))
                wait = min(2 * wait, LONGEST_WAIT)
            began = time.monotonic()
            try:
                response = await client.post(f"{self.url}/chat/completions", json=body)
            except library.TimeoutException:
                reason = f"no answer within {self.timeout:g} s"
                continue
            except library.ConnectError as error:
                reason = f"no connection: {error}"
                if attempt == self.tries - 1:
                    raise ModelError(f"{self.url}: {reason}; {_KEPT}") from error
                continue
            except library.HTTPError as error:
                reason = f"connection lost: {error or type(error).__name__}"
                continue
            if response.status_code == 200:
                return self._read(response, time.monotonic() - began)
            reason = self._refused(response)
            if response.status_code != 429 and response.status_code < 500:
                return Failed(reason)
            wait = max(wait, _asked_to_wait(response))
        return Failed(f"{reason}, {self.tries} times")

    def _refused(self, response: httpx.Response) -> str:
        """Why the server did not answer; raises where asking again is of no use."""
        status = response.status_code
        said = " ".join(response.text.split())[:120]
        if 300 <= status < 400:
            place = response.headers.get("location", "elsewhere")
            raise ModelError(f"{self.url}: redirects to {place}: name that address instead")
        if status in _FATAL:
            key = f"; a key is read from ${KEY_VARIABLE} or --llm-key-file" if status < 404 else ""
            raise ModelError(f"{self.url}: {_FATAL[status]} (HTTP {status}: {said}){key}; {_KEPT}")
        return f"HTTP {status}" + (f": {said}" if said else "")

    def _read(self, response: httpx.Response, seconds: float) -> str | Failed:
        try:
            document = response.json()
            choice = document["choices"][0]
            text = choice["message"]["content"]
            used = document.get("usage") or {}
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return Failed("the answer is not that of an OpenAI-compatible endpoint")
        self.usage.requests += 1
        self.usage.seconds += seconds
        self.usage.tokens_in += used.get("prompt_tokens") or 0
        self.usage.tokens_out += used.get("completion_tokens") or 0
        if choice.get("finish_reason") == "length":
            return Failed(f"cut off after {self.max_tokens} tokens: raise --max-tokens")
        return text if isinstance(text, str) else Failed("the answer holds no text")

    def _count(self, answer: str | Failed) -> None:
        self._streak = 0 if isinstance(answer, str) else self._streak + 1
        if isinstance(answer, Failed) and self._streak >= LONGEST_STREAK:
            raise ModelError(
                f"{self.url}: {self._streak} questions in a row failed, the last with "
                f"{answer.reason!r}; {_KEPT}"
            )


def _asked_to_wait(response: httpx.Response) -> float:
    try:
        return min(float(response.headers.get("retry-after", 0)), LONGEST_WAIT)
    except ValueError:
        return 0.0
