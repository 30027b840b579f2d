"""Thousands of one-against-negatives linear SVMs, solved together."""

from keras_ctxattr.clustering.svm.solver import LinearSVMs, fit_linear_svms

__all__ = ["LinearSVMs", "fit_linear_svms"]
