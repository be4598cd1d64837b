"""What a label means. A new task is a module here, with a ``Task``, and a file in ``conf/task``."""

from product_cls.tasks.base import Task, build_task

__all__ = ["Task", "build_task"]
