"""Networks with normalisation and probabilities inside."""

import numpy as np
import torch

from pipeline.models.bundle import open_bundle
from pipeline.models.normalise import normalise
from pipeline.models.registry import build_network
from pipeline.models.standalone import standalone


def test_reflectance_in_calibrated_probabilities_out_and_nan_is_no_data():
    bundle = open_bundle("landcover")
    card = bundle.card
    image = np.random.default_rng(1).uniform(0, 0.5, (10, 32, 48)).astype(np.float32)
    image[0, :8] = np.nan  # a required band: no data
    image[card.bands.index("B11"), 20:] = np.nan  # an optional one
    valid = np.isfinite(image[:4]).all(axis=0)
    network = bundle.load_into(build_network(card))
    with torch.inference_mode():
        (found,) = standalone(bundle)(torch.from_numpy(image)[None])
        logits = network(normalise(image, valid, card)[None])
    expected = (logits / card.calibration.temperature).softmax(dim=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(1, 32, 48))
