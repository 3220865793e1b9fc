"""Opening of a ledger: errors and versions."""

import pytest

from pipeline.config import Config
from pipeline.errors import LedgerError, MissingExtraError
from pipeline.operations.ledger.scenes import Ledger, existing_ledger, open_ledger


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


def test_a_damaged_schema_that_is_not_utf_8_is_one_line(tmp_path):
    open_ledger(tmp_path, Config()).close()
    file = tmp_path / "ledger.sqlite"
    raw = file.read_bytes()
    assert b"CREATE TABLE" in raw
    file.write_bytes(raw.replace(b"CREATE TABLE", b"CREATE T\xd1BLE"))
    with pytest.raises(LedgerError, match=r"ledger\.sqlite can't be used"):
        open_ledger(tmp_path, Config())


@pytest.mark.parametrize("name", ["a ?1", "a ?2", "#1 50% &[a](b)'ü;!"])
def test_the_ledger_lies_in_its_folder_whatever_its_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    open_ledger(folder, Config()).close()
    assert list(tmp_path.iterdir()) == [folder]
    assert (folder / "ledger.sqlite").is_file()
    existing_ledger(folder, Config()).close()
