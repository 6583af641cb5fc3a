"""Every error a user can cause, as one tree.

RwkvSearchError
├── ImageError          one picture cannot be used; `reason` is short enough for a table
├── DataError           a caption file, split or shard is missing or malformed
├── ModelError          unknown model, bad weights, wrong config, missing backend
├── LibraryError        no library, wrong model for it, cannot be written
│   ├── LibraryBusy     another process is writing to it
│   ├── ServerGone      the database server does not answer, or has stopped in the middle
│   ├── NotThere        no such image or album
│   └── NameTaken       an album of that name is there already
├── ClusterError        the machines that share the work cannot be reached or used
├── QueryError          a query that cannot be answered as asked
└── DaemonError         the process that answers queries cannot be started
"""


class RwkvSearchError(Exception):
    """A mistake a person can fix: the message says what, which file, and what to do."""


class ImageError(RwkvSearchError):
    """One picture cannot be used.

    `reason` is a short lower-case phrase such as `truncated file`, stored in the catalog.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class DataError(RwkvSearchError):
    """A caption file, split or shard is missing or malformed."""


class ModelError(RwkvSearchError):
    """A model or one of its parts is unknown, broken or cannot run here."""


class LibraryError(RwkvSearchError):
    """A library is missing, was made by another model, or cannot be written."""


class LibraryBusy(LibraryError):
    """Another process is writing to a library; it can be tried again."""


class ServerGone(LibraryError):
    """The database server of a library does not answer, or has stopped in the middle."""


class NotThere(LibraryError):
    """What is asked for by its name or number is not in the library."""


class NameTaken(LibraryError):
    """Something of that name is in the library already."""


class QueryError(RwkvSearchError):
    """A query cannot be answered as asked."""


class ClusterError(RwkvSearchError):
    """The machines that are to share the work cannot be reached, or are not fit for it."""


class DaemonError(RwkvSearchError):
    """The process that answers queries at once cannot be started."""
