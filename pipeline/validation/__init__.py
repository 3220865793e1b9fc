"""Quality of models: detectors measured for their cards, models compared."""
