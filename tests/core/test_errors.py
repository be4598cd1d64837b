"""Messages for users contain no logins."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from product_cls.core.errors import UserError, reason, without_login
from product_cls.data.stream.files import ShardError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("data.root=https://me:secret@host/shop: no", "data.root=https://host/shop: no"),
        ("https://me:se@cr?e#t@host:80", "https://host:80"),
        ("There is no folder https:/me:secret@host/shop", "There is no folder https:/host/shop"),
        ("{a: 'http://u:p@h/x', b: postgresql://u@h/y}", "{a: 'http://h/x', b: postgresql://h/y}"),
        ("sqlite:////data/a@b.db of me@host", "sqlite:////data/a@b.db of me@host"),
        ("https://host/a@b, file:///a@b", "https://host/a@b, file:///a@b"),
    ],
)
def test_logins_are_removed(text: str, shown: str) -> None:
    assert without_login(text) == shown
    assert str(UserError(text)) == shown
    assert reason(OSError(f"{text}.\n")) == shown


def test_no_advice_to_run_what_a_file_holds(tmp_path: Path) -> None:
    torch.save({"x": Path("a")}, tmp_path / "a.ckpt")
    np.save(tmp_path / "a.npy", np.array([{}]))
    for load in (
        lambda: torch.load(tmp_path / "a.ckpt", weights_only=True),
        lambda: np.load(tmp_path / "a.npy", allow_pickle=False),
    ):
        with pytest.raises(Exception) as caught:
            load()
        assert reason(caught.value) == "it holds Python objects, which are never loaded"


def test_errors_of_other_processes_keep_their_message() -> None:
    assert str(pickle.loads(pickle.dumps(ShardError("a is damaged.")))) == "a is damaged."
