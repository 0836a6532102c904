"""What is taken for a glomerulus at low power, and vessels. Only fine texture tells the look-alikes apart."""

from __future__ import annotations

import cv2
import numpy as np

from preprocess.synthetic.fields import to_uint8
from preprocess.synthetic.glomeruli import lobule_depth_um
from preprocess.synthetic.patch import Patch
from preprocess.synthetic.settings import Difficulty


def paint_lymphoid(patch: Patch, difficulty: Difficulty) -> np.ndarray:
    """A lymphoid aggregate: small round dark nuclei, evenly and closely packed."""
    inside = (patch.depth_um > _halo_um(patch, difficulty)) & ~_gaps(patch, difficulty)
    grain = patch.noise(2)
    loose = np.clip(0.9 + 0.3 * patch.noise(22), 0.3, 1.3)
    image = to_uint8(inside * 10.0, inside * (34 + 8 * grain) * loose, inside * (20 + 8 * grain) * loose)
    centres = patch.scatter(inside & (patch.depth_um > 1.5), patch.rng.uniform(5.4, 6.4))
    patch.draw_nuclei(image, centres, 2.15, (0.8, 1.0), chromatin=80)
    return image


def paint_tubule_cluster(patch: Patch, difficulty: Difficulty) -> np.ndarray:
    """Tubules cut tangentially: a nest of small solid profiles, each in its own basement membrane."""
    rng = patch.rng
    halo = _halo_um(patch, difficulty)
    _, depth = patch.cells(rng.uniform(21, 29), warp_um=3.0)
    depth = np.minimum(depth - np.maximum(0.2, 0.9 + 0.9 * patch.noise(30)), patch.depth_um - halo)
    profile = (depth > 0) & patch.mask
    grain = patch.noise(1.6)
    membrane = np.exp(-((depth - 0.6) ** 2) / 0.9) * profile
    slit = profile & (depth > rng.uniform(8.5, 11)) & (patch.noise(12) > 0.4)
    cytoplasm = profile * (78 + 9 * grain) * np.where(slit, 0.15, 1)
    image = to_uint8(profile * 11.0, cytoplasm, profile * 10 + 92 * membrane)
    centres = patch.scatter(profile & ~slit & (depth > 2.0), rng.uniform(8.6, 10.0))
    patch.draw_nuclei(image, centres, 2.6, (0.8, 1.0))
    return image


def paint_cast(patch: Patch, difficulty: Difficulty) -> np.ndarray:
    """A dilated tubule filled by a cast: flat epithelium, a bright cleft, glassy material with or without debris."""
    rng = patch.rng
    epithelium_um = rng.uniform(3.5, 6.5)
    cleft = epithelium_um + np.maximum(0.3, rng.uniform(1.0, 8.0) * (1 + 0.7 * patch.noise(50)))
    cellular = bool(rng.random() < 0.6)
    glass = patch.depth_um > cleft
    if cellular:
        glass &= ~_gaps(patch, difficulty)
    wall = patch.mask & (patch.depth_um <= epithelium_um)
    tone = 1 + 0.10 * patch.noise(45)
    membrane = np.exp(-((patch.depth_um - 0.8) ** 2) / 0.9) * patch.mask
    cytoplasm = wall * 62.0 + glass * 70 * tone
    matrix = wall * 8.0 + 88 * membrane + glass * 58 * tone
    image = to_uint8(wall * 12.0 + glass * 6, cytoplasm, matrix)
    lining = patch.scatter((patch.depth_um > 1.8) & (patch.depth_um < epithelium_um), 6.5)
    patch.draw_nuclei(image, lining, 2.1, (0.4, 0.7), tangential=True)
    if cellular:
        debris = patch.scatter(glass, rng.uniform(9, 14))
        patch.draw_nuclei(image, debris, 1.5, (0.6, 1.0), chromatin=64)
    return image


def paint_artery(patch: Patch, difficulty: Difficulty) -> np.ndarray:
    """A cross-cut artery: concentric muscle around a small lumen, wavy elastic lamina, a sheath outside."""
    return _muscular_vessel(patch, _halo_um(patch, difficulty), (0.12, 0.3))


def paint_arteriole(patch: Patch, difficulty: Difficulty) -> np.ndarray:
    """A small artery: no retraction around it and a wider lumen."""
    return _muscular_vessel(patch, 0.0, (0.3, 0.5))


