"""Progress of a call."""

from concurrent.futures import ThreadPoolExecutor

from pipeline.api.progress import Reporter


def test_steps_and_tiles():
    calls = []
    reporter = Reporter(lambda *call: calls.append(call))
    reporter.say("check")
    reporter.begin("tiles", 3)
    reporter.on_tile(1)
    reporter.on_tile(2)
    reporter.say("report")
    assert calls == [("check", 0, 0), ("tiles", 0, 3), ("tiles", 1, 3), ("tiles", 3, 3), ("report", 3, 3)]


def test_threads_count_every_tile():
    calls = []
    reporter = Reporter(lambda *call: calls.append(call))
    reporter.begin("tiles", 200)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(reporter.on_tile, [1] * 200))
    assert [done for _, done, _ in calls] == list(range(201))


def test_without_a_function_nothing_happens():
    Reporter(None).begin("tiles", 3)
