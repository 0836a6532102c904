"""Global feature distillation (phases 1 and 2): pyramid of the student towards pyramid of the teacher.

Shapes: each level (N, C, H, W), the same for student and teacher. Losses are computed in float32.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def standardized(features: Tensor, eps: float = 1e-6) -> Tensor:
    """Each channel at zero mean and unit variance over N, H and W."""
    mean = features.mean(dim=(0, 2, 3), keepdim=True)
    std = features.std(dim=(0, 2, 3), keepdim=True)
    return (features - mean) / (std + eps)


def pkd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared error of standardised features: 1 - Pearson correlation, channel by channel.

    PKD: W. Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation
    Coefficient", NeurIPS 2022.
    """
    return 0.5 * functional.mse_loss(standardized(student.float()), standardized(teacher.float()))


def mse_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of the features as they are."""
    return functional.mse_loss(student.float(), teacher.float())


FEATURE_LOSSES = {"pkd": pkd_loss, "mse": mse_loss}
