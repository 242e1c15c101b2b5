"""Descriptors by name: those of this package, and those that others register as entry points."""

from __future__ import annotations

import inspect
import json
import reprlib
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from aiida_nanoml.errors import DescriptorError, NanomlError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aiida_nanoml.structures.structure_set import StructureSet

GROUP = 'aiida_nanoml.descriptors'
"""Entry-point group in which a package registers a descriptor class under a name.

A descriptor is a scikit-learn transformer: explicit constructor arguments, ``fit`` and ``transform`` on a
:class:`~aiida_nanoml.structures.StructureSet`, and ``get_feature_names_out``. It may also have

``learns``
    ``True`` if ``fit`` learns from its structures, for example which columns there are. Such a descriptor is fitted
    on training rows only. Before, its columns are not known, and it raises
    :class:`~aiida_nanoml.errors.DescriptorError`. Its method ``frozen()`` gives an instance of the same class whose
    constructor arguments hold all that was learnt, in types of JSON: made again from these, it is fitted.
``electronic``
    ``True`` if it runs an electronic calculation, however cheap, and does not only count atoms.
``unknown_counts(structures)``
    (n,), how many parts of each structure it cannot tell.
``restricted(feature_names)``
    an instance that computes at least these of its columns, for less work than all.
"""

_BUILT_IN = (
    EntryPoint('alloy', 'aiida_nanoml.features.alloys:AlloyDescriptor', GROUP),
    EntryPoint('quadruplets', 'aiida_nanoml.features.quadruplets:QuadrupletDescriptor', GROUP),
    EntryPoint('clusters', 'aiida_nanoml.features.clusters:ClusterDescriptor', GROUP),
    EntryPoint('combined', 'aiida_nanoml.features.combined:CombinedDescriptor', GROUP),
    EntryPoint('shells', 'aiida_nanoml.features.shells:ShellDescriptor', GROUP),
    EntryPoint('tight_binding', 'aiida_nanoml.features.tight_binding:TightBindingDescriptor', GROUP),
)


def descriptor_names() -> list[str]:
    """Give the names of all registered descriptors, in alphabetical order."""
    return sorted(_registered())


def make_descriptor(name: str, **params: Any) -> Any:
    """Make a descriptor.

    :param name: one of :func:`descriptor_names`.
    :param params: arguments of its constructor.
    :returns: the descriptor; one that learns has to be fitted yet, unless its arguments hold what it learnt.
    :raises DescriptorError: if there is no such descriptor, it cannot be loaded, or a parameter is unknown or wrong.
    """
    descriptor = make_registered('descriptor', _registered(), name, params, DescriptorError)
    if not learns(descriptor):
        descriptor.get_feature_names_out()
    return descriptor


def learns(descriptor: Any) -> bool:
    """Tell if a descriptor learns from the structures that it is fitted on."""
    return bool(getattr(descriptor, 'learns', False))


def is_electronic(descriptor: Any) -> bool:
    """Tell if a descriptor runs an electronic calculation; the others need the structure only."""
    return bool(getattr(descriptor, 'electronic', False))


def is_frozen(descriptor: Any) -> bool:
    """Tell if the parameters of a descriptor determine its columns: it learns nothing, or holds what was learnt."""
    if not learns(descriptor):
        return True
    try:
        type(descriptor)(**descriptor.get_params(deep=False)).get_feature_names_out()
    except DescriptorError:
        return False
    return True


def freeze(descriptor: Any, structures: StructureSet, y: NDArray[np.float64] | None = None) -> Any:
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
        raise DescriptorError(f'frozen() of {type(descriptor).__name__} keeps something outside of its parameters.')
    return found


def dense_features(descriptor: Any, structures: StructureSet) -> NDArray[np.float64]:
    """Describe structures, by an array also where the descriptor gives a sparse matrix.

    :returns: shape (n, number of columns).
    """
    features = descriptor.transform(structures)
    dense: NDArray[np.float64] = features.toarray() if hasattr(features, 'toarray') else features
    return dense


def describe(identity: Mapping[str, Any], structures: StructureSet) -> NDArray[np.float64]:
    """Make the features of structures that an identity stands for.

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
            f'The descriptor {identity["name"]!r} has not the column {missing[0]!r} ({len(missing)} are missing): '
            'it is another version than the one that made the features.'
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
    """Say in types of JSON which numbers a descriptor makes: two with the same identity make the same columns.

    :returns: ``name`` in the registry, ``params``, ``feature_names`` and ``n_features``.
    :raises DescriptorError: if the descriptor is not registered, has a parameter that JSON cannot hold, or has learnt
        something that its parameters do not hold.
    """
    kind = type(descriptor)
    path = f'{kind.__module__}:{kind.__qualname__}'
    names = [name for name, entry in sorted(_registered().items()) if entry.value == path or _loads_as(entry, kind)]
    if not names:
        raise DescriptorError(f'{path} is not registered in the entry-point group {GROUP}, so no name identifies it.')
    if not is_frozen(descriptor):
        raise DescriptorError(
            f'The descriptor {names[0]!r} learns from structures: fit it to the training rows, then take its frozen().'
        )
    feature_names = [str(feature) for feature in descriptor.get_feature_names_out()]
    identity = {
        'name': names[0],
        'params': descriptor.get_params(deep=False),
        'feature_names': feature_names,
        'n_features': len(feature_names),
    }
    try:
        plain: dict[str, Any] = json.loads(json.dumps(identity, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise DescriptorError(f'The parameters of the descriptor {names[0]!r} do not fit into JSON: {error}') from error
    return plain


def mismatch(given: Mapping[str, Any], learnt: Mapping[str, Any]) -> str:
    """Say in one sentence, without all the columns, how the identities of two descriptors differ.

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


def registered_in(group: str, built_in: Iterable[EntryPoint]) -> dict[str, EntryPoint]:
    """Give the entry points of a group by name; those of this package come first and cannot be replaced."""
    return {entry.name: entry for entry in (*entry_points(group=group), *built_in)}


def make_registered(
    what: str, registered: Mapping[str, EntryPoint], name: str, params: Mapping[str, Any], error: type[NanomlError]
) -> Any:
    """Make what is registered under a name.

    :param what: what it is, for messages.
    :param registered: entry points of classes by name.
    :param params: arguments of the constructor.
    :param error: what to raise if there is no such name, the class cannot be loaded, or a parameter is unknown.
    """
    if name not in registered:
        raise error(f'There is no {what} {name!r}; registered: {", ".join(sorted(registered))}.')
    try:
        kind = registered[name].load()
    except Exception as fault:  # whatever another package does at import
        raise error(
            f'The {what} {name!r} ({registered[name].value}) cannot be loaded: {type(fault).__name__}: {fault}'
        ) from fault
    known = inspect.signature(kind).parameters
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise error(f'The {what} {name!r} has no parameter {", ".join(unknown)}; it has: {", ".join(sorted(known))}.')
    return kind(**params)


def _registered() -> dict[str, EntryPoint]:
    return registered_in(GROUP, _BUILT_IN)


def _loads_as(entry: EntryPoint, kind: type) -> bool:
    """Tell if an entry point leads to a class by another path than where the class is defined."""
    if entry.module.partition('.')[0] != kind.__module__.partition('.')[0]:
        return False
    try:
        return entry.load() is kind
    except Exception:  # a broken entry point of another package is no reason to fail here
        return False
