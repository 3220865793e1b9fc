"""All kinds of input; a new one is an entry of `KINDS`."""

from tests.fuzz.kinds import commands, documents, folders, products, rasters, vectors
from tests.fuzz.trial import Kind

KINDS: tuple[Kind, ...] = (
    rasters.GEOTIFF,
    products.JPEG2000,
    products.XML_FILES,
    products.SAFE,
    products.ZIP,
    documents.STAC,
    vectors.ROADS,
    vectors.LABELS,
    vectors.AREA,
    documents.SETTINGS,
    commands.OPTIONS,
    documents.MODELS,
    folders.LEDGER,
    folders.OUTPUTS,
    folders.NAMES,
    folders.NEIGHBOURS,
)
