"""From clusters to attributes, in a run folder."""

from keras_ctxattr.attributes.learning.recipe import AttributeRecipe
from keras_ctxattr.attributes.learning.training import (
    encode_samples,
    learn_attributes,
    load_hasher,
    score_samples,
)

__all__ = ["AttributeRecipe", "encode_samples", "learn_attributes", "load_hasher", "score_samples"]
