"""Importing this package registers mhkd's backbones and meta-architectures with Detectron2."""

from mhkd.modeling import backbones, meta_arch, one_stage, student

__all__ = ["backbones", "meta_arch", "one_stage", "student"]
