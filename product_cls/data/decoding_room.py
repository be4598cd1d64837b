"""Bounds the memory of pictures that the threads of a process decode at once.

A picture takes about 7 bytes a pixel while it is decoded: 4 in Pillow, 3 in the array.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Condition, local


class DecodingRoom:
    """Lets threads in while their pictures have no more than ``limit`` pixels together.

    A picture that is larger than the limit is let in alone.

    Args:
        limit: pixels.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.taken = limit, 0
        self._changed = Condition()
        self._thread = local()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Wait until ``pixels`` more have room, and keep it until the block ends.

        Inside ``held`` the room is kept until that block ends.
        """
        held: ExitStack | None = getattr(self._thread, "held", None)
        if held is None:
            with self._taken(pixels):
                yield
            return
        held.close()  # of an earlier picture: waiting while keeping room could wait forever
        held.enter_context(self._taken(pixels))
        yield

    @contextmanager
    def held(self) -> Iterator[None]:
        """Around decoding and resizing: the room of the decoded picture is kept until the end."""
        with ExitStack() as held:
            self._thread.held = held
            try:
                yield
            finally:
                del self._thread.held

    @contextmanager
    def _taken(self, pixels: int) -> Iterator[None]:
        pixels = min(pixels, self.limit)
        with self._changed:
            self._changed.wait_for(lambda: self.taken + pixels <= self.limit)
            self.taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self.taken -= pixels
                self._changed.notify_all()


ROOM = DecodingRoom(200 * 10**6)  # about 1.4 GB
