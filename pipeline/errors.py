"""Everything that can go wrong and that a user can do something about, one class each."""

from pipeline.redaction import without_secrets


class TruckscapeError(Exception):
    """Root of all errors whose message is meant for the user; the command line prints it and exits 1.

    Messages end up in logs, ledgers and pages: addresses in them lose what signs them.
    """

    is_transient = False
    """Whether the same may succeed later without anybody doing something about it; see `is_transient`."""

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(message))


class ConfigError(TruckscapeError):
    """A setting is unknown or out of range."""


class SceneNotFoundError(TruckscapeError):
    """The scene's path or URL leads nowhere."""


class UnreachableError(SceneNotFoundError):
    """A server, or the network before it, does not answer, is busy, or broke its answer off."""

    is_transient = True


class NotAProductError(TruckscapeError):
    """The input exists but is not a Sentinel-2 product in a layout that is understood."""


class MissingBandError(TruckscapeError):
    """A band that is needed is not in the scene."""


class CorruptImageError(TruckscapeError):
    """A raster could not be decoded."""


class IncompleteReadError(CorruptImageError):
    """A raster behind a URL cannot be read: server or network error, or the file there is damaged."""

    is_transient = True


class GeoreferenceError(TruckscapeError):
    """CRS or geotransform is missing or unusable."""


class MetadataError(TruckscapeError):
    """Product metadata is missing, broken, unsafe, or contradicts itself."""


class VectorFileError(TruckscapeError):
    """A vector file is missing, damaged, or of a format that is not opened."""


class LabelsError(VectorFileError):
    """Labels or predictions cannot be scored: no CRS, wrong geometry type, unknown class, empty."""


class AreaError(VectorFileError):
    """The file of the area to search holds no polygons, or has no CRS."""


class RoadsError(VectorFileError):
    """Roads cannot be used: no CRS, not lines, or refused by their server."""


class RoadsUnreachableError(RoadsError):
    """A server of roads does not answer, is busy, or broke its answer off."""

    is_transient = True


class BundleError(TruckscapeError):
    """A model bundle is broken, or does not fit the scene."""


class OutputError(TruckscapeError):
    """The output folder cannot be written."""

    is_transient = True  # disks are cleared, and file servers come back


class WorkerLostError(TruckscapeError):
    """A process that computed a shard was killed, or its machine ran out of memory."""

    is_transient = True


class WorkerMismatchError(TruckscapeError):
    """A machine that is to compute a shard has other software or another processor, and would get another."""


class LedgerError(TruckscapeError):
    """The ledger of a batch cannot be opened, read or written."""


class OrchestratorError(TruckscapeError):
    """The server of the orchestrator does not answer, or fails."""

    is_transient = True


class MissingExtraError(TruckscapeError):
    """An optional dependency is needed for what was asked."""


class TrainingError(TruckscapeError):
    """A training run cannot start or go on."""


def is_transient(error: BaseException) -> bool:
    """Whether trying again later may help: a server's fault or the network's, not the input's or ours."""
    if isinstance(error, TruckscapeError):
        return error.is_transient
    return isinstance(error, ConnectionError | TimeoutError)
