"""Losses over a teacher's soft targets."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TINY = 1e-8  # lower bound of a teacher's probabilities, whose logarithm is taken


class Distill(nn.Module):
    """Learn a teacher's answers beside the labels (Hinton et al. 2015, arXiv 1503.02531).

    ``(1 - share) * loss(labels) + share * t^2 * KL(teacher at t, student at t)`` for pictures that
    have both, with t the temperature. Pictures without a label have the second part alone.

    Args:
        loss: over the labels; cross entropy if None.
        share: of the teacher's answers in the loss of labelled pictures, 0 to 1.
        temperature: softens both, above 0; larger values show the student more of how a teacher
            ranks the wrong classes.

    Raises:
        ValueError: a value outside its range.
    """

    needs_teacher: ClassVar[bool] = True

    def __init__(
        self, loss: nn.Module | None = None, share: float = 0.5, temperature: float = 2.0
    ) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise ValueError(f"share={share}; allowed: 0 to 1.")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature={temperature}; allowed: above 0.")
        self.loss = loss or nn.CrossEntropyLoss()
        self.share, self.temperature = share, temperature

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss over the labels alone, a scalar."""
        value: Tensor = self.loss(logits, target)
        return value


def soft_losses(logits: Tensor, scores: Tensor, temperature: float = 1.0) -> Tensor:
    """``t^2`` times the Kullback-Leibler divergence from a teacher to the student, both at
    temperature t; with t = 1 its gradient is that of the cross entropy with soft targets.

    Args:
        logits: of the student, float ``[B, C]``.
        scores: of the teacher, float ``[B, C]``; rows sum to 1.
        temperature: t, above 0.

    Returns:
        float ``[B]``, 0 or more.
    """
    student = F.log_softmax(logits.float() / temperature, dim=1)
    teacher = F.log_softmax(scores.clamp(min=TINY).log() / temperature, dim=1)
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)
    return divergence * temperature**2


def taught_loss(
    loss: nn.Module, logits: Tensor, target: Tensor, scores: Tensor, weight: Tensor
) -> Tensor:
    """The loss of a batch in which some pictures have labels and some a teacher's answer.

    A picture with both is learned by its label, unless the loss is ``Distill``. The mean is over
    all pictures of the batch, so a weight below 1 makes a picture count less.

    Args:
        loss: over logits and labels, a scalar.
        logits: float ``[B, C]``.
        target: int64 ``[B]``; negative: no label.
        scores: of the teacher, float ``[B, C]``; any values where ``weight`` is 0.
        weight: of the answers, float ``[B]``, 0 to 1; 0: no answer.

    Returns:
        A scalar, 0 if no picture has a label or an answer.
    """
    options: Any = loss if getattr(loss, "needs_teacher", False) else None
    share, temperature = (0.0, 1.0) if options is None else (options.share, options.temperature)
    labelled, answered = target >= 0, weight > 0
    total = logits.sum() * 0.0  # keeps the graph where nothing is to learn
    for part, by_label in ((labelled & answered, 1 - share), (labelled & ~answered, 1.0)):
        if by_label > 0 and bool(part.any()):
            total = total + by_label * part.sum() * loss(logits[part], target[part])
    by_answer = torch.where(labelled, share, 1.0) * weight * answered
    if bool((by_answer > 0).any()):
        total = total + (by_answer * soft_losses(logits, scores, temperature)).sum()
    return total / len(logits)
