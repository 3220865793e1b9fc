"""Opening of a ledger: errors and versions."""

import pytest

from pipeline.errors import LedgerError, MissingExtraError
from pipeline.operations.ledger.scenes import Ledger


def test_errors_are_one_line_without_secrets(tmp_path):
    (tmp_path / "file").write_text("no database, but long enough to be taken for one" * 30)
    with pytest.raises(LedgerError, match="file is not a database"):
        Ledger(f"sqlite:///{tmp_path}/file")
    with pytest.raises(LedgerError, match="no SQLAlchemy URL"):
        Ledger("not a url")
    with pytest.raises(MissingExtraError) as caught:
        Ledger("oracle://scott:tiger@localhost/db")
    assert "tiger" not in str(caught.value)
    assert "\n" not in str(caught.value)
