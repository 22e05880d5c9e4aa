"""Every error a run raises; the class name is what Step Functions sees and what `ErrorEquals` matches."""

from inference.text import printable


class RunError(Exception):
    """Anything that stops a run or one rank of it. The message says what happened, to which object, and what to do.

    It may name what a stranger's file holds: what no terminal should get is replaced, see `inference.text.printable`.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(printable(one) if isinstance(one, str) else one for one in arguments))


class InvalidRequestError(RunError):
    """The request cannot be understood: an unknown key, a missing one, or a value out of range. Not retried."""


class DatasetNotFoundError(RunError):
    """The bucket, prefix or object named in the request does not exist or holds no shard. Not retried."""


class DatasetError(RunError):
    """The shards are not those that ``dataset.json`` describes: missing, more, of other sizes. Not retried."""


class PlanError(RunError):
    """The request is valid but cannot fit: more ranks than rows, too little memory, time or payload. Not retried."""


class ResultPathTakenError(RunError):
    """The result path already holds another run, which would be overwritten. Not retried."""


class RendezvousError(RunError):
    """The ranks are to meet, and the rendezvous server does not answer or would not let them in. Not retried."""


class ShardFormatError(RunError):
    """A shard does not hold what the model reads: layout, shape or dtype. Not retried."""


class ShardChangedError(RunError):
    """A shard was replaced or deleted after the plan was made. Not retried: plan again."""


class InputError(RunError, ValueError):
    """Arrays given to `inference.RedshiftModel.predict` are not what the model reads. Not retried: no run raises it."""


class WeightsError(RunError):
    """The checkpoint does not fit the network: a missing, extra or wrongly shaped tensor. Not retried."""


class ModelError(RunError):
    """A model's folder or card cannot be read, or the request is for another model than is deployed. Not retried."""


class EngineError(RunError):
    """The engine asked for is not in this image or gave a redshift that is not finite. Not retried."""


class ObjectMissingError(RunError):
    """An object that an earlier stage wrote is gone: manifest, record or predictions. Not retried."""


class ObjectArchivedError(RunError):
    """An object is in a storage class from which it must be restored before it can be read. Not retried."""


class AccessDeniedError(RunError):
    """The role of this stage may not do what it tried. Not retried."""


class StorageUnavailableError(RunError):
    """S3 answered 5xx, SlowDown or nothing at all, beyond the client's own retries. Retried with full jitter."""


class FmiError(RunError):
    """Ranks that were to talk to each other cannot. Not retried: no stage raises it, a run continues without."""

    def __init__(self, message: str, *, ranks: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.ranks = ranks
        """The ranks it is about."""


class FmiTimeout(FmiError, TimeoutError):  # noqa: N818 -- the name that users of MPI-like libraries look for
    """Some ranks did not come, or did not answer, before the deadline. Not retried."""


class PeerLost(FmiError, ConnectionError):  # noqa: N818
    """A rank ended, or its connection did, before it had said goodbye. Not retried."""


class AuthError(FmiError):
    """A token or a peer's proof is wrong, expired or of another run, or a rank is there twice. Not retried."""


class MessageMismatchError(FmiError):
    """A message is not the one that was waited for: another call, dtype, shape, or too large. Not retried."""


class ManifestError(RunError):
    """``manifest.json`` is not the one that was planned: it lacks ranks or rows, or is another run's. Not retried."""


class RunFolderError(RunError):
    """A file of a run's folder is missing, cut off or of another version. Not retried: it is read after the run."""


class IncompleteRunError(RunError):
    """More ranks failed, are missing, stale or disagree with the manifest than the request tolerates. Not retried."""
