"""From clusters to attributes, in a run folder."""

from keras_ctxattr.attributes.learning.recipe import AttributeRecipe
from keras_ctxattr.attributes.learning.training import learn_attributes, load_hasher

__all__ = ["AttributeRecipe", "learn_attributes", "load_hasher"]
