"""Fuzz tests: how many inputs they try, what may happen, and how the inputs are counted.

``FUZZ_EXAMPLES=2000 pytest -m fuzz`` tries more inputs than CI does; each run has the same ones.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
SLOWEST = 10.0  # CPU seconds for one tiny input
tried = 0  # inputs of this process; `conftest.py` reports the sum of all processes


def fuzz(share: float = 1.0) -> Callable[[Any], Any]:
    """Marks a test with ``given`` as a fuzz test and counts its inputs.

    Args:
        share: of ``EXAMPLES``, less than 1 for inputs that take long.
    """
    bounded = settings(
        max_examples=max(5, round(EXAMPLES * share)),
        derandomize=True,
        database=None,
        deadline=None,  # `refusing` bounds the CPU seconds, which a busy machine does not change
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )

    def decorate(test: Any) -> Any:
        one_input = test.hypothesis.inner_test

        @wraps(one_input)
        def counted(*arguments: Any, **named: Any) -> None:
            global tried
            tried += 1
            one_input(*arguments, **named)

        test.hypothesis.inner_test = counted
        return pytest.mark.fuzz(pytest.mark.usefixtures("counted")(bounded(test)))

    return decorate


@contextmanager
def refusing(*allowed: type[Exception]) -> Iterator[None]:
    """One input: the block may end, or refuse it with a message that can be printed.

    A message about several faults has a line for each; odd characters in names are escaped.

    Args:
        allowed: further exceptions beside ValueError, of which UserError is one.
    """
    started = time.process_time()
    try:
        yield
    except (ValueError, *allowed) as error:
        # A UnicodeDecodeError or a parser's error, also ValueErrors, would be tracebacks.
        ours = type(error).__module__.startswith("product_cls") or type(error) is ValueError
        assert ours or isinstance(error, allowed), f"{type(error).__name__}: {error}"
        if ours:
            assert all(c.isprintable() for c in str(error).replace("\n", "")), repr(str(error))
    assert time.process_time() - started < SLOWEST


def mutated(seed: bytes) -> st.SearchStrategy[bytes]:
    """A file with bytes cut off, replaced, inserted or repeated."""
    size = len(seed)
    place = st.integers(0, size)
    some = st.binary(max_size=8) | st.sampled_from(
        [
            b"\0",
            b"\xff" * 4,
            b"\n",
            b"\r",
            b'"',
            b",",
            b"{",
            b"&a",
            b"*a",
            b"\x80" * 4,
            b"-1",
            b"1e999",
        ]
    )
    edit = st.tuples(place, st.integers(0, 9), some)

    def apply(edits: list[tuple[int, int, bytes]], keep: int) -> bytes:
        content = bytearray(seed)
        for start, length, new in edits:
            content[start : start + length] = new
        return bytes(content[:keep])

    keep = st.just(2 * size) | st.just(2 * size) | place
    return st.builds(apply, st.lists(edit, min_size=1, max_size=4), keep)
