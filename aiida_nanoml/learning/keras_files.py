"""Files of trained networks: ``.keras`` archives read without Keras, and written with it.

An archive is a ZIP file with the layers in ``config.json`` and their weights in ``model.weights.h5``. A network that
consists of dense layers one behind the other is read from there into NumPy. Any other one is loaded by Keras, if all
its classes are known to be harmless.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_nanoml.errors import ModelError
from aiida_nanoml.learning.dense_layers import ACTIVATIONS, DenseLayers, Floats, Singles, layer_names
from aiida_nanoml.learning.keras_backend import import_keras
from aiida_nanoml.text import parse_json

_KERAS_CLASSES = frozenset(
    {
        'Functional',
        'InputLayer',
        'Normalization',
        'RepeatVector',
        'Dense',
        'EinsumDense',
        'Rescaling',
        'GlobalAveragePooling1D',
        'GlorotUniform',  # the initialisers that the layers name in their configuration
        'Zeros',
        'DTypePolicy',
    }
)


@dataclass(frozen=True)
class KerasNetwork:
    """A network that Keras loaded and computes, since it is not a plain sequence of dense layers.

    :param model: the Keras model, from raw features to targets in units.
    :param ensemble: its last layer averages over members.
    """

    model: Any
    ensemble: bool

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self.model.input_shape[-1])

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        return int(self.model.output_shape[-1])

    def predict_members(self, features: Floats) -> Floats:
        """Predict all targets by all members.

        :param features: (n, n_features).
        :returns: (n, members, n_targets), each target in its unit.
        """
        keras = import_keras()
        model = keras.Model(self.model.input, self.model.layers[-2].output) if self.ensemble else self.model
        answers = np.asarray(model(features.astype(np.float32), training=False), dtype=np.float64)
        return answers if self.ensemble else answers[:, None]

    def state(self) -> dict[str, Any]:
        """Return everything that the prediction depends on, by layer: arrays and scales."""
        state: dict[str, Any] = {}
        for layer in self.model.layers:
            constants = {name: layer.get_config().get(name) for name in ('mean', 'variance', 'scale', 'offset')}
            state[layer.name] = {'weights': layer.get_weights()} | {k: v for k, v in constants.items() if v is not None}
        return state


def write_network(network: DenseLayers | KerasNetwork, path: Path) -> None:
    """Write a trained network as a file of Keras.

    :param path: ends in ``.keras``, or in ``.h5`` for legacy HDF5.
    """
    model = _keras_model(network) if isinstance(network, DenseLayers) else network.model
    model.save(path)


def read_network(path: Path, ensemble: bool) -> DenseLayers | KerasNetwork:
    """Read a trained network; nothing in the file is run.

    :param path: a ``.keras`` archive.
    :param ensemble: whether the network has several members.
    :raises ModelError: missing, damaged, or a network with classes that networks of this package do not consist of.
    """
    if not path.is_file():
        raise ModelError(f'{path} is missing')
    try:
        with zipfile.ZipFile(path) as archive:
            config = parse_json(archive.read('config.json'))
            weights = archive.read('model.weights.h5')
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(f'{path} is not a Keras archive, or it is damaged: {error}') from error
    foreign = sorted(_foreign_classes(config))
    if foreign:
        raise ModelError(f'{path} holds classes that a dense network does not consist of: {", ".join(foreign)}')
    try:
        return _dense_layers(config, weights)
    except _NotPlainDenseError:
        return KerasNetwork(_load_with_keras(path), ensemble)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f'{path} is not a readable network: {error}') from error


class _NotPlainDenseError(Exception):
    """The network has another layout than the networks of this package."""


def _dense_layers(config: Mapping[str, Any], weights: bytes) -> DenseLayers:
    """Read dense layers from the configuration of a network and its weights, the content of an HDF5 file.

    :raises _NotPlainDenseError: the network consists of other layers, or of these with other settings.
    """
    layers = _settings_by_layer(config)
    variables = _variables_by_layer(weights)
    dense = layer_names(sum(name.startswith('hidden_') for name in layers) + 1)
    ensemble = 'copies' in layers
    kernels, biases = zip(*(_kernel_and_bias(variables.get(name, []), ensemble) for name in dense), strict=True)
    activations = [layers[name]['activation'] for name in dense]
    scaling = layers['members' if ensemble else 'targets']
    standardize = layers.get('standardize', {})
    network = DenseLayers(
        kernels,
        biases,
        activation=activations[0],
        output=activations[-1],
        scales=scaling['scale'],
        offsets=scaling['offset'],
        mean=standardize.get('mean'),
        variance=standardize.get('variance'),
    )
    widths = [(network.n_features if number == 0 else kernels[number - 1].shape[2]) for number in range(len(kernels))]
    shapes = {
        'kernels': [kernel.shape for kernel in kernels]
        == [(network.members, n_in, bias.shape[1]) for n_in, bias in zip(widths, biases, strict=True)],
        'biases': all(len(bias) == network.members for bias in biases),
        'members': not ensemble or layers['copies']['n'] == network.members,
        'targets': np.shape(network.scales) == np.shape(network.offsets) == (network.n_targets,),
        'features': layers['features']['batch_shape'] == [None, network.n_features]
        and (network.mean is None or len(network.mean) == len(network.variance or ()) == network.n_features),
        'activations': set(activations[:-1]) <= {activations[0]} and set(activations) <= set(ACTIVATIONS),
    }
    wrong = [name for name, fits in shapes.items() if not fits]
    if wrong:
        raise _NotPlainDenseError(', '.join(wrong))
    return network


_FIXED_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    'InputLayer': {'dtype': 'float32', 'sparse': False, 'ragged': False},
    'Normalization': {'axis': [-1], 'invert': False},
    'RepeatVector': {},
    'Dense': {'use_bias': True, 'quantization_config': None},
    'EinsumDense': {'equation': 'bmi,mio->bmo', 'bias_axes': 'mo', 'quantization_config': None},
    'Rescaling': {},
    'GlobalAveragePooling1D': {'data_format': 'channels_last', 'keepdims': False},
}
"""Settings that the layers of a plain dense network have, by class; those that are left out may have any value."""


def _settings_by_layer(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the settings of each layer by name.

    :raises _NotPlainDenseError: the layers are not those of a plain dense network, in their order.
    """
    content = config['config']
    layers, names = content.get('layers', []), [layer['name'] for layer in content.get('layers', [])]
    n_dense = sum(name.startswith('hidden_') for name in names) + 1
    ensemble = 'copies' in names
    dense = dict.fromkeys(layer_names(n_dense), 'EinsumDense' if ensemble else 'Dense')
    expected = {'features': 'InputLayer'} | ({'standardize': 'Normalization'} if 'standardize' in names else {})
    if ensemble:
        expected |= {'copies': 'RepeatVector'} | dense | {'members': 'Rescaling', 'targets': 'GlobalAveragePooling1D'}
    else:
        expected |= dense | {'targets': 'Rescaling'}
    if [(layer['name'], layer['class_name']) for layer in layers] != list(expected.items()):
        raise _NotPlainDenseError('other layers')
    for layer, before in zip(layers, [None, *names], strict=False):
        settings = layer['config']
        fixed = all(settings.get(key) == value for key, value in _FIXED_SETTINGS[layer['class_name']].items())
        single_precision = settings['dtype'] == 'float32' or settings['dtype']['config'] == {'name': 'float32'}
        if not (fixed and single_precision and _inputs_of(layer) == ([] if before is None else [[before, 0, 0]])):
            raise _NotPlainDenseError(layer['name'])
    if content['input_layers'] != ['features', 0, 0] or content['output_layers'] != ['targets', 0, 0]:
        raise _NotPlainDenseError('ends')
    return {layer['name']: layer['config'] for layer in layers}


