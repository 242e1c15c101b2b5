"""Registry of descriptors, and the identity that says which columns a descriptor computes."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiida_nanoml.errors import DescriptorError
from aiida_nanoml.parameters import check_parameters
from aiida_nanoml.plugins import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from aiida_nanoml.structures.structure_set import StructureSet


def _check_descriptor(name: str, found: Any) -> str | None:
    """Return what keeps a loaded object from being a descriptor, or None."""
    missing = [method for method in ('fit', 'transform', 'get_feature_names_out') if not hasattr(found, method)]
    if not isinstance(found, type) or missing:
        return f'is not a descriptor: a class with {" and ".join(missing or ["a constructor"])} is needed'
    return None


DESCRIPTORS: Registry[Any] = Registry('aiida_nanoml.descriptors', 'descriptor', DescriptorError, _check_descriptor)
"""The descriptors, each a class that a package registers in the entry-point group ``aiida_nanoml.descriptors``.

A descriptor is a scikit-learn transformer: explicit constructor arguments, ``fit`` and ``transform`` on a
:class:`~aiida_nanoml.structures.StructureSet`, and ``get_feature_names_out``. Arguments with annotated types are
checked against these by :func:`make_descriptor`. It may also have

``learns``
    ``True`` if ``fit`` learns from its structures, for example which columns there are. Such a descriptor is fitted
    on training rows only. Before, its columns are not known, and it raises
    :class:`~aiida_nanoml.errors.DescriptorError`. Its method ``frozen()`` returns an instance of the same class whose
    constructor arguments hold all that was learnt, in types of JSON: made again from these, it is fitted.
``electronic``
    ``True`` if it runs an electronic calculation, however cheap, and does not only count atoms.
``unknown_counts(structures)``
    (n,), how many parts of each structure it cannot describe.
``restricted(feature_names)``
    an instance that computes at least these of its columns, for less work than all.
