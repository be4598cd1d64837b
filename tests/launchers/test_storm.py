"""A small storm: sweeps killed at random moments, typed again and compared."""

import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def storm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import storm

    return storm


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.timeout(600)
def test_killed_sweeps_end_equal_to_the_unbroken_one(storm: ModuleType, tmp_path: Path) -> None:
    arguments = storm.Arguments(kills=2, seeds=1, epochs=3, seed=3, mounts=False)
    storms = storm.Storm(tmp_path, arguments)
    kills = sweeps = 0
    while kills < arguments.kills:
        kills += storms.over(sweeps, "plain", arguments.kills - kills)
        sweeps += 1
    assert storms.faults == [] and sum(row["kills"] for row in storms.rows()) == 2

    # What is not equal is named.
    reference = storms.reference
    copy = storms.place("copy")
    shutil.copytree(reference.folder, copy.folder)
    (first, second) = sorted(copy.sweep.glob("*/"))
    predictions = first / "predictions" / "test.npz"
    with np.load(predictions) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["scores"][0, 0] = np.nextafter(arrays["scores"][0, 0], 1)
    np.savez(predictions, **arrays)
    (first / ".status.json.7.tmp").touch()
    (second / "metrics.json").unlink()
    (second / "checkpoints" / "best.ckpt").write_bytes(b"")
    found = storm.differences(copy, reference)
    assert [line.partition(":")[0] for line in found] == [
        f"sweep/{second.name}/metrics.json is missing",
        f"sweep/{first.name}/.status.json.7.tmp is left over",
        f"sweep/{first.name}/predictions/test.npz differs",
        f"sweep/{second.name}/checkpoints/best.ckpt is damaged",
    ]
