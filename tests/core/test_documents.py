"""Files that someone else wrote are read within bounds, or refused by one sentence."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from product_cls.core.documents import read_json, read_yaml
from product_cls.core.errors import UserError

BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(f'*{a}' for _ in range(9))}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

DAMAGED = {
    "bomb": BOMB,
    "deep": "a: " + "[" * 200_000,
    "deep blocks": "- " * 200_000,
    "deep mappings": '{"a":' * 100_000,
    "digits": '{"a": ' + "1" * 10_000 + "}",
    "date": "a: 2024-99-99",
    "python": "a: !!python/object/apply:os.system [true]",
    "bytes": b"\xff\xfe\x00a",
    "list": "[1, 2]",
    "number": "3",
    "empty": "",
    "list as a key": "? [a]\n: 1\n",
    "zero": "\0",
}


@pytest.mark.parametrize("read", [read_json, read_yaml])
@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_sentence_at_once(
    tmp_path: Path, name: str, read: Callable[[Path, Any], Any]
) -> None:
    file, content = tmp_path / "file", DAMAGED[name]
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        read(file, dict)
    assert time.monotonic() - started < 2
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_what_is_no_file_or_too_large_is_not_opened(
    tmp_path: Path, read: Callable[[Path, Any], Any]
) -> None:
    pipe, folder, large = tmp_path / "pipe", tmp_path / "folder", tmp_path / "large"
    os.mkfifo(pipe)
    folder.mkdir()
    with large.open("wb") as file:
        file.truncate(2**30)
    for path, why in (
        (pipe, "it is no file"),
        (folder, "it is no file"),
        (large, "1073741824 bytes are more than"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(UserError, match=f"{path.name} cannot be read: {why}"):
            read(path, dict)


def test_plain_content_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text('{"a": [1, 2.5, null, "데이터"]}', encoding="utf-8")
    assert read_json(file, dict) == read_yaml(file, dict) == {"a": [1, 2.5, None, "데이터"]}