def _inputs_of(layer: Mapping[str, Any]) -> list[Any]:
    """Return which tensors a layer takes, each as ``[layer, node, tensor]``."""
    return [value['config']['keras_history'] for node in layer['inbound_nodes'] for value in node['args']]


def _variables_by_layer(weights: bytes) -> dict[str, list[Singles]]:
    """Return the variables of each layer by name, from the content of ``model.weights.h5``.

    :raises ValueError: a variable lies in another file.
    :raises _NotPlainDenseError: the variables are of another type.
    """
    import h5py

    found: dict[str, list[Singles]] = {}
    with h5py.File(io.BytesIO(weights), 'r') as file:
        layers = _member(file, 'layers')
        for layer in layers:
            variables = _member(_member(layers, layer), 'vars')
            arrays = [_member(variables, str(number)) for number in range(len(variables))]
            if any(array.external or array.is_virtual for array in arrays):
                raise ValueError(f'weights of {layer} lie in another file')
            if any(array.dtype != np.float32 for array in arrays):
                raise _NotPlainDenseError('weights')
            found[str(variables.attrs.get('name'))] = [np.asarray(array) for array in arrays]
    return found


def _member(group: Any, name: str) -> Any:
    """Return a member of a group of an HDF5 file.

    :raises ValueError: it is a link, which may lead into another file.
    """
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f'{name} is a link')
    return group[name]


