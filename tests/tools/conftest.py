"""The small tile pairs and their teacher, for tools that begin with them."""

from tests.mhkd.conftest import teacher, tile_pairs, tiny_cfg  # noqa: F401  fixtures
