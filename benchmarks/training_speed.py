"""Training: how soon ``fast`` knows what ``paper`` knows, and steps per second against ``keras.Model.fit``.

One JSON line. The data are the flakes of ``flakes_xtb.py``, described by the 26 numbers of the source; each family is
learnt alone, as in the source. Both presets run one after the other, on the same rows, with the same threads. The time
of ``fast`` is that of the whole training, to its end. ``--epochs`` and ``--rows`` shorten ``paper`` and the data.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from flakes_xtb import load, split

from aiida_nanoml.features.quadruplets import QuadrupletDescriptor
from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.learning.keras_backend import import_keras
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.registry import make_model
from aiida_nanoml.learning.training import fit_model

STEPS = {'paper': 60, 'small': 3000}
"""Steps over which the rate of each network is measured."""
SMALL = {'hidden_layers': (64, 64), 'batch_size': 64, 'members': 1, 'weight_decay': 0.0, 'loss': 'mse'}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--epochs', type=int, help='of paper; by default its own')
    parser.add_argument('--rows', type=int, default=None, help='training rows of each family; by default all')
    parser.add_argument('--family', choices=('h', 's'), action='append', help='by default both')
    parser.add_argument('--compare', default='svm,forest', help='other kinds to train, with commas')
    options = parser.parse_args()

    structures, gaps, source = load()
    descriptor = QuadrupletDescriptor(classes=22, unknown='drop')
    everything = Dataset(
        X=descriptor.fit_transform(structures),
        y=gaps,
        hashes=structures.hashes,
        names=structures.names,
        families=structures.families,
        split=split(structures),
        feature_names=tuple(descriptor.get_feature_names_out()),
    )
    import_keras()
    result: dict[str, Any] = {'benchmark': 'training_speed', 'labels': str(source)}
    for family in options.family or ('h', 's'):
        dataset = of_family(everything, family, options.rows)
        epochs = {} if options.epochs is None else {'epochs': options.epochs}
        found = {'paper': trained('paper', dataset, **epochs), 'fast': trained('fast', dataset)}
        for kind in filter(None, options.compare.split(',')):
            found[kind] = trained(kind, dataset)
        result[family] = found | {
            'train_rows': int((dataset.split == 'train').sum()),
            'fast_reaches_r2_of_paper': found['fast']['r2_test'] >= found['paper']['r2_test'],
            'times_shorter': round(found['paper']['seconds'] / found['fast']['seconds'], 1),
            'times_shorter_cpu': round(found['paper']['cpu_seconds'] / found['fast']['cpu_seconds'], 1),
        }
    result['steps_per_second'] = {name: rates(name, everything) for name in STEPS}
    print(json.dumps(result))


def of_family(dataset: Dataset, family: str, rows: int | None) -> Dataset:
    """Take one family, and of its training rows the first ones."""
    chosen = dataset.families == family
    training = np.flatnonzero(chosen & (dataset.split == 'train'))
    chosen[training[rows:] if rows is not None else []] = False
    columns = {name: column[chosen] for name, column in dataset.to_arrays().items()}
    return Dataset.from_arrays(columns, dataset.feature_names)


def trained(kind: str, dataset: Dataset, **hyperparameters: Any) -> dict[str, Any]:
    """Train, and give the time and the quality on training and test rows."""
    start, cpu = time.perf_counter(), time.process_time()
    model = fit_model(make_model(kind, **hyperparameters), dataset)
    result = {'seconds': round(time.perf_counter() - start, 2), 'cpu_seconds': round(time.process_time() - cpu, 2)}
    if model.history_:
        result['epochs'] = len(model.history_['loss'])
    for part in ('train', 'test'):
        X, y = dataset.part(part)
        metrics = regression_metrics(y, model.predict(X))
        result |= {f'r2_{part}': round(metrics['r2'] or 0.0, 4), f'mae_{part}_ev': round(metrics['mae'] or 0.0, 4)}
    return result


def rates(name: str, dataset: Dataset) -> dict[str, float]:
    """Steps per second of the loop of this package and of ``keras.Model.fit``, without the first, compiling epoch."""
    keras = import_keras()
    options = {} if name == 'paper' else SMALL
    X, y = dataset.part('train')
    network = make_model('paper' if name == 'paper' else 'fast', **options)
    rows = network.batch_size * 10
    X, y = X[:rows], y[:rows]
    epochs = 1 + STEPS[name] // 10
    marks: list[float] = []
    network.set_params(epochs=epochs, early_stopping=False)
    network.fit(X, y, progress=lambda *_: marks.append(time.perf_counter()))
    own = 10 * (epochs - 1) / (marks[-1] - marks[0])

    layers = [keras.layers.Dense(width, activation='relu') for width in network.hidden_layers]
    peer = keras.Sequential([keras.Input((X.shape[1],)), *layers, keras.layers.Dense(1)])
    peer.compile(keras.optimizers.Adam(network.learning_rate), 'mse')
    marks.clear()
    peer_epochs = 1 + max(STEPS[name] // 100, 3)
    peer.fit(
        X.astype(np.float32),
        y.astype(np.float32),
        batch_size=network.batch_size,
        epochs=peer_epochs,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: marks.append(time.perf_counter()))],
    )
    keras_fit = 10 * (peer_epochs - 1) / (marks[-1] - marks[0])
    return {'own': round(own, 1), 'keras_fit': round(keras_fit, 1), 'ratio': round(own / keras_fit, 2)}


if __name__ == '__main__':
    main()
