"""What the doctor finds in a library that is served: looked for in the background."""

from __future__ import annotations

from rwkvsearch.indexer.doctor.run import Checkup, Report, diagnose
from rwkvsearch.indexer.library import Library
from rwkvsearch.ui.api.jobs import Job, Jobs


class Checkups:
    """The last diagnosis of one library. Safe among threads; close it before the library."""

    def __init__(self, library: Library, ann: str | None = None) -> None:
        """Nothing is started; `ann` is the address of the cluster that the library uses."""
        self._library = library
        self._ann = ann
        self._check: str | None = None
        self._jobs: Jobs[None, Report] = Jobs(self._look, lambda: None)

    @property
    def check(self) -> str | None:
        """The name of the check that runs now."""
        return self._check

    def start(self) -> bool:
        """Look at the library as `rwkvsearch doctor` does; whether nobody was looking already."""
        return self._jobs.start(None)

    def job(self) -> Job[Report]:
        """The last report, and whether another one is being made."""
        return self._jobs.known(None)

    def wait(self, seconds: float) -> Job[Report]:
        """The same, waited for if there is none yet."""
        return self._jobs.ask(None, seconds)

    def close(self) -> None:
        """Start nothing more."""
        self._jobs.close()

    def _look(self, _: None) -> Report:
        from rwkvsearch.retrieval.installed import check_installed

        try:
            checkup = Checkup(weights=check_installed, ann=self._ann)
            return diagnose(self._library, checkup, self._on_check)
        finally:
            self._check = None

    def _on_check(self, name: str) -> None:
        self._check = name
