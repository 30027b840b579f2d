"""`python -m keras_ctxattr.cli`: the same as `ctxattr`."""

from keras_ctxattr.cli import main

if __name__ == "__main__":
    main()
