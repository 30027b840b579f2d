"""The papers' protocols, one script each: `python -m evaluation.NAME`. Needs a checkout."""

import os

# TensorFlow reads it when it is first imported; its start-up notes would hide the one table.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
