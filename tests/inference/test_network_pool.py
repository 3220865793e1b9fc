"""Which pool holds opened networks, and for how long."""

from weakref import ref

from pipeline.config import Engine
from pipeline.inference.network_pool import NetworkPool, current_networks
from pipeline.inference.run_models import Models
from pipeline.models.bundle import open_bundle

ENGINE = Engine(precision="float32")


def test_networks_are_shared_within_a_batch_and_dropped_when_no_run_holds_them():
    models = Models(open_bundle("trucks"), None)
    with NetworkPool() as batch:
        with NetworkPool(batch) as first:
            networks = ref(first.open(models, ENGINE, 1))
            with NetworkPool(batch) as second:
                assert current_networks() is second
                assert second.open(models, ENGINE, 1) is networks()
                second.close()
            assert first.open(models, ENGINE, 1) is networks()
        assert networks() is not None  # for the next scene of the batch
        with NetworkPool(batch) as third:
            assert third.open(models, ENGINE, 1) is networks()
            third.close()
            assert networks() is None
        with NetworkPool(batch) as fourth:
            networks = ref(fourth.open(models, ENGINE, 1))
    assert networks() is None
