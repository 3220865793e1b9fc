"""How good the models are: detectors measured for their cards, models compared."""
