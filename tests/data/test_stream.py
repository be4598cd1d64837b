"""Shards: pictures are read as they were written, from a folder or an address, or not at all."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Refused
from filelock import FileLock
from PIL import Image

from product_cls.core.errors import UserError
from product_cls.core.files import digest
from product_cls.data.datamodule import ProductDataModule
from product_cls.data.folds import make_folds, split_rows
from product_cls.data.pictures import load_picture, picture_file
from product_cls.data.readers import read_competition
from product_cls.data.samples import samples_fingerprint
from product_cls.data.store import UnreadablePicturesError, build_store
from product_cls.data.stream import files, transfer, writing
from product_cls.data.stream.reading import StreamStore, read_stream
from product_cls.data.stream.transfer import ShardError
from product_cls.data.stream.writing import write_stream


@pytest.fixture(scope="module")
def samples(tiny_root: Path) -> pd.DataFrame:
    return read_competition(tiny_root)


def write(samples: pd.DataFrame, out: Path, **options: Any) -> Path:
    settings: dict[str, Any] = {"shard_size": 7, "side": None, "on_unreadable": "stop"}
    write_stream(samples, out, **(settings | options))
    return out


@pytest.fixture(scope="module")
def shards(samples: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 training pictures in 6 shards and 32 test pictures in 5; do not modify."""
    return write(samples, tmp_path_factory.mktemp("stream") / "shards")


def opened(root: Path | str, cache: Path, **options: Any) -> StreamStore:
    settings: dict[str, Any] = {"fit": "squash", "window": 1000, "cache_gb": 1.0}
    table = read_stream(str(root), cache=cache)
    return StreamStore(table, str(root), (32, 32), cache=cache, **(settings | options))


def test_table_and_pictures_are_unchanged(
    samples: pd.DataFrame, shards: Path, tmp_path: Path
) -> None:
    table = read_stream(str(shards), cache=tmp_path)
    pd.testing.assert_frame_equal(table.drop(columns="path"), samples.drop(columns="path"))
    for here, there in zip(table["path"], samples["path"], strict=True):
        source = picture_file(here)
        assert not isinstance(source, Path) and source.read() == Path(there).read_bytes()
    assert samples_fingerprint(table) == samples_fingerprint(samples)
    names = sorted(file.name for file in shards.glob("*.tar"))
    assert names == [f"{s}-{k:06d}.tar" for s, n in (("test", 5), ("train", 6)) for k in range(n)]
    # A training shard samples all classes, although the table is sorted by class.
    first = table["path"].str.contains("train-000000")
    assert table["label"][first].nunique() > 2


def test_columns_keep_their_dtypes(samples: pd.DataFrame, tmp_path: Path) -> None:
    columns = {
        "label": np.resize(["01", "NA", "a,b\n'"], 8),
        "group": ["007", None, *"abcdef"],
        "mask": np.arange(8) % 2,
        "width": [0.1, 1 / 3, np.nan, *range(5)],
        "view": np.arange(8),
    }
    table = samples[:8].assign(**columns)
    read = read_stream(str(write(table, tmp_path / "out")), cache=tmp_path)
    pd.testing.assert_frame_equal(
        read.drop(columns="path"), table.drop(columns="path"), check_dtype=False
    )
    assert [read[name].dtype.kind for name in ("mask", "width", "view")] == ["i", "f", "i"]


def test_a_finished_set_is_kept_and_other_settings_are_refused(
    samples: pd.DataFrame, shards: Path, refused: Refused
) -> None:
    before = {file: file.stat().st_mtime_ns for file in shards.iterdir()}
    write(samples, shards)
    assert {file: file.stat().st_mtime_ns for file in shards.iterdir()} == before
    with refused(str(shards), "other parameters", "name another folder"):
        write(samples, shards, side=16)
    with refused("shard_size=0; allowed: 1 to"):
        write(samples, shards, shard_size=0)


