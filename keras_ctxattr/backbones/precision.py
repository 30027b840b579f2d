"""In which precision layers compute: a dtype policy for a while, and the one "auto" stands for."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import keras


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[str]:
    """Makes layers under a dtype policy, and then puts the global one back.

    Args:
        name: a Keras dtype policy or `"auto"`, see `resolve_policy`.

    Yields:
        The policy's name.
    """
    before = keras.config.dtype_policy()
    name = resolve_policy(name)
    keras.config.set_dtype_policy(name)
    try:
        yield name
    finally:
        keras.config.set_dtype_policy(before)


def resolve_policy(name: str) -> str:
    """Gives the policy that `"auto"` stands for on this machine; another name as it is."""
    if name != "auto":
        return name
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return "mixed_bfloat16"
    cpu = Path("/proc/cpuinfo")
    native = cpu.is_file() and "avx512_bf16" in cpu.read_text(errors="replace")
    return "mixed_bfloat16" if native else "float32"
