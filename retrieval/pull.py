"""Fetching official weights: the only module that goes out to the network, and only when asked.

The commit is resolved first, so that everything comes from one state of the repository; the
download must have the hash that the hub states for it. Both are kept in the model's `config.json`.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.models import (
    WEIGHTS_FILE,
    ModelCard,
    ModelSpec,
    find_spec,
    folder_of,
    sha256_of,
    write_card,
)
from rwkvsearch.retrieval.rwkv_clip.checkpoint import build, load_tensors
from rwkvsearch.retrieval.rwkv_clip.config import B16, B32

_SHAPES = {"B/32": B32, "B/16": B16}
_OFFICIAL_PROMPT = "a photo of "


def pull(name: str, *, revision: str | None = None, file: Path | None = None) -> Path:
    """Install a model and return its folder.

    Args:
        name: a model that does not ship in the package.
        revision: commit of the hub repository, None for the newest.
        file: convert this official checkpoint instead; nothing is downloaded.

    Raises:
        ModelError: unknown name, no connection, a wrong hash, or weights that do not fit.
    """
    spec = find_spec(name)
    if spec.repository is None:
        where = "ships in the package" if spec.shipped else "was trained here"
        raise ModelError(f"model {name} {where}; there is nothing to pull")
    if file is not None:
        return install(spec, file, f"{file.name}, sha256 {sha256_of(file)}")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, source = _download(spec, spec.repository, revision, Path(folder))
        return install(spec, checkpoint, source)


def install(spec: ModelSpec, checkpoint: Path, source: str) -> Path:
    """Convert an official checkpoint, after checking that it fits, and put it in its place.

    The files appear one after the other, the weights first; `config.json` holds their hash, so a
    stop in between leaves a model that is reported as not installed or damaged, never a wrong one.
    """
    config = _SHAPES[spec.shape]
    model = build(config, load_tensors(checkpoint), str(checkpoint))
    folder = folder_of(spec)
    weights = folder / WEIGHTS_FILE
    temporary = folder / f"{WEIGHTS_FILE}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, temporary)
        card = ModelCard(
            name=spec.name,
            sha256=sha256_of(temporary),
            prompt=_OFFICIAL_PROMPT,
            config=config.to_dict(),
            source=source,
            licence="Apache-2.0, as the model card on the hub states",
        )
        temporary.replace(weights)
        write_card(card, folder)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            temporary.unlink()
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{folder}: cannot be written: {reason}") from error
    return folder


def _download(
    spec: ModelSpec, repository: str, revision: str | None, folder: Path
) -> tuple[Path, str]:
    """Download the checkpoint into `folder`; return it and where it comes from."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError as error:
        raise ModelError(
            "huggingface_hub is not installed: pip install 'rwkvsearch[hub]', or download "
            f"{spec.file} of {repository} yourself and pass it with --from"
        ) from error
    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=20)
        path = Path(hf_hub_download(repository, spec.file, revision=info.sha, local_dir=folder))
    except Exception as error:  # of the hub library, its HTTP client or the system: all one to us
        raise ModelError(_offline(spec, repository, error)) from error
    stated = {item.rfilename: item.lfs for item in info.siblings or []}.get(spec.file)
    found = sha256_of(path)
    if stated is None or found != stated.sha256:
        expected = stated.sha256 if stated else "nothing"
        raise ModelError(f"{repository}: {spec.file} has sha256 {found}, the hub states {expected}")
    return path, f"{repository}, revision {info.sha}, {spec.file}, sha256 {found}"


def _offline(spec: ModelSpec, repository: str, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"cannot fetch {spec.file} of {repository}: {reason}; try again with a connection, or "
        f"download it elsewhere and run `rwkvsearch model pull {spec.name} --from FILE`"
    )
