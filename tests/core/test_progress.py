"""Progress bars in log files and on terminals."""

import io
import sys

import pytest

from product_cls.core.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream_type", "minimum", "maximum"), [(io.StringIO, 0, 3), (Terminal, 2, 200)]
)
def test_a_log_file_gets_few_updates(
    stream_type: type[io.StringIO], minimum: int, maximum: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_type()
    monkeypatch.setattr(sys, "stderr", stream)
    clock = iter(range(10**6))
    # The clock advances by a fifth of a second per call.
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock) / 5)
    assert sum(progress_bar(range(50), "pictures")) == 1225
    updates = stream.getvalue().count("pictures:")
    assert minimum <= updates <= maximum, stream.getvalue()
    assert ("50/50" in stream.getvalue()) is (updates > 0)
