"""Errors that a user can act on, one class each."""

import errno

from pipeline.printable import printable
from pipeline.redaction import without_secrets


class TruckscapeError(Exception):
    """Root of all errors with a message for the user; the command line prints it and exits 1.

    Messages go to logs, ledgers and web pages, so signatures and credentials of addresses in them are
    removed, and characters of names that could forge lines or move a cursor are written as `\\x1b`.
    """

    is_transient = False
    """True if a retry may succeed without any change by the user; see `is_transient`."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(without_secrets(message)))


class ConfigError(TruckscapeError):
    """Unknown setting, or value out of range."""


class SceneNotFoundError(TruckscapeError):
    """Path or URL of a scene that does not exist."""


class UnreachableError(SceneNotFoundError):
    """Server or network that does not answer, is busy, or breaks off its answer."""

    is_transient = True


class NotAProductError(TruckscapeError):
    """Input that is not a Sentinel-2 product in a supported layout."""


class MissingBandError(TruckscapeError):
    """Scene without a required band."""


class ArrayError(TruckscapeError):
    """Array that is no image of a scene: its shape, type, bands or place."""


class PluginError(TruckscapeError):
    """Plug-in whose name is taken, or that is of no known kind."""


class CorruptImageError(TruckscapeError):
    """Raster that can't be decoded."""


class IncompleteReadError(CorruptImageError):
    """Raster behind a URL that can't be read: server or network error, or damaged file."""

    is_transient = True


class RefusedReadError(CorruptImageError):
    """Raster behind a URL whose server refuses it or does not have it."""


class GeoreferenceError(TruckscapeError):
    """Missing or unusable CRS or geotransform."""


class MetadataError(TruckscapeError):
    """Missing, broken, unsafe or contradictory product metadata."""


class RadiometryError(TruckscapeError):
    """Values of a scene that can't be reflectance."""


class VectorFileError(TruckscapeError):
    """Vector file that is missing, damaged or of an unsupported format."""


class LabelsError(VectorFileError):
    """Labels or predictions that can't be scored: no CRS, wrong geometry type, unknown class, empty."""


class EvaluationError(TruckscapeError):
    """Nothing was measured, or two evaluations cannot be compared: missing, unreadable, of other labels."""


class CountsError(TruckscapeError):
    """Table of counted trucks, or file of a traffic counter, that can't be used."""


class AreaError(VectorFileError):
    """Area file without polygons or without a CRS."""


class RoadsError(VectorFileError):
    """Unusable roads: no CRS, not lines, or refused by their server."""


class RoadsUnreachableError(RoadsError):
    """Server of roads that does not answer, is busy, or breaks off its answer."""

    is_transient = True


class RunsError(TruckscapeError):
    """Folders without finished runs, or whose runs can't be combined."""


class InputChangedError(TruckscapeError):
    """Input file that was changed or replaced while a run read it."""

    is_transient = True  # the next run reads it as it is then


class BundleError(TruckscapeError):
    """Model bundle that is broken or does not fit the scene."""


class OutputError(TruckscapeError):
    """Output folder that can't be written."""

    is_transient = True  # disks get cleared, and file servers return


class StoreRefusedError(OutputError):
    """Object store that refuses the credentials, or has no such bucket."""

    is_transient = False


class WorkerLostError(TruckscapeError):
    """Process of a shard that was killed or ran out of memory."""

    is_transient = True


class WorkerMismatchError(TruckscapeError):
    """Worker whose software or processor differs, so that its shard would differ."""


class LedgerError(TruckscapeError):
    """Ledger of a batch that can't be opened, read or written."""


class OrchestratorError(TruckscapeError):
    """Server of the orchestrator that does not answer or fails."""

    is_transient = True


class InstallationError(TruckscapeError):
    """GDAL, PROJ or temporary folder of this process that can't be used; no scene is at fault."""

    is_transient = True


class MissingExtraError(TruckscapeError):
    """Missing package of an optional extra."""


class OpenDataError(TruckscapeError):
    """Open data that is unknown, not in the cache, or not what the catalogue says."""


class OpenDataUnreachableError(OpenDataError):
    """Server of open data that does not answer, is busy, or breaks off its answer."""

    is_transient = True


class TrainingError(TruckscapeError):
    """Training run that can't start or continue."""


_OF_THE_MACHINE = {
    getattr(errno, name)
    for name in (
        "EACCES",
        "EDQUOT",
        "EIO",
        "EMFILE",
        "ENFILE",
        "ENOMEM",
        "ENOSPC",
        "EPERM",
        "EROFS",
        "ESTALE",
    )
    if hasattr(errno, name)
}
"""Errors of the system that another try, or another machine, may not meet."""


def is_transient(error: BaseException) -> bool:
    """Return True if a retry may help: the server, network or machine failed, not the input or our code."""
    if isinstance(error, TruckscapeError):
        return error.is_transient
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return True
    return isinstance(error, ConnectionError | TimeoutError | ImportError | MemoryError)
