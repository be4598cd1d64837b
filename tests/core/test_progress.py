"""Progress bars where nobody watches them."""

import io
import sys

import pytest

from product_cls.core.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("kind", "least", "most"), [(io.StringIO, 1, 3), (Terminal, 2, 200)])
def test_a_log_file_keeps_few_states(
    kind: type[io.StringIO], least: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = kind()
    monkeypatch.setattr(sys, "stderr", written)
    clock = iter(range(10**6))
    # A fifth of a second between any two looks at the clock.
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock) / 5)
    assert sum(progress_bar(range(50), "pictures")) == 1225
    states = written.getvalue().count("pictures:")
    assert least <= states <= most, written.getvalue()
    assert "50/50" in written.getvalue()