def _kernel_and_bias(variables: list[NDArray[Any]], ensemble: bool) -> tuple[Singles, Singles]:
    """Return a kernel (members, n_in, n_out) and biases (members, n_out)."""
    if [array.ndim for array in variables] != ([3, 2] if ensemble else [2, 1]):
        raise _NotPlainDenseError('weights')
    kernel, bias = variables if ensemble else (array[None] for array in variables)
    return kernel, bias


def _load_with_keras(path: Path) -> Any:
    keras = import_keras()
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelError(f'{path} is not a readable network: {error}') from error


def _foreign_classes(config: Any) -> set[str]:
    """Return the names of the classes in a Keras configuration that a dense network does not consist of."""
    if isinstance(config, list):
        return set().union(*map(_foreign_classes, config))
    if not isinstance(config, dict):
        return set()
    found = set().union(*map(_foreign_classes, config.values()))
    if 'class_name' in config and config['class_name'] != '__keras_tensor__':
        module, name = str(config.get('module')), str(config['class_name'])
        of_keras = module.split('.', maxsplit=1)[0] == 'keras' and config.get('registered_name') in (None, name)
        if not (of_keras and name in _KERAS_CLASSES):
            found.add(f'{module}.{name}')
    return found


def _keras_model(network: DenseLayers) -> Any:
    """Build the model of Keras for a trained network: raw features to targets in units."""
    keras = import_keras()
    inputs = keras.Input((network.n_features,), name='features')
    x = inputs
    if network.mean is not None:
        x = keras.layers.Normalization(mean=network.mean, variance=network.variance, name='standardize')(x)
    core = core_model(network.kernels, network.biases, network.activation, network.output)
    for layer in core.layers[1:]:
        x = layer(x)
    single = network.members == 1
    x = keras.layers.Rescaling(network.scales, network.offsets, name='targets' if single else 'members')(x)
    if not single:
        x = keras.layers.GlobalAveragePooling1D(name='targets')(x)
    return keras.Model(inputs, x, name='dense_network')


def core_model(kernels: Sequence[Singles], biases: Sequence[Singles], activation: str, output: str) -> Any:
    """Build the trainable part of a network in Keras: standardised features (b, n_features) to scaled targets.

    :param kernels: (members, n_in, n_out) for each layer.
    :param biases: (members, n_out) for each layer.
    :param activation: of the hidden layers.
    :param output: activation of the last layer.
    :returns: a model that answers (b, n_targets), or (b, members, n_targets).
    """
    keras = import_keras()
    members, n_features, _ = kernels[0].shape
    inputs = keras.Input((n_features,), name='standardized_features')
    x = inputs if members == 1 else keras.layers.RepeatVector(members, name='copies')(inputs)
    for name, kernel in zip(layer_names(len(kernels)), kernels, strict=True):
        n_out = kernel.shape[2]
        options = {'activation': output if name == 'output' else activation, 'name': name}
        if members == 1:
            layer = keras.layers.Dense(n_out, **options)
        else:
            shape = (members, n_out)
            layer = keras.layers.EinsumDense('bmi,mio->bmo', output_shape=shape, bias_axes='mo', **options)
        x = layer(x)
    core = keras.Model(inputs, x, name='core')
    set_core_weights(core, kernels, biases)
    return core


def set_core_weights(core: Any, kernels: Sequence[Singles], biases: Sequence[Singles]) -> None:
    """Set the kernels and biases of :func:`core_model`."""
    layers = [layer for layer in core.layers if layer.weights]
    for layer, kernel, bias in zip(layers, kernels, biases, strict=True):
        layer.set_weights([kernel[0], bias[0]] if len(kernel) == 1 else [kernel, bias])


def core_weights(core: Any) -> tuple[tuple[Singles, ...], tuple[Singles, ...]]:
    """Return the kernels and biases of :func:`core_model`."""
    pairs = [layer.get_weights() for layer in core.layers if layer.get_weights()]
    single = pairs[0][0].ndim == 2
    kernels, biases = zip(*(((k[None], b[None]) if single else (k, b)) for k, b in pairs), strict=True)
    return kernels, biases
