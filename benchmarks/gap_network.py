"""Gap network: seconds for the preset ``fast``, and steps per second against ``keras.Model.fit`` on the same data.

One JSON line. The data are random: 360 training and 120 validation rows of 26 features.
"""

from __future__ import annotations

import json
import time

import numpy as np

from aiida_nanoml.learning.keras_backend import import_keras
from aiida_nanoml.learning.registry import make_model

N_TRAIN, N_VALIDATION, N_FEATURES = 360, 120, 26
LAYERS, BATCH = (64, 64), 64
EPOCHS = 300
PEER_EPOCHS = 40


def main() -> None:
    start = time.perf_counter()
    keras = import_keras()
    import_seconds = time.perf_counter() - start

    random = np.random.Generator(np.random.PCG64(0))
    X = random.dirichlet(np.ones(N_FEATURES), size=N_TRAIN + N_VALIDATION)
    y = 1.0 + 10.0 * X[:, 0] - 5.0 * X[:, 1] * X[:, 2]
    training, validation = (X[:N_TRAIN], y[:N_TRAIN]), (X[N_TRAIN:], y[N_TRAIN:])

    start = time.perf_counter()
    fast = make_model('fast').fit(*training, validation_data=validation)
    fast_seconds = time.perf_counter() - start

    n_steps = -(-N_TRAIN // BATCH)
    options = {
        'hidden_layers': LAYERS,
        'batch_size': BATCH,
        'members': 1,
        'weight_decay': 0.0,
        'loss': 'mse',
        'early_stopping': False,
    }
    marks: list[float] = []
    make_model('fast', epochs=EPOCHS, **options).fit(
        *training, validation_data=validation, progress=lambda *_: marks.append(time.perf_counter())
    )
    own_rate = n_steps * (EPOCHS - 1) / (marks[-1] - marks[0])

    layers = [keras.layers.Dense(width, activation='relu') for width in LAYERS]
    peer = keras.Sequential([keras.Input((N_FEATURES,)), *layers, keras.layers.Dense(1, activation='softplus')])
    peer.compile(keras.optimizers.Adam(0.01), 'mse')
    single = [array.astype(np.float32) for array in (*training, *validation)]
    marks = []
    peer.fit(
        single[0],
        single[1],
        validation_data=(single[2], single[3]),
        batch_size=BATCH,
        epochs=PEER_EPOCHS,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: marks.append(time.perf_counter()))],
    )
    peer_rate = n_steps * (PEER_EPOCHS - 1) / (marks[-1] - marks[0])
    print(
        json.dumps(
            {
                'benchmark': 'gap_network',
                'import_seconds': round(import_seconds, 2),
                'fast_seconds': round(fast_seconds, 2),
                'fast_epochs': len(fast.history_['loss']),
                'fast_members': fast.members,
                'single_network_steps_per_second': round(own_rate),
                'keras_fit_steps_per_second': round(peer_rate),
                'ratio_to_keras_fit': round(own_rate / peer_rate, 1),
            }
        )
    )


if __name__ == '__main__':
    main()
