"""Importing this package registers mhkd's backbones and meta-architectures with Detectron2."""

from mhkd.modeling import backbones, detectors, detectors_dense, distill_dense, distill_roi, meta_arch

__all__ = ["backbones", "detectors", "detectors_dense", "distill_dense", "distill_roi", "meta_arch"]
