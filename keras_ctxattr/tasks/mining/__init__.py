"""Objects that a collection shows again and again: constellations of patches.

    photographs -> describing (a network, or gradients) -> lattices (where patches lie)
        -> dense (features of all patches, on the disk) -> matching (best patches of each)
        -> geometry (do they lie alike?) -> objects (ranking, duplicates) -> atlas (a page)

`run.mine_photographs` goes the whole way; `metrics` scores sets of images by their labels, and
`baselines` has sets to compare with.
"""

from keras_ctxattr.tasks.mining.atlas import write_atlas
from keras_ctxattr.tasks.mining.describing import (
    DenseDescriber,
    describe_by_gradients,
    describe_by_module,
)
from keras_ctxattr.tasks.mining.run import Mined, MiningSettings, mine_photographs

__all__ = [
    "DenseDescriber",
    "Mined",
    "MiningSettings",
    "describe_by_gradients",
    "describe_by_module",
    "mine_photographs",
    "write_atlas",
]
