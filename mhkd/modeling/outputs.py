"""How the outputs of student and teacher are compared: one class for each kind of pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from mhkd.modeling.alignment import Scales, to_teacher
from mhkd.modeling.teacher import Teacher
from mhkd.modeling.upsampling import Upsampled

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class View:
    """A batch as both detectors see it; ground truth and the student's images are in the up-sampled frame.

    features: the pyramid that the student's head reads. teacher_pyramid: f_H.
    """

    images: ImageList
    ground_truth: list[Instances]
    features: dict[str, Tensor]
    teacher_images: ImageList
    teacher_pyramid: dict[str, Tensor]

    @property
    def size_hw(self) -> tuple[int, int]:
        """The largest image of the batch without padding."""
        heights, widths = zip(*self.images.image_sizes, strict=True)
        return max(heights), max(widths)

    @property
    def scales(self) -> Scales:
        sizes = zip(self.images.image_sizes, self.teacher_images.image_sizes, strict=True)
        return [(tw / w, th / h) for (h, w), (th, tw) in sizes]

    def teacher_ground_truth(self) -> list[Instances]:
        """The ground truth in teacher pixels."""
        moved = []
        sizes = self.teacher_images.image_sizes
        for given, scale, size in zip(self.ground_truth, self.scales, sizes, strict=True):
            boxes: Boxes = to_teacher(given.gt_boxes, scale)
            moved.append(Instances(size, gt_classes=given.gt_classes, gt_boxes=boxes))
        return moved


class Outputs(nn.Module):
    """A pair whose outputs have nothing in common: only the pyramids are compared, and the student learns its task.

    Sub-classes know more. They hold no detector, only what is trained or fixed for the comparison.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    """The loss weights that have a meaning for the pair, beside "feature"."""

    def student_pass(
        self, student: Upsampled, images: ImageList, features: dict[str, Tensor], ground_truth: list[Instances]
    ) -> tuple[Terms, Any]:
        """The student's detection losses, and its outputs as :meth:`compare` wants them."""
        return student.task_losses(images, features, ground_truth), None

    def compare(self, student: Any, teacher: Teacher, answer: Any, view: View) -> tuple[Terms, Terms]:
        """Distillation losses by their names in ``reads``, and the detection losses of a teacher that learns."""
        return {}, {}
