"""Identity of trained models: a hash of their content, and the versions of the libraries."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from typing import Any

import numpy as np


def content_hash(value: Any) -> str:
    """Hash plain values, arrays, lists and mappings of them, and estimators of scikit-learn.

    :returns: 64 hexadecimal digits of sha256; equal for equal content, whatever the order of a mapping.
    :raises TypeError: there is no canonical form for a value.
    """
    digest = hashlib.sha256()
    _update(digest, value)
    return digest.hexdigest()


def library_version(name: str) -> str:
    """Return the version of an installed library, or ``unknown``."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return 'unknown'


def _update(digest: Any, value: Any) -> None:
    """Feed a value into a hash: the type, the length, then the content, so that no two values read alike."""
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        plain = value.item() if isinstance(value, np.generic) else value
        digest.update(f'{type(plain).__name__}:{plain!r};'.encode())
    elif isinstance(value, np.ndarray):
        if value.dtype.names:  # field by field: the gaps between fields hold anything
            _update(digest, {name: value[name] for name in value.dtype.names})
        elif value.dtype.hasobject:
            _update(digest, value.tolist())
        else:
            little = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder('<'))
            digest.update(f'array:{little.dtype.str}:{value.shape};'.encode() + little.tobytes())
    elif isinstance(value, list | tuple):
        digest.update(f'list:{len(value)};'.encode())
        for item in value:
            _update(digest, item)
    elif isinstance(value, Mapping):
        digest.update(f'map:{len(value)};'.encode())
        for key in sorted(value):
            _update(digest, key)
            _update(digest, value[key])
    elif type(value).__module__.startswith('sklearn.'):
        # Compiled trees keep their content behind __getstate__, estimators in their attributes.
        state = vars(value) if hasattr(value, '__dict__') else value.__getstate__()
        _update(digest, [type(value).__name__, state])
    else:
        raise TypeError(f'no canonical form for {type(value)}')
