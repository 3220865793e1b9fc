"""Tables of a batch and its ledger: columns with content only, and advice for what failed."""

import io

from rich.console import Console

from pipeline.operations.batch import Summary
from pipeline.operations.ledger.owners import Owner
from pipeline.operations.ledger.scenes import Ledger, Registration
from pipeline.operations.tables import RETRY, ledger_page, summary_markdown, summary_page


def shown(page) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(page)
    return out.getvalue()


def test_what_was_left_out_of_a_folder_is_in_the_summary():
    summary = Summary(
        (), (), 1.0, 0.0, {}, ("in/a|b.zip is left out: it can't be read (Permission denied).",)
    )
    page, markdown = shown(summary_page(summary)), summary_markdown(summary)
    assert ["left", "out,", "can't", "be", "read", "1"] in [line.split() for line in page.splitlines()]
    assert "in/a|b.zip is left out: it can't be read (Permission denied)." in page
    assert "| left out, can't be read | 1 |" in markdown
    assert "- in/a&#124;b.zip is left out" in markdown or "- in/a\\|b.zip is left out" in markdown
    assert "left out" not in shown(summary_page(Summary((), (), 1.0, 0.0, {})))


def test_a_ledger_shows_columns_with_content_and_advice_for_what_failed(tmp_path):
    ledger, me = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite"), Owner("here", 1, 2, "me")
    ledger.register([Registration(name, f"/data/{name}", "s", "r") for name in ("a", "b")])
    assert ledger.claim("a", me)
    ledger.done("a", me, {"trucks": 7})
    assert ledger.claim("b", me)
    ledger.failed("b", me, "no band B08", is_transient=False, quarantine=True)
    left = shown(ledger_page(ledger.entries(), ledger.counts(), all_of_them=False))
    assert "no band B08" in left
    assert RETRY in left
    assert "per km" not in left
    complete = shown(ledger_page(ledger.entries(), ledger.counts(), all_of_them=True))
    rows = [line.split() for line in complete.splitlines()]
    assert ["done", "1"] in rows
    assert ["quarantined", "1"] in rows
    assert ["a", "done", "1", "7"] in rows
    ledger.close()
