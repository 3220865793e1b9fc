"""Classes of a land-cover legend, and those of Dynamic World."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LegendClass(BaseModel):
    """Class of a legend: value in the raster, name, and colour as #RRGGBB."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    value: int = Field(ge=0, le=254)
    """255 is no class."""
    name: str = Field(min_length=1, max_length=200)
    colour: str = Field(pattern=r"^#[0-9A-Fa-f]{6}$")


DYNAMIC_WORLD = tuple(
    LegendClass(value=value, name=name, colour=colour)
    for value, (name, colour) in enumerate(
        (
            ("water", "#419BDF"),
            ("trees", "#397D49"),
            ("grass", "#88B053"),
            ("flooded vegetation", "#7A87C6"),
            ("crops", "#E49635"),
            ("shrub and scrub", "#DFC35A"),
            ("built", "#C4281B"),
            ("bare", "#A59B8F"),
            ("snow and ice", "#B39FE1"),
        )
    )
)
"""Values, names and official colours of Brown et al., "Dynamic World", Scientific Data 9:251, 2022."""
