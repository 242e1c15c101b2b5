"""Checks for leakage: models evaluated on training structures, features selected with test rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from aiida_nanoml.features.bonds import ELEMENTS
from aiida_nanoml.features.isomers import TOLERANCE_ANG, isomer_groups
from aiida_nanoml.learning.training import HELD_OUT
from aiida_nanoml.provenance.audit.evidence import Evidence, Rows
from aiida_nanoml.provenance.audit.findings import ERROR, WARNING, Checked, Finding, NotMadeError, Row
from aiida_nanoml.provenance.origins import DATASET
from aiida_nanoml.structures import atomic_numbers
from aiida_nanoml.text import agree, counted

_SPLIT_AGAIN = (
    'split the rows again (nanoml.split_dataset keeps equal structures together) and train again; until then quote no '
    'error of this model'
)


def shared_structures(evidence: Evidence) -> Checked:
    """Is a structure, by its content hash, in more than one part of a split?"""
    findings = []
    for rows in _require_splits(evidence):
        identity = {digest: digest for digest in rows.hashes.tolist()}
        findings += _leaks(evidence, rows, identity, 'in more than one part of the split')
    return Checked(_looked_at(evidence), findings)


def same_isomers(evidence: Evidence) -> Checked:
    """Are two structures of different parts the same molecule, turned, reflected or relaxed?"""
    splits, pairs = evidence.splits, evidence.predicted
    if not splits and not pairs:
        raise NotMadeError('nothing here is split or predicted')
    molecules, looked_at = _molecules(evidence)
    findings = []
    for rows in splits:
        findings += _leaks(evidence, rows, molecules, 'the same molecule as one in another part of the split', True)
    for predicted, learnt in pairs:
        found = _matches(predicted, learnt, molecules, distinct=True)
        if found:
            findings.append(
                Finding(
                    WARNING,
                    f'{counted(len(found), "predicted structure")} of {evidence.name(predicted.pk)} '
                    f'{agree(len(found), "is", "are")} the same molecule as a training row of '
                    f'{evidence.name(learnt.pk)}',
                    'their errors say nothing about unseen molecules',
                    'leave them out when the model is evaluated',
                    evidence.places([predicted.pk, learnt.pk]),
                    tuple(found),
                )
            )
    return Checked(looked_at, findings)


def predicted_training_rows(evidence: Evidence) -> Checked:
    """Are predicted structures among the rows that the model learnt from?"""
    pairs = evidence.predicted
    if not pairs:
        raise NotMadeError('nothing here was predicted by a model whose training rows are in the graph')
    findings = []
    for predicted, learnt in pairs:
        identity = {digest: digest for digest in [*predicted.hashes.tolist(), *learnt.hashes.tolist()]}
        found = _matches(predicted, learnt, identity)
        if found:
            findings.append(
                Finding(
                    WARNING,
                    f'{len(found)} of {len(predicted.hashes)} structures of {evidence.name(predicted.pk)} '
                    f'{agree(len(found), "is", "are")} training rows of {evidence.name(learnt.pk)}',
                    'the model was fitted to these rows: this is no prediction',
                    'leave them out when predictions are evaluated or counted',
                    evidence.places([predicted.pk, learnt.pk]),
                    tuple(found),
                )
            )
    n_rows = sum(len(predicted.hashes) for predicted, _ in pairs)
    return Checked(f'{counted(n_rows, "predicted row")} against the training rows of their models', findings)


def columns(evidence: Evidence) -> Checked:
    """Were features learnt or selected on training rows only, and was leakage refused?"""
    datasets = [pk for pk in evidence.datasets if evidence.graph.type_name(pk) == DATASET]
    if not datasets:
        raise NotMadeError('no data set is in the graph')
    findings = []
    for pk in datasets:
        attributes = evidence.attributes(pk)
        learnt, training = attributes.get('learnt_rows'), attributes['split'].get('train', 0)
        if learnt is not None and learnt != training:
            findings.append(
                Finding(
                    ERROR,
                    f'the columns of {evidence.name(pk)} were learnt on {learnt} rows, but {training} are for training',
                    'test rows influenced the features',
                    'build the data set again with its split (aiida-nanoml dataset build)',
                    evidence.places([pk]),
                )
            )
    for model in evidence.models:
        findings += _leakage_accepted(evidence, model)
    return Checked(counted(len(datasets), 'data set') + ' and the models that learnt from them', findings)


def _leakage_accepted(evidence: Evidence, model: int) -> Iterator[Finding]:
    attributes, dataset = evidence.attributes(model), evidence.trained_on(model)
    if attributes.get('allow_leakage'):
        yield Finding(
            WARNING,
            f'{evidence.name(model)} was trained with leakage accepted',
            'its metrics may be too good',
            'train again without allow_leakage, or state which rows leak',
            evidence.places([model]),
        )
    built = {} if dataset is None else evidence.attributes(dataset)
    learnt = built.get('learnt_rows') is not None or built.get('selection') is not None
    if learnt and dataset is not None and HELD_OUT in attributes['metrics']:
        yield Finding(
            ERROR,
            f'the cross-validation of {evidence.name(model)} tested on rows that its columns were learnt or '
            'selected on',
            'its held-out errors are too small',
            'quote the errors of the test part, or train without folds',
            evidence.places([model, dataset]),
        )


def _require_splits(evidence: Evidence) -> list[Rows]:
    if not evidence.splits:
        raise NotMadeError('nothing here is split into parts')
    return evidence.splits


def _looked_at(evidence: Evidence) -> str:
    n_rows = sum(len(rows.hashes) for rows in evidence.splits)
    return f'{counted(n_rows, "row")} of {counted(len(evidence.splits), "split")}'


def _molecules(evidence: Evidence) -> tuple[dict[str, str], str]:
    """Return for each structure the hash of the first one that is the same molecule, and what was compared."""
    found = evidence.geometry
    structures = found.structures
    known = np.isin(structures.numbers, atomic_numbers(ELEMENTS))
    usable = ~structures.pbc.any(axis=1)
    np.logical_and.at(usable, structures.rows, known)
    if not usable.any():
        raise NotMadeError(
            'none of the structures is in the graph, for example because features were imported'
            if not len(structures)
            else f'only isolated structures of {", ".join(ELEMENTS)} are compared'
        )
    hashes = found.hashes[usable]
    groups = isomer_groups(structures.select(usable))
    left_out = len(structures) - len(hashes)
    relaxed = f'{found.n_relaxed} of them relaxed' if found.n_relaxed else 'none of them relaxed'
    text = f'{counted(len(hashes), "structure")} as labelled, {relaxed}; '
    text += f'distances compared within {TOLERANCE_ANG:g} Å'
    text += f'; {left_out} periodic ones or of other elements not compared' if left_out else ''
    return dict(zip(hashes.tolist(), hashes[groups].tolist(), strict=True)), text


def _leaks(
    evidence: Evidence, rows: Rows, identity: Mapping[str, str], how: str, distinct: bool = False
) -> Iterator[Finding]:
    """Yield a finding for structures in several parts: an error if the test part is among them, else a warning.

    :param identity: what a structure is, by its hash; structures that are missing in it are not compared.
    :param distinct: only rows of different hashes count.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for position in np.flatnonzero(rows.part != '').tolist():
        known = identity.get(str(rows.hashes[position]))
        if known is not None:
            members[known].append(position)
    tested, validated = [], []
    for positions in members.values():
        parts = {(str(rows.part[position]), str(rows.hashes[position]) if distinct else '') for position in positions}
        names = {part for part, _ in parts}
        if len(names) > 1 and (not distinct or len({digest for _, digest in parts}) > 1):
            (tested if 'test' in names else validated).append(_to_row(rows, positions))
    for severity, found, part in ((ERROR, tested, 'test'), (WARNING, validated, 'validation')):
        if found:
            yield Finding(
                severity,
                f'{counted(len(found), "structure")} of {evidence.name(rows.pk)} '
                f'{agree(len(found), "is", "are")} {how}, the {part} part '
                'among them',
                f'errors on {part} rows are too small: the model has seen such rows in training',
                _SPLIT_AGAIN,
                evidence.places([rows.pk]),
                tuple(found),
            )


def _to_row(rows: Rows, positions: Sequence[int]) -> Row:
    parts = ', '.join(str(rows.part[position]) for position in positions)
    names = (str(rows.names[position]) for position in positions)
    return Row(tuple(names), tuple(str(rows.hashes[position]) for position in positions), parts)


def _matches(predicted: Rows, learnt: Rows, identity: Mapping[str, str], distinct: bool = False) -> list[Row]:
    """Return the predicted rows that are the same as a training row."""
    first: dict[str, int] = {}
    for position, digest in enumerate(learnt.hashes.tolist()):
        if digest in identity:
            first.setdefault(identity[digest], position)
    found = []
    for position, digest in enumerate(predicted.hashes.tolist()):
        known = first.get(identity.get(digest, ''))
        if known is not None and not (distinct and learnt.hashes[known] == digest):
            names = str(predicted.names[position]), str(learnt.names[known])
            found.append(Row(names, (digest, str(learnt.hashes[known]))))
    return found
