"""Truth of what stands: outlines on the map."""

import geopandas as gpd
import numpy as np
import pytest

from pipeline.simulation.product_metadata import Granule
from pipeline.simulation.truth import write_look_alikes
from pipeline.simulation.world.buildings import Roof
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.spectra import PAINTS


def test_outline_has_place_size_and_direction(tmp_path):
    inside = Roof(10.0, 20.0, 90.0, 1.65, 0.25, PAINTS["white"])
    outside = Roof(-1.0, 20.0, 90.0, 1.65, 0.25, PAINTS["white"])
    write_look_alikes(tmp_path / "look_alikes.gpkg", [outside, inside], Granule(plan_world(64, 0)))
    table = gpd.read_file(tmp_path / "look_alikes.gpkg", layer="look_alikes")
    assert len(table) == 1
    x, y = 600000 + 100, 5900040 - 200
    # a lorry that heads east is long from west to east
    np.testing.assert_allclose(table.total_bounds, [x - 8.25, y - 1.25, x + 8.25, y + 1.25])
    assert table.loc[0, ["length_m", "width_m", "heading_deg"]].tolist() == pytest.approx([16.5, 2.5, 90])
    assert table.loc[0, "B04"] == pytest.approx(0.75)
