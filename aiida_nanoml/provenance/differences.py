"""Differences between the recorded outputs of a calculation and those of a rerun."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.links import LinkType
from numpy.typing import NDArray

from aiida_nanoml.data.density_model import DensityModelData
from aiida_nanoml.data.model import ModelData
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.learning.former_names import with_current_names

IDENTICAL = 'identical'
WITHIN = 'within tolerance'
DIFFERS = 'differs'
VERDICTS = (IDENTICAL, WITHIN, DIFFERS)
"""From best to worst."""

NOT_COMPARED = ('wall times', 'messages of failed rows', 'pictures', 'files retrieved from jobs')

_FILES_OF_JOBS = ('retrieved', 'remote_folder')
PICTURES = ('.png', '.pdf', '.svg')
"""Endings of pictures."""
_FINGERPRINTS = ('fingerprint', 'model_fingerprint')
_VERSIONS = ('version', 'versions', 'engine_version')
_NUMBER = re.compile(r'[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|\bnan\b')


@dataclass(frozen=True)
class Quantity:
    """One array, attribute or file of an output, recorded and computed again.

    :param output: label of the link from the process to the output.
    :param name: name of the array, attribute or file.
    :param verdict: ``identical`` (the same type, shape and value of every number), ``within tolerance`` or ``differs``.
    :param n_values: numbers, texts or booleans that were compared.
    :param n_different: how many of them differ.
    :param max_abs: largest absolute difference, in the unit of the quantity; None if the values cannot be subtracted.
    :param max_rel: largest difference relative to the recorded value, where this is not zero.
    :param detail: further description of a difference.
    """

    output: str
    name: str
    verdict: str
    n_values: int
    n_different: int = 0
    max_abs: float | None = None
    max_rel: float | None = None
    detail: str = ''

    def __str__(self) -> str:
        """Return in one line what differs."""
        parts = [f'{self.n_different} of {self.n_values} differ'] if self.n_values > 1 else []
        if self.max_abs is not None:
            relative = '' if self.max_rel is None else f' (relative {self.max_rel:.2g})'
            parts.append(f'by {"at most " * (self.n_different > 1)}{self.max_abs:.3g}{relative}')
        text = ' '.join(parts) or self.verdict
        return f'{text}, {self.detail}' if self.detail else text


def created(process: orm.ProcessNode) -> dict[str, orm.Data]:
    """Return the outputs of a calculation, by the label of the link."""
    return {link.link_label: link.node for link in process.base.links.get_outgoing(link_type=LinkType.CREATE).all()}


def compare_outputs(
    recorded: Mapping[str, orm.Data], again: Mapping[str, orm.Data], tolerance: float
) -> tuple[Quantity, ...]:
    """Compare the outputs of a calculation with those of the same calculation run again.

    Versions of libraries and engines are not compared, see :func:`versions`; nor is anything in ``NOT_COMPARED``.

    :param tolerance: absolute difference of real numbers that counts as none, each in its own unit; 0: none at all.
        Counts, texts and hashes have to be equal. With a tolerance, different weights of a model (by its fingerprint)
        do not count: the numbers that the model computes are compared.
    """
    found: list[Quantity] = []
    for name in sorted({*recorded, *again} - set(_FILES_OF_JOBS)):
        if name not in again or name not in recorded:
            where = 'recorded' if name in recorded else 'computed now'
            found.append(Quantity(name, 'node', DIFFERS, 1, 1, detail=f'only {where}'))
        elif type(recorded[name]) is not type(again[name]):
            types = f'{type(recorded[name]).__name__} became {type(again[name]).__name__}'
            found.append(Quantity(name, 'type', DIFFERS, 1, 1, detail=types))
        else:
            found += _compare_nodes(name, recorded[name], again[name], tolerance)
    return tuple(found)


def worst(verdicts: Iterator[str]) -> str:
    """Return the worst of some verdicts; without any, nothing differs."""
    return max(verdicts, key=VERDICTS.index, default=IDENTICAL)


def versions(node: orm.Data) -> dict[str, str]:
    """Return the versions of the libraries and engines that made a node, as far as it records them."""
    attributes = node.base.attributes.all
    found = {name: str(version) for name, version in (attributes.get('versions') or {}).items()}
    if 'engine_version' in attributes:
        found[f'engine {attributes["engine"]}'] = str(attributes['engine_version'])
    return found


def _compare_nodes(output: str, recorded: orm.Data, again: orm.Data, tolerance: float) -> Iterator[Quantity]:
    old, new = _content(recorded), _content(again)
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            where = 'recorded' if name in old else 'computed now'
            yield Quantity(output, name, DIFFERS, 1, 1, detail=f'only {where}')
        elif isinstance(old[name], np.ndarray) and isinstance(new[name], np.ndarray):
            yield _compare_arrays(output, name, old[name], new[name], tolerance)
        elif name in _FINGERPRINTS:
            yield _compare_fingerprints(output, name, old[name], new[name], tolerance)
        elif isinstance(old[name], bytes):
            yield _compare_files(output, name, old[name], new[name], tolerance)
        else:
            yield _compare_values(output, name, old[name], new[name], tolerance)


def _content(node: orm.Data) -> dict[str, Any]:
    """Return everything in a node that is compared: arrays, attributes, content of files."""
    content: dict[str, Any] = {}
    if isinstance(node, StructureSetData):
        content['hashes'] = node.structures.hashes
    if isinstance(node, orm.ArrayData):
        content |= {name: node.get_array(name) for name in sorted(node.get_arraynames())}
    elif not isinstance(node, ModelData | DensityModelData):
        content |= _files(node)
    content |= {key: value for key, value in node.base.attributes.all.items() if '|' not in key}
    if isinstance(node, ModelData):
        content['parameters'] = with_current_names(content['parameters'])
    return {name: value for name, value in content.items() if _is_compared(name)}


def _files(node: orm.Data) -> dict[str, Any]:
    content: dict[str, Any] = {}
    repository = node.base.repository
    for folder, _, names in repository.walk():
        for name in sorted(names):
            path = folder / name
            if path.suffix in PICTURES:
                continue
            data = repository.get_object_content(path, mode='rb')
            if path.suffix == '.npz':
                with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                    content |= {f'{path.stem}/{key}': arrays[key] for key in arrays.files}
            else:
                content[str(path)] = data
    return content


def _is_compared(name: str) -> bool:
    """Return whether a quantity of this name is compared; wall times, with the unit ``s`` in their name, are not."""
    word = PurePosixPath(name).name
    return word not in (*_VERSIONS, 'messages', 'speedup') and 's' not in word.split('_')


def _compare_arrays(
    output: str, name: str, old: NDArray[Any], new: NDArray[Any], tolerance: float, detail: str = ''
) -> Quantity:
    exact = old.dtype.kind not in 'iufc'
    # The dtype of texts contains their length.
    if old.shape != new.shape or old.dtype.kind != new.dtype.kind or (not exact and old.dtype != new.dtype):
        changed = f'{old.dtype} {old.shape} became {new.dtype} {new.shape}'
        return Quantity(output, name, DIFFERS, old.size, old.size, detail=changed)
    different = old != new if exact else (old != new) & ~(np.isnan(old) & np.isnan(new))
    n_different = int(np.count_nonzero(different))
    if exact or not n_different:
        return Quantity(output, name, DIFFERS if n_different else IDENTICAL, old.size, n_different)
    wide = np.result_type(old.dtype, np.float64)
    gap = np.abs(new[different].astype(wide) - old[different].astype(wide))
    was = np.abs(old[different].astype(wide))
    max_abs = float(gap.max())  # NaN if a number became NaN, or the other way round
    relative = gap[was > 0] / was[was > 0]
    close = old.dtype.kind in 'fc' and max_abs <= tolerance
    return Quantity(
        output,
        name,
        WITHIN if close else DIFFERS,
        old.size,
        n_different,
        max_abs if math.isfinite(max_abs) else None,
        float(relative.max()) if relative.size and np.isfinite(relative).all() else None,
        detail,
    )


def _compare_fingerprints(output: str, name: str, old: Any, new: Any, tolerance: float) -> Quantity:
    if old == new:
        return Quantity(output, name, IDENTICAL, 1)
    detail = f'{str(old)[:12]} became {str(new)[:12]}'
    if tolerance > 0:
        return Quantity(
            output, name, WITHIN, 1, 1, detail=f'{detail}: different weights, compared by the numbers they compute'
        )
    return Quantity(output, name, DIFFERS, 1, 1, detail=detail)


def _compare_files(output: str, name: str, old: bytes, new: bytes, tolerance: float) -> Quantity:
    """Compare two files byte by byte, or by the numbers in them where the text around is the same."""
    if old == new:
        return Quantity(output, name, IDENTICAL, 1)
    try:
        texts = old.decode(), new.decode()
    except UnicodeDecodeError:
        return Quantity(output, name, DIFFERS, 1, 1, detail='binary content differs')
    if _NUMBER.split(texts[0]) != _NUMBER.split(texts[1]):
        return Quantity(output, name, DIFFERS, 1, 1, detail='text differs')
    numbers = (np.array(_NUMBER.findall(text), dtype=float) for text in texts)
    return _compare_arrays(output, name, *numbers, tolerance)


def _compare_values(output: str, name: str, old: Any, new: Any, tolerance: float) -> Quantity:
    """Compare two values of JSON: their real numbers within the tolerance, everything else exactly."""
    was, now = dict(_leaves(old)), dict(_leaves(new))
    if was.keys() != now.keys():
        odd = sorted(was.keys() ^ now.keys())[0]
        where = 'recorded' if odd in was else 'computed now'
        return Quantity(output, name, DIFFERS, len(was), len(was.keys() ^ now.keys()), detail=f'{odd} only {where}')
    found = [_compare_leaves(output, name, path, was[path], now[path], tolerance) for path in was]
    different = [one for one in found if one.n_different]
    if not different:
        return Quantity(output, name, IDENTICAL, len(found))
    largest = max(different, key=lambda one: (VERDICTS.index(one.verdict), one.max_abs or 0.0))
    relative = [one.max_rel for one in different if one.max_rel is not None]
    return Quantity(
        output,
        name,
        largest.verdict,
        len(found),
        len(different),
        largest.max_abs,
        max(relative, default=None),
        largest.detail,
    )


def _compare_leaves(output: str, name: str, path: str, old: Any, new: Any, tolerance: float) -> Quantity:
    if type(old) is type(new) is float:
        return _compare_arrays(output, name, np.array(old), np.array(new), tolerance, f'most in {path}' if path else '')
    if old == new:
        return Quantity(output, name, IDENTICAL, 1)
    gap = abs(float(new) - float(old)) if {type(old), type(new)} <= {int, float} else None
    close = gap is not None and float in (type(old), type(new)) and gap <= tolerance
    changed = f'{path + " " if path else ""}{_short(old)} became {_short(new)}'
    return Quantity(output, name, WITHIN if close else DIFFERS, 1, 1, gap, detail=changed)


def _leaves(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else None
    if items is None:
        yield path, value
        return
    for key, below in items:
        if _is_compared(str(key)):
            yield from _leaves(below, f'{path}.{key}' if path else str(key))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f'{text[:24]}…'
