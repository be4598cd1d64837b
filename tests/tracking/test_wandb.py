"""Runs in W&B, offline, read back as W&B itself reads them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs_in_process import RETRIEVAL, train, train_interrupted


def records(file: Path) -> list[dict[str, Any]]:
    """What an offline run's file holds, by `wandb leet inspect`."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


class Offline:
    """One offline run, by kind of record."""

    def __init__(self, file: Path) -> None:
        self.records = records(file)

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [record[kind] for record in self.records if record["type"] == kind]

    @property
    def run(self) -> dict[str, Any]:
        return self.all("run")[0]

    @property
    def summary(self) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for record in self.all("summary"):
            merged |= record["update"]
        return merged

    @property
    def history(self) -> list[dict[str, Any]]:
        return [record["item"] for record in self.all("history")]


def runs_below(folder: Path) -> list[Offline]:
    return [Offline(file) for file in sorted(folder.rglob("offline-run-*/*.wandb"))]


def test_print(tmp_path: Path, tiny_root: Path) -> None:
    run = train(tmp_path / "run", tiny_root, "logger=wandb", "name=sweep")
    (offline,) = runs_below(run.path)
    for r in offline.records:
        print(json.dumps(r)[:1500])
    print(list(run.path.rglob("*")))
    raise
