"""Atomic file writes."""

from pathlib import Path

import pytest

from product_cls.core.files import whole_file, write_text_whole


def test_file_appears_whole_and_failure_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "a.txt"
    with whole_file(file) as partial:
        partial.write_text("first")
        assert not file.exists()
    with pytest.raises(ValueError, match="halfway"), whole_file(file) as partial:
        partial.write_text("sec")
        raise ValueError("halfway")
    assert file.read_text() == "first" and [*file.parent.iterdir()] == [file]
    write_text_whole(file, "third")
    assert file.read_text() == "third" and [*file.parent.iterdir()] == [file]
