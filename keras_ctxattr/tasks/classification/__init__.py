"""Image classification by the pooled features of a frozen network.

    photographs -> maps of all layers -> pooled vectors -> classifiers over several draws

See `evaluation.classification`.

Reference:
    Huang, Loy, Tang 2016, sections 4.2 and 5.3.
"""
