"""`index --profile` and `index --estimate` as text."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rwkvsearch.ui.words import counted, duration

if TYPE_CHECKING:
    from rwkvsearch.indexer.clock import Profile, Work
    from rwkvsearch.indexer.estimate import SyncEstimate

_ADVICE: dict[Work, str] = {
    "scan": "walking the folders takes longest; --exclude leaves out what holds no pictures.",
    "read": "reading the files takes longest: the pictures lie on a slow disk or network; "
    "more --workers help where it is slow to answer rather than slow to send.",
    "hash": "hashing the files takes longest, which more --workers share among more cores.",
    "decode": "decoding is what the model waits for; {workers}.",
    "preprocess": "resizing is what the model waits for; {workers}.",
    "encode": "the model is what takes the time; --precision bf16 or int8 is faster where the "
    "processor has it, and so is --device cuda where there is one.",
    "write": "writing to the library is what the model waits for: keep it on a faster disk "
    "(--library), or raise --batch-size.",
    "texts": "embedding the texts takes longest; --precision bf16 or int8 is faster.",
    "publish": "building the ann takes longest; it grows with the library, not with what is new: "
    "index more at a time.",
}


def profile_as_text(profile: Profile) -> str:
    """Return a table of the stages, what the model waited for, and one sentence of advice."""
    lines = [f"{'stage':<12}{'threads':>8}{'busy s':>9}{'of wall':>9}{'files/s':>11}"]
    for stage, busy in profile.busy.items():
        rate = profile.files * profile.threads[stage] / busy if busy else 0.0
        shown = f"{rate:,.0f}" if rate and stage not in {"scan", "texts", "publish"} else "-"
        lines.append(
            f"{stage:<12}{profile.threads[stage]:>8}{busy:>9.2f}{profile.share(stage):>9.0%}"
            f"{shown:>11}"
        )
    rate = profile.files / profile.seconds if profile.seconds else 0.0
    lines.append(f"{'wall clock':<20}{profile.seconds:>9.2f}{'':>9}{rate:>11,.0f}")
    waits = ", ".join(f"{seconds:.2f} s {what}" for what, seconds in profile.waited.items())
    lines.append(f"the model waited {waits}")
    if profile.files:
        lines.append(f"bottleneck: {profile.bottleneck}: {_advice(profile)}")
    return "\n".join(lines)


def estimate_as_text(estimate: SyncEstimate) -> str:
    """Return what indexing would take, one fact a line."""
    known = estimate.found - estimate.new
    rate = estimate.new / estimate.seconds if estimate.seconds else 0.0
    lines = [
        f"pictures  {estimate.found:,} found, {known:,} known and unchanged, {estimate.new:,} new",
        f"sample    {counted(estimate.sampled, 'file')} read, {estimate.bad:,} of them bad",
        f"time      about {duration(estimate.seconds)} on this machine ({rate:,.0f} files/s)",
        f"space     about {estimate.bytes / 1e6:,.2f} MB more in the library",
    ]
    return "\n".join(lines)


def _advice(profile: Profile) -> str:
    threads, cores = profile.threads["decode"], len(os.sched_getaffinity(0))
    workers = (
        f"try --workers {cores}, there are so many cores"
        if threads < cores
        else "every core is at work, so only more or faster cores help"
    )
    return _ADVICE[profile.bottleneck].format(workers=workers)