def _muscular_vessel(patch: Patch, halo: np.ndarray | float, lumen_fraction: tuple[float, float]) -> np.ndarray:
    rng = patch.rng
    sheath = 0.10 * patch.radius_um
    ripple = min(1.5, 0.05 * patch.radius_um) * np.sin(patch.direction * rng.integers(9, 16))
    lumen_from = patch.radius_um * (1 - rng.uniform(*lumen_fraction)) + ripple
    depth = patch.depth_um + 1.2 * patch.noise(14)
    lumen = depth > lumen_from
    muscle = (depth > halo + sheath) & ~lumen & patch.mask
    lamellae = 0.5 + 0.5 * np.sin(depth * 2 * np.pi / rng.uniform(4.0, 5.5) + 1.5 * patch.noise(20))
    elastic = np.exp(-((depth - lumen_from + 1.6) ** 2) / 1.4) * muscle
    loose = (depth > halo) & (depth <= halo + sheath) & patch.mask
    blood = lumen * float(rng.random() < 0.4)
    cytoplasm = muscle * (50 + 34 * lamellae) + loose * 34 + blood * 88
    matrix = muscle * (34 - 18 * lamellae) + loose * (40 + 12 * patch.noise(3)) + 70 * elastic
    image = to_uint8(muscle * 10.0 + loose * 6, cytoplasm, matrix)
    centres = patch.scatter(muscle, rng.uniform(8.0, 10.0))
    patch.draw_nuclei(image, centres, 2.0, (0.22, 0.4), tangential=True)
    return image


def paint_vein(patch: Patch, difficulty: Difficulty) -> np.ndarray:
    """A vein: a wide empty lumen in a thin wall."""
    wall_um = patch.rng.uniform(3, 7) * (1 + 0.3 * patch.noise(30))
    wall = patch.mask & (patch.depth_um < wall_um)
    grain = patch.noise(2.5)
    image = to_uint8(wall * 6.0, wall * (46 + 8 * grain), wall * (44 + 12 * grain))
    centres = patch.scatter(wall & (patch.depth_um > 1.5), 9.0)
    patch.draw_nuclei(image, centres, 1.9, (0.25, 0.45), tangential=True)
    return image


def match_stain(image: np.ndarray, mask: np.ndarray, target: np.ndarray, strength: float) -> np.ndarray:
    """``image`` with the mean amounts inside ``mask`` moved by ``strength`` towards ``target`` (3 materials).

    Too much is scaled down, too little is made up by a haze over whatever is stained, so lumens stay bright.
    """
    result = image.astype(np.float32)
    stained = mask & (image[..., 1] > 12)
    share = max(float(stained.mean()), 1e-3) / max(float(mask.mean()), 1e-3)
    for material in range(3):
        mean = float(result[..., material][mask].mean())
        missing = strength * (target[material] - mean)
        if missing < 0:
            result[..., material] *= 1 + missing / mean
        else:
            result[..., material] += stained * np.float32(missing / share)
    return np.clip(result, 0, 255).astype(np.uint8)


def fade(image: np.ndarray, mask: np.ndarray, amount: float) -> np.ndarray:
    """``image`` blended by ``amount`` with its own blur over about 6 um: less contrast, same mean."""
    if amount <= 0 or not mask.any():
        return image
    return cv2.addWeighted(cv2.GaussianBlur(image, (0, 0), 6), amount, image, 1 - amount, 0)


def _gaps(patch: Patch, difficulty: Difficulty) -> np.ndarray:
    """bool: white gaps as coarse as the clefts and open loops of a tuft, without their walls."""
    labels, depth = patch.cells(patch.rng.uniform(9.5, 12.5), warp_um=2.0)
    share = patch.rng.uniform(0.3, 0.6) * difficulty.texture_match
    holes = (patch.rng.random(int(labels.max()) + 1) < share)[labels] & (depth > 2.3)
    clefts = (lobule_depth_um(patch) < 0) & bool(patch.rng.random() < difficulty.texture_match)
    return holes | clefts


def _halo_um(patch: Patch, difficulty: Difficulty) -> np.ndarray | float:
    """Local width of a bright ring of retraction like Bowman's space; 0 for those without."""
    if patch.rng.random() >= difficulty.halo_fraction:
        return 0.0
    return np.maximum(0.0, patch.uneven_ring_um(difficulty.bowman_space_um))
