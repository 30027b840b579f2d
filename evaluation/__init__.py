"""The papers' protocols, one script each: `python -m evaluation.NAME`. Needs a checkout."""

from keras_ctxattr.cli.app import load_tensorflow

load_tensorflow()  # before a script imports it: its start-up notes would hide the one table
