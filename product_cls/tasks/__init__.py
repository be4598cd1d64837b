"""What a label means. A new task is one module here, with a ``Task``, and a file in ``conf/task``.

``Decoder`` says what scores mean, ``Presentation`` how they are shown, and ``Task``, which is both,
what is trained.
"""

from product_cls.tasks.base import Task, build_task
from product_cls.tasks.decoder import Decoder
from product_cls.tasks.presentation import Presentation

__all__ = ["Decoder", "Presentation", "Task", "build_task"]
