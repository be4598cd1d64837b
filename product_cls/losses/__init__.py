"""Losses; each file in ``conf/loss`` names one of them as its ``_target_``."""

from product_cls.losses.distill import Distill
from product_cls.losses.multi_label import AsymmetricLoss, FocalBCELoss
from product_cls.losses.single_label import FocalLoss, SoftF1Loss, SumLoss, TripletLoss

__all__ = [
    "AsymmetricLoss",
    "Distill",
    "FocalBCELoss",
    "FocalLoss",
    "SoftF1Loss",
    "SumLoss",
    "TripletLoss",
]
