"""Everything that can go wrong and that a user can do something about, one class each."""


class TruckscapeError(Exception):
    """Root of all errors whose message is meant for the user; the command line prints it and exits 1."""


class ConfigError(TruckscapeError):
    """A setting is unknown or out of range."""


class SceneNotFoundError(TruckscapeError):
    """The scene's path or URL leads nowhere."""


class NotAProductError(TruckscapeError):
    """The input exists but is not a Sentinel-2 product in a layout that is understood."""


class MissingBandError(TruckscapeError):
    """A band that is needed is not in the scene."""


class CorruptImageError(TruckscapeError):
    """A raster could not be decoded."""


class GeoreferenceError(TruckscapeError):
    """CRS or geotransform is missing or unusable."""


class MetadataError(TruckscapeError):
    """Product metadata is missing, broken, unsafe, or contradicts itself."""


class LabelsError(TruckscapeError):
    """Labels or roads cannot be used: unreadable, no CRS, wrong geometry type, empty."""


class BundleError(TruckscapeError):
    """A model bundle is broken, or does not fit the scene."""


class OutputError(TruckscapeError):
    """The output folder cannot be written."""


class MissingExtraError(TruckscapeError):
    """An optional dependency is needed for what was asked."""


class TrainingError(TruckscapeError):
    """A training run cannot start or go on."""
