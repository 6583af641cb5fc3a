"""Instruction sets for fine-tuning a language model, as LLaMA-Factory reads them.

RWKV-CLIP fine-tunes LLaMA3 on answers of a larger model: sources in, description out. Source: arXiv
2406.06973, section 3.1; formats: LLaMA-Factory, data/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from rwkvsearch.data.descriptions.asking import question_of
from rwkvsearch.data.descriptions.prompts import INSTRUCTION
from rwkvsearch.data.descriptions.texts import Described
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.files import replacing

Format = Literal["alpaca", "sharegpt"]
DATASET_INFO = "dataset_info.json"


def export_instructions(
    items: Iterable[Described], target: Path, form: Format, instruction: str = INSTRUCTION
) -> int:
    """Write (raw, synthetic, tags -> answer) to a JSON file; return how many.

    Only answers of a language model are exported, a composed sentence teaches nothing. The entry
    that LLaMA-Factory needs goes into `dataset_info.json` beside the file, other entries stay.

    Raises:
        DataError: there is no answer, or the files cannot be written.
    """
    make = _alpaca if form == "alpaca" else _sharegpt
    rows = [make(instruction, question, answer) for question, answer in _pairs(items)]
    if not rows:
        raise DataError(
            f"{target}: no answer of a language model to export; describe with --llm first"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        info = _info(target.with_name(DATASET_INFO)) | {target.stem: _entry(target.name, form)}
        _write(target, rows)
        _write(target.with_name(DATASET_INFO), info)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror}") from error
    return len(rows)


def _pairs(items: Iterable[Described]) -> Iterable[tuple[str, str]]:
    for item in items:
        for saying in item.sayings:
            if saying.kind == "generated" and saying.provider == "endpoint":
                yield question_of(item).as_text(), saying.text


def _alpaca(instruction: str, question: str, answer: str) -> dict[str, Any]:
    return {"instruction": instruction, "input": question, "output": answer}


def _sharegpt(instruction: str, question: str, answer: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": turns, "system": instruction}


def _entry(file_name: str, form: Format) -> dict[str, Any]:
    columns = (
        {"prompt": "instruction", "query": "input", "response": "output"}
        if form == "alpaca"
        else {"messages": "conversations", "system": "system"}
    )
    return {"file_name": file_name, "formatting": form, "columns": columns}


def _info(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON, so no entry can be added: {error}") from error
    if not isinstance(info, dict):
        raise DataError(f"{path}: not an object, so no entry can be added")
    return info


def _write(path: Path, document: Any) -> None:
    with replacing(path) as file:
        file.write(json.dumps(document, indent=2, ensure_ascii=False).encode())
