"""Checks of models and predictions: test errors, skill, domain of validity, calibrated intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from aiida_nanoml.learning.training import HELD_OUT
from aiida_nanoml.learning.uncertainty import LEVELS, MIN_ROWS
from aiida_nanoml.learning.verdict import (
    FEW_TEST_ROWS,
    coverage_too_low,
    judged_part,
    no_better_than_baseline,
    no_better_than_mean,
)
from aiida_nanoml.provenance.audit.evidence import Evidence
from aiida_nanoml.provenance.audit.findings import ERROR, NOTE, WARNING, Checked, Finding, NotMadeError, Row
from aiida_nanoml.provenance.origins import DENSITY_MODEL, MODEL, PREDICTION
from aiida_nanoml.text import agree, counted

MANY_CALIBRATION_ROWS = 50
"""With fewer rows, the quantile of 95 % lies among the two largest errors."""

OVERFITTED = 3.0
"""Ratio of the RMSE of test and training rows beyond which a model is called overfitted."""

FEW_OF_A_FAMILY = 10
"""Rows of a family below which its R² says nothing."""

Metrics = Mapping[str, Any]


def test_part(evidence: Evidence) -> Checked:
    """Is there a test part, and is it large enough?"""
    networks = _density_networks(evidence)
    findings = [
        Finding(
            ERROR,
            f'{evidence.name(network)} was tested on no densities',
            'errors on training densities say nothing about other densities',
            'train with test densities (aiida-nanoml density train)',
            evidence.places([network]),
        )
        for network in networks
        if 'test' not in evidence.attributes(network)['metrics']
    ]
    for model in evidence.models:
        metrics, dataset = evidence.attributes(model)['metrics'], evidence.trained_on(model)
        tested = metrics.get('test', {}).get('n', 0)
        if dataset is not None:
            tested = evidence.attributes(dataset)['split'].get('test', 0)
        held_out = metrics.get(HELD_OUT, {}).get('n', 0)
        places = evidence.places([model] if dataset is None else [model, dataset])
        if not tested:
            findings.append(
                Finding(
                    WARNING if held_out else ERROR,
                    f'{evidence.name(model)} was tested on no rows'
                    + (f'; {held_out} were held out of a cross-validation' if held_out else ''),
                    'validation rows are used in training and for the intervals: they are no test',
                    'split the data set with a test part, and train again',
                    places,
                )
            )
        elif tested < FEW_TEST_ROWS:
            findings.append(
                Finding(
                    WARNING,
                    f'{evidence.name(model)} was tested on {counted(tested, "row")} only',
                    f'its RMSE is known to about {100 / np.sqrt(2 * tested):.0f} %',
                    f'test on {FEW_TEST_ROWS} rows or more, or cross-validate (aiida-nanoml train --folds)',
                    places,
                )
            )
    return Checked(counted(len(evidence.models) + len(networks), 'model'), findings)


def skill(evidence: Evidence) -> Checked:
    """Is the model better than the mean of its training rows, its baseline, or densities of free atoms?"""
    findings, parts_found = [], []
    networks = _density_networks(evidence)
    for network in networks:
        found = evidence.attributes(network)['metrics'].get('test')
        parts_found += ['test'] if found else []
        if found and found['nmae'] >= found['nmae_free']:
            findings.append(
                Finding(
                    ERROR,
                    f'the NMAE of {evidence.name(network)} on test densities is {found["nmae"]:.4f}, that of free '
                    f'atoms {found["nmae_free"]:.4f}',
                    'the network is worse than the superposition of free atoms',
                    'train on more densities, or start SIESTA from free atoms',
                    evidence.places([network]),
                )
            )
    for model in evidence.models:
        metrics = evidence.attributes(model)['metrics']
        parts = [part for part in ('test', HELD_OUT) if part in metrics]
        parts_found += parts
        for part in parts:
            findings += _without_skill(evidence, model, metrics, part)
        findings += _constant_as_good(evidence, model, metrics)
        if 'test' in metrics and metrics['test']['rmse'] > OVERFITTED * metrics.get('train', {}).get('rmse', np.inf):
            findings.append(
                Finding(
                    NOTE,
                    f'the RMSE of {evidence.name(model)} on test rows is {metrics["test"]["rmse"]:.3g}, on training '
                    f'rows {metrics["train"]["rmse"]:.3g} {evidence.attributes(model)["unit"]}',
                    'the model is overfitted; more training rows would help',
                    'quote the test error, never that of the training rows',
                    evidence.places([model]),
                )
            )
    if not parts_found:
        raise NotMadeError('the models record no test metrics')
    n_models = len(evidence.models) + len(networks)
    return Checked(f'errors of {counted(n_models, "model")} ({", ".join(dict.fromkeys(parts_found))})', findings)


def _without_skill(evidence: Evidence, model: int, metrics: Metrics, part: str) -> Iterator[Finding]:
    own, name = metrics[part], evidence.name(model)
    severity = ERROR if part == judged_part(metrics) else WARNING  # fewer rows say less
    if no_better_than_mean(own):
        yield Finding(
            severity,
            f'R² of {name} is {own["r2"]:.3f} on its {part} rows',
            'their mean would be a better prediction',
            'do not use the model: more rows, or another descriptor, are needed',
            evidence.places([model]),
        )
    baseline = metrics.get(f'baseline/{part}')
    if baseline is not None and no_better_than_baseline(own, baseline):
        yield Finding(
            severity,
            f'the MAE of {name} is {own["mae"]:.3f} on its {part} rows, that of its baseline alone '
            f'{baseline["mae"]:.3f} {evidence.attributes(model)["unit"]}',
            'the correction makes the baseline worse',
            'use the baseline as it is, or train on more rows',
            evidence.places([model]),
        )
    families = [
        (group.removeprefix(f'{part}/'), found['r2'])
        for group, found in metrics.items()
        if group.startswith(f'{part}/') and found['n'] >= FEW_OF_A_FAMILY and no_better_than_mean(found)
    ]
    if families and not no_better_than_mean(own):
        yield Finding(
            WARNING,
            f'R² of {name} is not above zero on the {part} rows of '
            + ', '.join(f'{family} ({r2:.3f})' for family, r2 in families),
            'the model distinguishes families, but not the flakes within these',
            'quote errors by family',
            evidence.places([model]),
        )


def _constant_as_good(evidence: Evidence, model: int, metrics: Metrics) -> Iterator[Finding]:
    dataset = evidence.trained_on(model)
    if dataset is None or 'test' not in metrics:
        return
    [values], parts = evidence.arrays(dataset, 'y'), evidence.rows(dataset).part
    test, training = values[parts == 'test'], values[parts == 'train']
    if not len(test) or not len(training):
        return
    constant, own = float(np.mean(np.abs(test - training.mean()))), metrics['test']['mae']
    if own >= constant and not no_better_than_mean(metrics['test']):
        yield Finding(
            WARNING,
            f'the MAE of {evidence.name(model)} on test rows is {own:.3f}, that of the mean of the training rows '
            f'{constant:.3f} {evidence.attributes(model)["unit"]}',
            'a constant would do as well',
            'train on more rows, or take another descriptor',
            evidence.places([model, dataset]),
        )


def out_of_domain(evidence: Evidence) -> Checked:
    """Are there predictions beyond what the training rows cover?"""
    predictions = _predictions(evidence)
    findings = []
    for pk in predictions:
        names, hashes, outside, distance = evidence.arrays(pk, 'names', 'hashes', 'outside', 'distance')
        far = sorted(np.flatnonzero(outside).tolist(), key=lambda at: -distance[at])
        if far:
            findings.append(
                Finding(
                    WARNING,
                    f'{len(far)} of {len(names)} predictions of {evidence.name(pk)} are outside the domain of the '
                    'training rows',
                    'nothing is known about the error of the model there; its intervals do not hold',
                    'leave them out, or label some of them (aiida-nanoml validate, aiida-nanoml active)',
                    evidence.places([pk]),
                    tuple(Row((str(names[at]),), (str(hashes[at]),), f'distance {distance[at]:.2f}') for at in far),
                )
            )
    n_rows = sum(evidence.attributes(pk)['n_rows'] for pk in predictions)
    return Checked(counted(n_rows, 'prediction'), findings)


def intervals(evidence: Evidence) -> Checked:
    """Do predictions have calibrated intervals, and do these hold on test rows?"""
    models, predictions = evidence.models, evidence.of_type(PREDICTION)
    if not models and not predictions:
        raise NotMadeError('neither a model of gaps nor a prediction is in the graph')
    findings = []
    bare = [pk for pk in (predictions or models) if evidence.attributes(pk).get('calibration') is None]
    if bare:
        findings.append(
            Finding(
                WARNING,
                f'{", ".join(map(evidence.name, bare))} {agree(len(bare), "has", "have")} no calibrated intervals',
                'a number without an uncertainty cannot be compared with anything',
                f'train with {MIN_ROWS} validation rows or more, or with --folds',
                evidence.places(bare),
            )
        )
    for model in models:
        calibration = evidence.attributes(model).get('calibration')
        if calibration is None:
            continue
        if calibration['rows'] < MANY_CALIBRATION_ROWS:
            findings.append(
                Finding(
                    NOTE,
                    f'the intervals of {evidence.name(model)} rest on {calibration["rows"]} {calibration["part"]} rows',
                    'the 95 % interval is given by the one or two largest errors',
                    'state the number of rows beside the intervals',
                    evidence.places([model]),
                )
            )
        findings += _low_coverage(evidence, model)
    return Checked(f'{counted(len(models), "model")}, {counted(len(predictions), "prediction set")}', findings)


def _low_coverage(evidence: Evidence, model: int) -> Iterator[Finding]:
    found = evidence.attributes(model)['metrics'].get('test', {})
    for level in LEVELS:
        percent = f'{100 * level:.0f}'
        if coverage_too_low(found, level):
            coverage = found[f'coverage_{percent}']
            yield Finding(
                WARNING,
                f'the {percent} % intervals of {evidence.name(model)} hold {100 * coverage:.0f} % of its test rows',
                'the intervals are too narrow, by more than a statistical fluctuation',
                'calibrate on more rows that are similar to the predicted ones',
                evidence.places([model]),
            )


def mismatches(evidence: Evidence) -> Checked:
    """Do model, data set and predictions agree about target, unit, labels and fingerprint?"""
    pairs = [(model, dataset) for model in evidence.models if (dataset := evidence.trained_on(model)) is not None]
    models = {evidence.attributes(pk)['fingerprint']: pk for pk in evidence.graph.of_type(MODEL)}
    findings = []
    for model, dataset in pairs:
        findings += _differences(evidence, model, dataset, ('target', 'unit', 'labels', 'descriptor'))
    n_compared = len(pairs)
    for pk in evidence.of_type(PREDICTION):
        inputs = evidence.training_inputs(pk)
        creator = evidence.graph.creator.get(pk)
        model = inputs.get('model', evidence.graph.outputs[creator].get('model') if creator is not None else None)
        if model is None:
            model = models.get(evidence.attributes(pk)['model_fingerprint'])
        if model is None:
            continue
        n_compared += 1
        findings += _differences(evidence, pk, model, ('target', 'unit', 'labels', 'baseline'))
        if evidence.attributes(pk)['model_fingerprint'] != evidence.attributes(model)['fingerprint']:
            findings.append(_mismatch(evidence, pk, model, ['fingerprint']))
    if not n_compared:
        raise NotMadeError('no model or prediction is in the graph together with what it was made from')
    return Checked(counted(n_compared, 'pair') + ' of nodes', findings)


def _differences(evidence: Evidence, one: int, other: int, keys: tuple[str, ...]) -> Iterator[Finding]:
    found, expected = evidence.attributes(one), evidence.attributes(other)
    differ = [key for key in keys if (found.get(key) or None) != (expected.get(key) or None)]
    if differ:
        yield _mismatch(evidence, one, other, differ)


def _mismatch(evidence: Evidence, one: int, other: int, differ: list[str]) -> Finding:
    return Finding(
        ERROR,
        f'{evidence.name(one)} and its origin {evidence.name(other)} differ in {", ".join(differ)}',
        'the description of one of them is wrong',
        'find out which of the two was stored by hand, and make it again',
        evidence.places([one, other]),
    )


def _density_networks(evidence: Evidence) -> list[int]:
    """Return the density networks.

    :raises NotMadeError: there is no model at all.
    """
    networks = evidence.of_type(DENSITY_MODEL)
    if not evidence.models and not networks:
        raise NotMadeError('no model is in the graph')
    return networks


def _predictions(evidence: Evidence) -> list[int]:
    found = evidence.of_type(PREDICTION)
    if not found:
        raise NotMadeError('no prediction of gaps or other targets is in the graph')
    return found
