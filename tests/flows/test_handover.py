"""Objects on their way into flows and tasks."""

import pickle

from flows.handover import OpaqueJob


def test_progress_stays_in_the_process_of_the_job():
    parcel = OpaqueJob("job", [].append)
    assert parcel.on_tile is not None
    arrived = pickle.loads(pickle.dumps(parcel))  # noqa: S301 (written right here)
    assert (arrived.job, arrived.on_tile) == ("job", None)
