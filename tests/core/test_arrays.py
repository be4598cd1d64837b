"""Files of arrays that are damaged, forged or of another kind are refused with one sentence."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from product_cls.core.arrays import StoredArray, load_arrays, save_arrays
from product_cls.core.errors import UserError

Refused = Callable[..., AbstractContextManager[None]]
ARRAYS = {
    "name": np.array(["ä", "b\r", "c,d"]),
    "values": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2)),
    "count": np.array(3),
    "none": np.zeros((0, 2), np.int64),
    "swapped": np.arange(3, dtype=">f8"),
}


def load(file: Path, **options: object) -> dict[str, np.ndarray]:
    return load_arrays(file, dict, "file of numbers", **options)  # type: ignore[arg-type]


def header(shape: str, descr: str = "'<f4'") -> bytes:
    """A .npy header, without the numbers that it claims."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(file: Path, content: bytes, method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(file, "w", method) as opened:
        opened.writestr("x.npy", content)


def test_arrays_are_read_as_written(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    save_arrays(file, ARRAYS)
    read = load(file, stored=("values",))
    assert isinstance(read["values"], StoredArray) and read["values"].shape == (3, 2)
    read["values"] = read["values"].read()
    for name, array in ARRAYS.items():
        assert np.array_equal(read[name], array) and read[name].shape == array.shape, name
        assert read[name].dtype.isnative and read[name].flags.writeable


def test_every_flipped_bit_of_an_array_is_noticed(tmp_path: Path, refused: Refused) -> None:
    file = tmp_path / "a.npz"
    save_arrays(file, ARRAYS)
    whole = file.read_bytes()
    content = ARRAYS["values"].tobytes(order="A")
    start = whole.index(content)
    for k in range(0, 8 * len(content), 5):
        damaged = bytearray(whole)
        damaged[start + k // 8] ^= 1 << k % 8
        file.write_bytes(damaged)
        for stored in ((), ("values",)):
            with refused("a.npz is not a file of numbers: it is damaged (wrong checksum)"):
                load(file, stored=stored)


def test_a_stored_array_that_is_replaced_is_not_believed(tmp_path: Path, refused: Refused) -> None:
    file = tmp_path / "a.npz"
    save_arrays(file, ARRAYS)
    stored = load(file, stored=("values",))["values"]
    save_arrays(file, {"values": np.zeros((4, 2), np.float32)})
    with refused("cannot be read: 'values' has changed"):
        stored.read()


@pytest.mark.parametrize(
    "content",
    [
        header("(1000000000000,)"),
        header("(1000000000000,)", "'<U0'"),
        header("(-1, -4)") + b"\0" * 16,
        header("(3,)") + b"\0" * 16,
        header("(" * 3000),
        header("(2, 'a')"),
        header("(1,)", "'|O'") + b"\0" * 8,
        header("(1,)", "[('a', '|O')]") + b"\0" * 8,
        header("(1,)", "'<c8'") + b"\0" * 8,
        header("(1,)", "'<U1'") + b"\xff" * 4,
        header("(1,)", "'nonsense'") + b"\0" * 4,
        b"\x93NUMPY\x09\x00",
        b"",
    ],
    ids=repr,
)
def test_headers_that_claim_what_is_not_there(
    content: bytes, tmp_path: Path, refused: Refused
) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        archive(tmp_path / "a.npz", content, method)
        with refused("a.npz is not a file of numbers"):
            load(tmp_path / "a.npz")


def test_pickles_are_refused_without_advice_to_allow_them(tmp_path: Path, refused: Refused) -> None:
    objects = io.BytesIO()
    np.savez(objects, x=np.array([{}], dtype=object))
    for content in (pickle.dumps([1, 2]), objects.getvalue(), b"", b"PK\5\6", b"\0" * 999):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(UserError, match="is not a file of numbers") as caught:
            load(tmp_path / "a.npz")
        assert "allow" not in str(caught.value)
    with refused("No such file or directory"):
        load(tmp_path / "absent.npz")
