"""Running the networks over a scene, tile by tile, exactly."""
