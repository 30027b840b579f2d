"""Networks compared by what they find alike among the same photographs."""

from keras_ctxattr.tasks.comparison.networks import Network, open_networks
from keras_ctxattr.tasks.comparison.protocol import Protocol, compare_networks

__all__ = ["Network", "Protocol", "compare_networks", "open_networks"]