"""


def descriptor_names() -> list[str]:
    """Return the names of all registered descriptors, in alphabetical order."""
    return DESCRIPTORS.names()


def make_descriptor(name: str, **params: Any) -> Any:
    """Make a descriptor.

    :param name: one of :func:`descriptor_names`.
    :param params: arguments of its constructor.
    :returns: the descriptor; one that learns has to be fitted yet, unless its arguments hold what it learnt.
    :raises DescriptorError: if there is no such descriptor, it cannot be loaded, or a parameter is unknown or wrong.
    """
    kind = DESCRIPTORS.load(name)
    check_parameters(kind, params, what='parameter', error=DescriptorError)
    descriptor = kind(**params)
    if not learns(descriptor):
        descriptor.get_feature_names_out()
    return descriptor


def learns(descriptor: Any) -> bool:
    """Return whether a descriptor learns from the structures that it is fitted on."""
    return bool(getattr(descriptor, 'learns', False))


def is_electronic(descriptor: Any) -> bool:
    """Return whether a descriptor runs an electronic calculation; the others need the structure only."""
    return bool(getattr(descriptor, 'electronic', False))


def is_frozen(descriptor: Any) -> bool:
    """Return whether its parameters alone determine the columns of a descriptor."""
    if not learns(descriptor):
        return True
    try:
        type(descriptor)(**descriptor.get_params(deep=False)).get_feature_names_out()
    except DescriptorError:
        return False
    return True


def freeze(descriptor: Any, structures: StructureSet, y: ArrayLike | None = None) -> Any:
    """Fit a descriptor to training rows and fix what it learnt.

    :param structures: the training rows, nothing else: whatever the descriptor sees here leaks into the features.
    :param y: shape (n,), their targets (for the gap: eV).
    :returns: a descriptor whose parameters determine its columns; one that is frozen already, as it is.
    :raises DescriptorError: the descriptor cannot be fitted to the rows, or learns without being able to freeze.
    """
    if is_frozen(descriptor):
        return descriptor
    found = descriptor.fit(structures, y).frozen()
    if not is_frozen(found):
        raise DescriptorError(f'frozen() of {type(descriptor).__name__} keeps something outside of its parameters')
    return found


def dense_features(descriptor: Any, structures: StructureSet) -> NDArray[np.float64]:
    """Describe structures by a dense array, also if the descriptor returns a sparse matrix.

    :returns: shape (n, number of columns).
    """
    features = descriptor.transform(structures)
    dense: NDArray[np.float64] = features.toarray() if hasattr(features, 'toarray') else features
    return dense


def describe(identity: Mapping[str, Any], structures: StructureSet) -> NDArray[np.float64]:
    """Compute the features of structures with the descriptor of an identity.

    :param identity: of a descriptor, see :func:`descriptor_identity`; its ``feature_names`` may be some of the columns,
        in any order.
    :param structures: n structures.
    :returns: (n, F), a column for each of ``feature_names``.
    :raises DescriptorError: the descriptor cannot be made, has not these columns, or cannot describe a structure.
    """
    descriptor = make_descriptor(identity['name'], **identity['params'])
    wanted = list(identity['feature_names'])
    names = [str(name) for name in descriptor.get_feature_names_out()]
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise DescriptorError(
            f'the descriptor {identity["name"]!r} has no column {missing[0]!r} ({len(missing)} are missing): '
            'it is another version than the one that made the features'
        )
    if len(wanted) < len(names) and hasattr(descriptor, 'restricted'):
        descriptor = descriptor.restricted(wanted)
        names = [str(name) for name in descriptor.get_feature_names_out()]
    features = dense_features(descriptor, structures)
    if names == wanted:
        return features
    column_of = {name: column for column, name in enumerate(names)}
    return features[:, [column_of[name] for name in wanted]]


def descriptor_identity(descriptor: Any) -> dict[str, Any]:
    """Describe in types of JSON which columns a descriptor computes: two with the same identity compute the same.

    :returns: ``name`` in the registry, ``params``, ``feature_names`` and ``n_features``.
    :raises DescriptorError: if the descriptor is not registered, has a parameter that JSON cannot hold, or has learnt
        something that its parameters do not hold.
    """
    kind = type(descriptor)
    name = DESCRIPTORS.name_of(kind)
    if name is None:
        raise DescriptorError(
            f'{kind.__module__}:{kind.__qualname__} is not registered in the entry-point group {DESCRIPTORS.group}, '
            'so no name identifies it'
        )
    if not is_frozen(descriptor):
        raise DescriptorError(
            f'the descriptor {name!r} learns from structures: fit it to the training rows, then take its frozen()'
        )
    feature_names = [str(feature) for feature in descriptor.get_feature_names_out()]
    identity = {
        'name': name,
        'params': descriptor.get_params(deep=False),
        'feature_names': feature_names,
        'n_features': len(feature_names),
    }
    try:
        plain: dict[str, Any] = json.loads(json.dumps(identity, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise DescriptorError(f'the parameters of the descriptor {name!r} do not fit into JSON: {error}') from error
    return plain


def mismatch(given: Mapping[str, Any], learnt: Mapping[str, Any]) -> str:
    """Describe in one sentence, without all the columns, how the identities of two descriptors differ.

    :param given: of the features at hand.
    :param learnt: of the features that a model was trained on.
    """
    texts = []
    for identity in (given, learnt):
        params = ', '.join(f'{key}={reprlib.repr(value)}' for key, value in identity.get('params', {}).items())
        texts.append(f'{identity.get("name")} ({params}; {len(identity.get("feature_names", []))} columns)')
    columns = zip(given.get('feature_names', []), learnt.get('feature_names', []), strict=False)
    other = next((f', the first other column is {a!r} for {b!r}' for a, b in columns if a != b), '')
    return f'the features come from the descriptor {texts[0]}, the model was trained on {texts[1]}{other}'
