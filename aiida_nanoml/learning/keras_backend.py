"""Import of Keras and TensorFlow, in one place."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from aiida_nanoml.errors import ModelError


def import_keras() -> Any:
    """Import Keras on TensorFlow, quietly, when it is first needed.

    :returns: the ``keras`` module.
    :raises ModelError: Keras was set up for another backend; the training loop needs TensorFlow.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')
    os.environ.setdefault('KERAS_BACKEND', 'tensorflow')
    with contextlib.nullcontext() if 'keras' in sys.modules else _quiet_stderr():
        import keras
    from absl import logging as absl_logging

    # AiiDA sets up logging again, which closes every handler; that of absl would close the stream of others.
    absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__
    if keras.backend.backend() != 'tensorflow':
        raise ModelError(
            f'Keras runs on {keras.backend.backend()!r}, networks are trained on TensorFlow: '
            'set KERAS_BACKEND=tensorflow before Python starts'
        )
    return keras


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """TensorFlow's libraries write to descriptor 2 while they load, before any log level holds."""
    saved = os.dup(2)
    try:
        with open(os.devnull, 'wb') as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