def test_an_interrupted_set_is_refused_and_can_be_resumed(
    samples: pd.DataFrame,
    shards: Path,
    tmp_path: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, whole = tmp_path / "out", writing._write_shard

    def power_fails(file: Path, *rest: Any) -> None:
        if file.name == "train-000002.tar":
            file.with_name(f"{file.name}.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        whole(file, *rest)

    monkeypatch.setattr(writing, "_write_shard", power_fails)
    with pytest.raises(KeyboardInterrupt):
        write(samples, out)
    with refused(str(out), "unfinished", "write them again with the same settings"):
        read_stream(str(out), cache=tmp_path)
    first = (out / "train-000000.tar").stat().st_mtime_ns
    monkeypatch.setattr(writing, "_write_shard", whole)
    write(samples, out)
    assert (out / "train-000000.tar").stat().st_mtime_ns == first
    contents = [{f.name: f.read_bytes() for f in folder.iterdir()} for folder in (out, shards)]
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("stream.json", None, ("root=", "no folder of shards", "shards were written")),
        ("train-000001.tar", None, ("train-000001.tar is missing", "copy it again")),
        ("train-000001.tar", b"half", ("train-000001.tar has 4 bytes", "copy it again")),
        ("index.json", b"{}", ("index.json is damaged",)),
        ("samples.csv", b"id,path,split\n", ("samples.csv cannot be read", "not the table")),
    ],
)
def test_an_incomplete_set_is_refused(
    shards: Path, tmp_path: Path, refused: Refused, name: str, content: bytes | None, parts: Any
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in shards.iterdir():
        (copy / file.name).hardlink_to(file)
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_bytes(content)
    with refused(*parts):
        read_stream(str(copy), cache=tmp_path)


def test_pictures_that_cannot_be_decoded(samples: pd.DataFrame, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(Path(samples["path"][3]).read_bytes()[:200])
    table = samples.copy()
    table.loc[[3, 50], "path"] = [str(bad), str(tmp_path / "none.jpg")]
    with pytest.raises(UnreadablePicturesError) as caught:
        write(table, tmp_path / "out")
    assert set(caught.value.reasons) == {str(bad), str(tmp_path / "none.jpg")}
    with pytest.raises(UserError, match="unfinished"):
        read_stream(str(tmp_path / "out"), cache=tmp_path)
    warnings: list[str] = []
    write(table, tmp_path / "out", on_unreadable="drop", warn=warnings.append)
    assert len(warnings) == 1 and warnings[0].startswith("2 pictures")
    assert samples["id"][3] in warnings[0]
    read = read_stream(str(tmp_path / "out"), cache=tmp_path)
    assert read["id"].tolist() == samples["id"].drop([3, 50]).tolist()


def test_pipes_and_huge_pictures_cannot_be_decoded(samples: pd.DataFrame, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    Image.new("RGB", (90, 60)).save(tmp_path / "large.png")
    table = samples.copy()
    table.loc[[3, 50], "path"] = [str(tmp_path / "pipe.jpg"), str(tmp_path / "large.png")]
    with pytest.raises(UnreadablePicturesError) as caught:
        write(table, tmp_path / "out", max_pixels=5000)
    assert list(caught.value.reasons.values()) == [
        "it is not a file",
        "90 x 60 pixels, but max_pixels=5000",
    ]


def test_large_pictures_are_reduced(samples: pd.DataFrame, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.fromarray(np.full((60, 90, 3), 200, np.uint8)).save(large)
    table = samples[:5].copy()
    table.loc[0, "path"] = str(large)
    read = read_stream(str(write(table, tmp_path / "out", side=32)), cache=tmp_path)
    assert load_picture(read["path"][0]).shape == (32, 48, 3)
    assert abs(load_picture(read["path"][0]).astype(int) - 200).max() <= 2
    assert np.array_equal(load_picture(read["path"][1]), load_picture(table["path"][1]))


def batches(
    samples: pd.DataFrame, store: Any, split: str, *, train: bool = False, workers: int = 0
) -> list[dict[str, Any]]:
    train_ids, val_ids = split_rows(make_folds(samples, "stratified", label="label"), 0)
    data = ProductDataModule(
        samples,
        store,
        samples["label"].astype(int).to_numpy(),
        train_ids=train_ids,
        val_ids=val_ids,
        batch_size=8,
        num_workers=workers,
    )
    return list(data.loader(split, train=train))


def test_batches_equal_those_of_the_image_store(
    samples: pd.DataFrame, shards: Path, tmp_path: Path
) -> None:
    stored, streamed = build_store(samples, tmp_path / "s", (32, 32)), opened(shards, tmp_path)
    for split, train in (("train", True), ("test", False)):
        pairs = zip(
            batches(samples, stored, split, train=train),
            batches(samples, streamed, split, train=train),
            strict=True,
        )
        for batch, expected in pairs:
            assert all(batch[key].equal(expected[key]) for key in ("image", "target", "index"))
    val = [batches(samples, store, "val") for store in (stored, streamed)]
    pictures = [
        {int(i): x for b in part for i, x in zip(b["index"], b["image"], strict=True)}
        for part in val
    ]
    assert pictures[0].keys() == pictures[1].keys() and len(pictures[0]) == 8
    assert all(pictures[0][index].equal(pictures[1][index]) for index in pictures[0])


def test_workers_change_nothing_and_validation_pictures_stay_out(
    samples: pd.DataFrame, shards: Path, tmp_path: Path
) -> None:
    store = opened(shards, tmp_path, window=10)
    alone, shared = (batches(samples, store, "train", train=True, workers=n) for n in (0, 2))
    assert [b["index"].tolist() for b in alone] == [b["index"].tolist() for b in shared]
    assert all(a["image"].equal(b["image"]) for a, b in zip(alone, shared, strict=True))
    learned = sorted(index for b in alone for index in b["index"].tolist())
    train, val = split_rows(make_folds(samples, "stratified", label="label"), 0)
    assert learned == sorted(samples.index[samples["id"].isin(train)])
    assert not set(samples["id"][learned]) & set(val)


def test_an_address_is_read_through_a_cache_of_bounded_size(
    samples: pd.DataFrame, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = max(file.stat().st_size for file in shards.glob("*.tar"))
    address, fetched, held = f"file://{shards}", [], []
    plain = files.download

    def counted(source: str, target: Path, **rest: Any) -> None:
        plain(source, target, **rest)
        if target.suffix == ".tar":
            fetched.append(target.name)
            held.append(sum(file.stat().st_size for file in target.parent.glob("*.tar")))

    monkeypatch.setattr(files, "download", counted)
    store = opened(address, tmp_path / "cache", cache_gb=3 * most / 1e9)
    assert store.files.remote and fetched == []
    local = opened(shards, tmp_path)
    for _ in range(2):
        for row in np.lexsort((store.offsets, store.shards)):
            assert np.array_equal(store.picture(row), local.picture(row))
    assert max(held) <= 3 * most and len(set(held)) > 1
    assert (
        len(fetched) == 22
    )  # 11 shards, each once per pass: the first ones were deleted meanwhile


@contextmanager
def served(folder: Path, handler: type[SimpleHTTPRequestHandler]) -> Iterator[str]:
    """Host and port of a server for the files of a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl fetches from http")
def test_shards_behind_http(shards: Path, tmp_path: Path, refused: Refused) -> None:
    with served(shards, SimpleHTTPRequestHandler) as host:
        address = f"http://{host}"
        store = opened(address, tmp_path / "cache")
        assert np.array_equal(store.picture(7), opened(shards, tmp_path).picture(7))
        with refused(f"{address}/none/stream.json cannot be fetched: curl failed with status 22: "):
            read_stream(f"{address}/none", cache=tmp_path)


class Guarded(SimpleHTTPRequestHandler):
    """Requires a password."""

    def send_head(self) -> Any:
        if self.headers["Authorization"] == f"Basic {b64encode(b'me:secret').decode()}":
            return super().send_head()
        return self.send_error(HTTPStatus.UNAUTHORIZED)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl fetches from http")
def test_a_login_is_used_and_not_shown(shards: Path, tmp_path: Path, refused: Refused) -> None:
    with served(shards, Guarded) as host:
        store = opened(f"http://me:secret@{host}", tmp_path / "cache")
        assert np.array_equal(store.picture(7), opened(shards, tmp_path).picture(7))
        table = read_stream(f"http://me:secret@{host}", cache=tmp_path / "cache")
        assert table["path"].str.startswith(f"http://{host}/t").all()
        with refused(f"http://{host}/stream.json cannot be fetched: curl"):
            read_stream(f"http://me:wrong@{host}", cache=tmp_path)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl fetches from http")
def test_curl_finds_the_login_itself(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".curlrc").write_text("netrc\n")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    with served(shards, Guarded) as host:
        assert len(read_stream(f"http://{host}", cache=tmp_path)) == 72


def test_a_cache_too_small_for_the_window_is_refused(
    shards: Path, tmp_path: Path, refused: Refused
) -> None:
    most = max(file.stat().st_size for file in shards.glob("*.tar"))
    store = opened(f"file://{shards}", tmp_path, cache_gb=5 * most / 1e9, window=20)
    with refused("cache_gb=", "a window of 20 pictures", "or more"):
        store.check_room(np.arange(40))
    opened(f"file://{shards}", tmp_path, cache_gb=5 * most / 1e9, window=1).check_room(
        np.arange(40)
    )
    opened(shards, tmp_path, cache_gb=1e-9, window=20).check_room(np.arange(40))


def test_a_set_that_changed_at_its_address_is_fetched_anew(
    samples: pd.DataFrame, shards: Path, tmp_path: Path
) -> None:
    place, cache = tmp_path / "place", tmp_path / "cache"
    place.symlink_to(shards)
    opened(f"file://{place}", cache).picture(0)
    place.unlink()
    place.symlink_to(write(samples[:20], tmp_path / "other"))
    store = opened(f"file://{place}", cache)
    assert len(store.ids) == 20 and not list(cache.glob("*/*.tar"))
    assert np.array_equal(store.picture(5), opened(tmp_path / "other", cache).picture(5))


def test_failed_downloads_are_one_sentence(
    shards: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refused("root=ftp://host/shop", "allowed: a folder, or http://"):
        read_stream("ftp://host/shop", cache=tmp_path)
    with refused("file:///nowhere/stream.json cannot be fetched"):
        read_stream("file:///nowhere", cache=tmp_path)
    place = tmp_path / "place"
    place.mkdir()
    for file in shards.iterdir():
        (place / file.name).hardlink_to(file)
    store = opened(f"file://{place}", tmp_path / "cache")
    name = store.files.names[store.shards[0]]
    (place / name).unlink()
    with refused(name, "cannot be fetched"):
        store.picture(0)
    (place / name).write_bytes(b"half")
    with refused(name, "has 4 bytes, its index says"):
        store.picture(0)
    other = bytearray((shards / name).read_bytes())
    other[-1] ^= 1
    (place / name).unlink()
    (place / name).write_bytes(other)
    with refused(name, "its checksum differs"):
        store.picture(0)
    assert not list((tmp_path / "cache").glob("*/*.tmp"))


def test_a_shard_damaged_during_a_run_is_one_sentence_even_from_workers(
    samples: pd.DataFrame, tmp_path: Path, refused: Refused
) -> None:
    store = opened(write(samples, tmp_path / "out"), tmp_path)
    (tmp_path / "out" / "test-000001.tar").write_bytes(b"x" * 100)
    with refused("test-000001.tar", "it is damaged"):
        batches(samples, store, "test", workers=1)
    content = bytearray((tmp_path / "out" / "test-000000.tar").read_bytes())
    content[store.offsets[40] : store.offsets[40] + 50] = bytes(50)
    (tmp_path / "out" / "test-000000.tar").write_bytes(content)
    with pytest.raises(ShardError, match=r"test-000000.tar .* holds no picture at byte"):
        store.picture(40)


def test_without_webdataset(
    samples: pd.DataFrame,
    shards: Path,
    tmp_path: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with refused("Writing shards needs WebDataset", '"product-cls[streaming]"'):
        write(samples, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert opened(f"file://{shards}", tmp_path).picture(0).shape == (32, 32, 3)  # reading does not


def test_webdataset_can_read_the_set(shards: Path) -> None:
    import webdataset

    index = json.loads((shards / "index.json").read_text())
    name, size, count = index["shards"][0]
    assert (shards / name).stat().st_size == size
    read = list(webdataset.WebDataset(str(shards / name), shardshuffle=False))
    table = pd.read_csv(shards / "samples.csv")
    assert len(read) == count == 7
    for sample in read:
        place = table["path"][int(sample["__key__"])]
        assert place.startswith(f"{name}/") and place.endswith(f"+{len(sample['jpg'])}")


def test_the_end_of_a_run_does_not_wait_for_shards(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from product_cls.data.stream.files import ShardFiles
ShardFiles.fetch = lambda self, shard: time.sleep(300)
files = ShardFiles("http://127.0.0.1", Path(sys.argv[1]), list("abcdef"), [1] * 6, [None] * 6, 6)
for shard in range(6):
    files.fetch_soon(shard)
raise KeyboardInterrupt
"""
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=100, check=False)
    assert ended.returncode != 0


def test_partial_downloads_are_deleted_and_used_shards_stay(shards: Path, tmp_path: Path) -> None:
    train = sorted(file for file in shards.glob("train-*.tar"))
    room = sum(file.stat().st_size for file in train[:3])
    files = opened(f"file://{shards}", tmp_path, cache_gb=1.01 * room / 1e9).files
    for shard in range(3):
        files.fetch(shard)
        os.utime(files.folder / files.names[shard], (shard, shard))
    files.fetch_soon(0)  # requested again, so the second is deleted first
    left = files.folder / f".{files.names[3]}.99999.tmp"
    left.write_bytes(b"a part of it")
    files.fetch(3)
    assert not left.exists()
    held = sorted(file.name for file in files.folder.glob("*.tar"))
    assert held == [files.names[shard] for shard in (0, 2, 3)]


def test_one_process_at_a_time_deletes_shards(
    samples: pd.DataFrame, shards: Path, tmp_path: Path
) -> None:
    place, cache = tmp_path / "place", tmp_path / "cache"
    place.symlink_to(shards)
    old = opened(f"file://{place}", cache).files
    old.fetch(0)
    place.unlink()
    place.symlink_to(write(samples[:20], tmp_path / "other"))
    other_run = threading.Thread(target=lambda: read_stream(f"file://{place}", cache=cache))
    with FileLock(old.folder / ".room.lock"):  # like a run that makes room
        other_run.start()
        other_run.join(0.5)
        assert other_run.is_alive() and list(old.folder.glob("*.tar"))
    other_run.join()
    assert not list(old.folder.glob("*.tar"))


def test_a_shard_may_disappear_while_room_is_made(shards: Path, tmp_path: Path) -> None:
    files = opened(f"file://{shards}", tmp_path).files
    (files.folder / "gone.tar").symlink_to("nowhere")  # listed, but missing when it is examined
    files.fetch(0)
    assert (files.folder / files.names[0]).is_file()


def test_a_cached_shard_of_the_wrong_size_is_fetched_again(shards: Path, tmp_path: Path) -> None:
    store = opened(f"file://{shards}", tmp_path)
    expected = store.picture(0)
    cached = store.files.folder / store.files.names[store.shards[0]]
    for content in (b"", b"cut", cached.read_bytes() + b"and more"):
        cached.write_bytes(content)
        store.files.fetch(int(store.shards[0]))
        assert np.array_equal(store.picture(0), expected)
    cached.write_bytes(b"cut")
    assert np.array_equal(store.picture(0), expected)
    (cached.parent / "samples.csv").write_text("id,path")
    assert np.array_equal(opened(f"file://{shards}", tmp_path).picture(0), expected)
    assert cached.is_file()


def test_a_whole_cache_may_be_read_only(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    expected = opened(f"file://{shards}", tmp_path).picture(0)

    def read_only(*arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("product_cls.data.stream.reading.FileLock", read_only)
    monkeypatch.setattr(files, "FileLock", read_only)
    monkeypatch.setattr(os, "utime", read_only)
    store = opened(f"file://{shards}", tmp_path)
    store.files.fetch_soon(int(store.shards[0]))
    assert np.array_equal(store.picture(0), expected)
    with refused(store.files.names[-1], "cannot be written: Permission denied"):
        store.files.fetch(len(store.files.names) - 1)


class Hanging(SimpleHTTPRequestHandler):
    """Accepts a request and never answers."""

    def send_head(self) -> Any:
        time.sleep(10)


class Dripping(SimpleHTTPRequestHandler):
    """Sends a few bytes a second for ever."""

    def do_GET(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.end_headers()
        with suppress(OSError):
            for _ in range(200):
                self.wfile.write(b" ")
                time.sleep(0.05)


class Endless(SimpleHTTPRequestHandler):
    """Sends as fast as it can for ever."""

    def do_GET(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(bytes(2**20))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl fetches from http")
@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (Hanging, "only 0 bytes came in 1 seconds"),
        (Dripping, "bytes came in 1 seconds"),
        (Endless, "is larger than the 100000000 bytes that it may have"),
    ],
)
def test_a_server_that_never_ends_is_not_waited_for(
    tmp_path: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    handler: type[SimpleHTTPRequestHandler],
    said: str,
) -> None:
    monkeypatch.setattr(transfer, "PATIENCE", 1.0)
    started = time.monotonic()
    with served(tmp_path, handler) as host, refused("stream.json", said):
        read_stream(f"http://{host}", cache=tmp_path)
    assert time.monotonic() - started < 8


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl fetches from http")
def test_brackets_in_an_address_are_no_pattern(shards: Path, tmp_path: Path) -> None:
    place = tmp_path / "place" / "shop[1-3]{a,b}"
    shutil.copytree(shards, place)
    with served(tmp_path / "place", SimpleHTTPRequestHandler) as host:
        store = opened(f"http://{host}/shop[1-3]{{a,b}}", tmp_path / "cache")
        assert np.array_equal(store.picture(7), opened(shards, tmp_path).picture(7))


def test_a_missing_tool_is_named(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for address, tool in (
        ("http://host/shop", "curl"),
        ("s3://b/shop", "aws"),
        ("gs://b", "gsutil"),
    ):
        with refused(f"{address}/stream.json cannot be fetched: {tool}: No such file"):
            read_stream(address, cache=tmp_path)


INDEX_DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda index: [index],
    "a number": lambda index: 7,
    "no shards": lambda index: index | {"shards": []},
    "shards are text": lambda index: index | {"shards": "train"},
    "a shard of two values": lambda index: index | {"shards": [["a.tar", 3]]},
    "a path as name": lambda index: index | {"shards": [["../a.tar", 3, 1]]},
    "a folder in the name": lambda index: index | {"shards": [["b/a.tar", 3, 1]]},
    "a number as name": lambda index: index | {"shards": [[3, 3, 1]]},
    "a hidden name": lambda index: index | {"shards": [[".a.tar", 3, 1]]},
    "a size below 0": lambda index: index | {"shards": [["a.tar", -3, 1]]},
    "a size of text": lambda index: index | {"shards": [["a.tar", "3", 1]]},
    "a size without bounds": lambda index: index | {"shards": [["a.tar", 10**30, 1]]},
    "a size that is none": lambda index: index | {"shards": [["a.tar", float("nan"), 1]]},
    "a shard twice": lambda index: index | {"shards": index["shards"] + index["shards"][:1]},
    "columns are a list": lambda index: index | {"columns": ["id"]},
    "an unknown dtype": lambda index: index | {"columns": index["columns"] | {"id": "nope"}},
    "a dtype that fits none": lambda index: index | {"columns": index["columns"] | {"id": "int64"}},
    "no table": lambda index: {key: index[key] for key in ("shards", "columns")},
    "the table of another set": lambda index: index | {"samples": "0123456789abcdef"},
    "checksums are text": lambda index: index | {"checksums": "abc"},
    "a checksum is a number": lambda index: index | {"checksums": {"a.tar": 3}},
}


@pytest.mark.parametrize("damage", INDEX_DAMAGES.values(), ids=INDEX_DAMAGES.keys())
def test_a_damaged_index_is_one_sentence(
    shards: Path, tmp_path: Path, refused: Refused, damage: Callable[[dict[str, Any]], Any]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    index = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_text(json.dumps(damage(index)))
    for root in (str(copy), f"file://{copy}"):
        with refused(str(copy) if root == str(copy) else "", "."):
            read_stream(root, cache=tmp_path / "cache")


@pytest.mark.parametrize(
    "place",
    ["", "train-000000.tar", "x.tar/0+9", "a/train-000000.tar/0+9", "train-000000.tar/0+9999999"],
)
def test_a_place_outside_the_shards_is_refused(
    shards: Path, tmp_path: Path, refused: Refused, place: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    table = pd.read_csv(copy / "samples.csv", dtype=str)
    table.loc[3, "path"] = place
    text = table.to_csv(index=False)
    (copy / "samples.csv").write_text(text)
    index = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_text(json.dumps(index | {"samples": digest(text)}))
    with refused(str(copy), "samples.csv cannot be read", place):
        read_stream(str(copy), cache=tmp_path)


def test_contents_of_shards(samples: pd.DataFrame, shards: Path, tmp_path: Path) -> None:
    first = opened(shards, tmp_path)
    assert opened(shutil.copytree(shards, tmp_path / "copy"), tmp_path).contents == first.contents
    negative = samples.copy()
    other = tmp_path / "0.png"
    Image.new("RGB", (8, 8), "red").save(other)
    negative.loc[3, "path"] = str(other)
    assert opened(write(negative, tmp_path / "other"), tmp_path).contents != first.contents
