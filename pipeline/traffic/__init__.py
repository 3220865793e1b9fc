"""The same roads on many dates: flows by road and direction, counters, rates, recurring detections."""
