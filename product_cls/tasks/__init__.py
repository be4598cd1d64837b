"""Tasks: how labels are learnt, decided and shown.

``Decoder`` turns scores into decisions and metrics, ``Presentation`` turns them into tables and
submissions, and ``Task``, which is both, adds training. A new task is a subclass of ``Task`` in a
module here or in any module that can be imported, and a file in ``conf/task`` or in a folder of
your own.
"""

from product_cls.tasks.base import Task, build_task
from product_cls.tasks.decoder import Decoder
from product_cls.tasks.presentation import Presentation

__all__ = ["Decoder", "Presentation", "Task", "build_task"]
