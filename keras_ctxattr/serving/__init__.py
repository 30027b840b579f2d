"""A model server for modules, over the Open Inference Protocol (KServe V2).

    upload -> limits, header -> queue -> batch -> module -> answer

`create_app` makes the web application, `ctxattr serve` runs it; both need the extra `web`.
`mlserver_runtime.py` is for MLServer instead, and needs nothing of this package.
"""
