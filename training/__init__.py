"""Recipes and the pages that run them: `python -m training.<name>` from a checkout."""

import os

# What TensorFlow's C++ says at start-up is no news to who started a training.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
