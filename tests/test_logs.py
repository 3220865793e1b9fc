import json
import logging
import logging.handlers
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.logs import collected, labelled, log_to

log = logging.getLogger("pipeline.somewhere")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_bear_the_labels_of_their_context(tmp_path):
    with log_to(tmp_path / "log.jsonl"):
        log.info("before")
        with labelled(scene="S2A_X"):
            with labelled(shard=3):
                log.warning("%d tiles", 7)
            log.info("after")
    before, inside, after = lines(tmp_path / "log.jsonl")
    assert "scene" not in before
    assert (inside["scene"], inside["shard"], inside["message"]) == ("S2A_X", 3, "7 tiles")
    assert (inside["level"], inside["logger"]) == ("WARNING", "pipeline.somewhere")
    assert after["scene"] == "S2A_X"
    assert "shard" not in after


def test_tracebacks_are_in_the_line_of_their_error(tmp_path):
    with log_to(tmp_path / "log.jsonl"):
        try:
            raise ValueError("two\nlines")
        except ValueError:
            log.exception("failed")
    (line,) = lines(tmp_path / "log.jsonl")
    assert "ValueError: two\nlines" in line["traceback"]


def test_what_was_there_stays_and_the_logger_is_as_it_was(tmp_path):
    logger = logging.getLogger("pipeline")
    before = (logger.level, logger.propagate, list(logger.handlers))
    for _ in range(2):
        with log_to(tmp_path / "log.jsonl"):
            log.info("once")
    assert len(lines(tmp_path / "log.jsonl")) == 2
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_a_log_that_can_not_be_written(tmp_path):
    with pytest.raises(OutputError, match="log can't be written"), log_to(tmp_path / "nowhere" / "log.jsonl"):
        pass


def test_what_is_collected_below_reaches_the_log_too_but_no_other_handler(tmp_path, caplog):
    file, reported = tmp_path / "log.jsonl", logging.handlers.MemoryHandler(10)
    below = logging.getLogger("pipeline.training.x")
    with log_to(file), collected("pipeline.training", reported):
        below.info("in both")
    with collected("pipeline.training", reported):
        below.info("in one")
    assert [json.loads(line)["message"] for line in file.read_text().splitlines()] == ["in both"]
    assert [record.getMessage() for record in reported.buffer] == ["in both", "in one"]
    assert not caplog.records
