"""Every figure that the package draws, with the longest labels that occur, for tests of what all must fulfil."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.text import Text

from aiida_nanoml.alloys.curves import fit_curves
from aiida_nanoml.alloys.plots import plot_curves, plot_phase_map, plot_phase_parity, plot_stress_strain
from aiida_nanoml.densities import Density
from aiida_nanoml.learning.density.plots import plot_density_maps, plot_nmae
from aiida_nanoml.learning.plots import (
    plot_calibration,
    plot_learning_curve,
    plot_parity,
    plot_rounds,
    plot_test_errors,
)
from aiida_nanoml.learning.studies import make_study
from aiida_nanoml.learning.studies.base import OK, tabulate
from aiida_nanoml.learning.targets import TARGETS
from aiida_nanoml.learning.uncertainty import Calibration
from aiida_nanoml.structures import Structure
from aiida_nanoml.transport.plots import plot_scan, plot_transmission
from aiida_nanoml.transport.presets import make_potential
from tests.alloys.scans import IRON, make_scan, scan_points

SIESTA = 'LDA-CA/DZP (SIESTA) 4.1-b4-133, protocol paper'
SPIN = 'PBE/DZP (SIESTA) 4.1-b4-133, protocol alloys-collinear-spin-precise'
CORRECTION = 'Energy gap, correction of GFN1-xTB (tblite) 0.4.0, protocol balanced, by the model dense-network'
LONG_NAME = 'supercell-of-Fe0.250Co0.250Ni0.250Cr0.125Mn0.125-special-quasirandom'


def parts(n: int, noise: float = 0.15) -> dict[str, tuple[Any, Any]]:
    """Known and predicted gaps in eV of three parts, n in all; some predictions are below zero."""
    random = np.random.default_rng(1)
    known = random.gamma(2.0, 0.5, n)
    predicted = known + random.normal(0, noise, n)
    first, second = int(0.7 * n), int(0.85 * n)
    return {
        name: (known[rows], predicted[rows])
        for name, rows in (
            ('train', slice(0, first)),
            ('validation', slice(first, second)),
            ('test', slice(second, n)),
        )
    }


def parity(n: int, **options: Any) -> Any:
    """A parity plot of n rows with a baseline."""
    found = parts(n)
    known = found['test'][0]
    return plot_parity(found, CORRECTION, SIESTA, (known, known + 0.4), **options)


def calibration(**options: Any) -> Any:
    """Errors against standard deviations."""
    random = np.random.default_rng(2)
    found = {}
    for name, n in (('validation', 60), ('test', 60)):
        std = random.uniform(0.05, 0.4, n)
        found[name] = std, std * np.abs(random.normal(size=n))
    numbers = {'spread': 1.0, 'gap': 0.0, 'constant_ev': 0.0, 'factor_68': 1.0, 'factor_95': 2.0}
    return plot_calibration(found, Calibration(part='validation', rows=60, **numbers), CORRECTION, SIESTA, **options)


def learning_curve(**options: Any) -> Any:
    """Losses of a network."""
    epochs = np.arange(1, 200)
    history = {'loss': (0.3 / epochs).tolist(), 'val_loss': (0.3 / epochs + 1e-4 * epochs).tolist()}
    return plot_learning_curve(history, 'Model dense-network', 'Mean squared error of gap / 4 eV', **options)


def rounds(**options: Any) -> Any:
    """Rounds of active learning."""
    curves = {
        'uncertainty-and-distance': ([10, 20, 30, 40], [0.4, 0.2, 0.12, 0.08]),
        'random': ([10, 20, 30, 40], [0.4, 0.3, 0.22, 0.16]),
    }
    return plot_rounds(curves, '240 held-out structures', SIESTA, 0.1, **options)


def test_errors(**options: Any) -> Any:
    """Errors of models with long names."""
    models = [(f'{LONG_NAME}-{number} (dense-network)', 0.1 + 0.01 * number, 0.02) for number in range(8)]
    title = f'gap, {SIESTA}\nMAE of the test rows ± standard error (eV)'
    return plot_test_errors({title: models, f'density, {SPIN}\nNMAE of the test rows (%)': models[:3]}, **options)


def scan() -> Any:
    """Curves and points of an alloy."""
    structures, energies, pressures = make_scan(IRON)
    curves = fit_curves(structures, energies)
    return curves, scan_points(structures, energies, curves) | {'stress_pressure_gpa': pressures}


def curves(**options: Any) -> Any:
    """E(a) of engine and model."""
    return plot_curves(*scan(), 'alloy-0001', SPIN, scan(), f'model, from {SPIN}', **options)


def stress(**options: Any) -> Any:
    """Stress and strain of engine and model."""
    return plot_stress_strain(*scan(), 'alloy-0001', SPIN, scan(), f'model, from {SPIN}', **options)


def phase_map(**options: Any) -> Any:
    """Phases over two fractions."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(0, 0.3, 7), np.linspace(0, 0.3, 7)))
    difference = 0.2 * (x - 0.5 * y - 0.08)
    difference[5] = np.nan
    known = [0.05, 0.25], [0.1, 0.05], ['fcc', 'bcc']
    title = 'E(fcc) − E(bcc) by the model'
    return plot_phase_map(x, y, difference, 'Fraction of Al', 'Fraction of Cr', title, SPIN, known, **options)


def phase_parity(**options: Any) -> Any:
    """Energy differences of two phases."""
    random = np.random.default_rng(3)
    known = random.normal(0, 0.05, 120)
    predicted = known + random.normal(0, 0.02, 120)
    return plot_phase_parity(known, predicted, 'Difference of the phases, predicted and computed', SPIN, **options)


def transmission(**options: Any) -> Any:
    """A double barrier with three resonances."""
    potential = make_potential('double_barrier', {'width': 4.0, 'separation': 8.0})
    energies = np.linspace(0.0, 0.45, 91)
    heights = 1e-6 + 0.9 / (1 + ((energies - 0.2) / 0.01) ** 2)
    resonances = [0.05, 0.06, 0.2], [1e-7, 1e-4, 0.02]
    note = '512 cosines, correction coupled, lead energies from the potential of a SIESTA run in vacuum'
    return plot_transmission(potential, energies, heights, resonances, note, **options)


def transmission_scan(n: int, **options: Any) -> Any:
    """A scan of n values."""
    values, energies = np.linspace(1, 9, n), np.linspace(0, 0.4, 80)
    heights = 1 / (1 + ((energies[None] - 0.4 / values[:, None]) / 0.02) ** 2)
    title = 'Separation of the two barriers, from edge to edge (nm)'
    note = 'double barrier, 512 cosines, correction coupled, m* = 0.067 m₀, of the left and of the right lead'
    return plot_scan(title, values, energies, heights, (values, 0.4 / values), LONG_NAME, note, **options)


def density_maps(predicted: bool, **options: Any) -> Any:
    """Maps of a density on a small mesh."""
    random = np.random.default_rng(4)
    cell, numbers = np.diag([9.0, 7.0, 6.0]), np.array([6, 6, 7, 1])
    places = np.array([[3.0, 3, 3], [4.4, 3, 3], [5.1, 4.2, 3], [2.4, 2.2, 3]])
    values = random.random((2, 12, 10, 8))
    density = Density(Structure(numbers, places, cell), values[0], values[1])
    answer = 0.1 * random.random((12, 10, 8)) if predicted else None
    title = f'Density network base: {LONG_NAME}, C2H1N1'
    return plot_density_maps(density, title, f'{SIESTA}\n{SIESTA}', answer, **options)


def nmae(**options: Any) -> Any:
    """Errors of structures with long names."""
    names = [f'{LONG_NAME}-{number}' for number in range(14)]
    free = np.linspace(0.1, 0.2, 14)
    found = ['train'] * 8 + ['validation'] * 3 + ['test'] * 3
    return plot_nmae(names, free / 12, free, found, 'Density network base', SIESTA, **options)


def study(name: str, **options: Any) -> Any:
    """Figure of a study, of results that nothing was trained for."""
    settings: dict[str, Any] = {
        'selection': {'methods': ['vt', 'rcr', 'random'], 'p': [0.6, 0.95], 'n_features': [5, 20]},
        'transfer': {},
        'learning_curve': {'rows': [40, 100]},
        'hyperparameters': {'grid': {'max_depth': [1, 4, 8], 'min_samples_leaf': [1, 2], 'feature_share': [0.5, 1.0]}},
    }
    points: dict[str, list[dict[str, Any]]] = {
        'selection': [
            {'method': method, 'parameter': value}
            for method, value in (('all', 60), ('vt', 0.6), ('vt', 0.95), ('rcr', 5), ('rcr', 20), ('random', 5))
        ],
        'transfer': [{'train_family': family} for family in ('', 'h', 's')],
        'learning_curve': [{'n_rows': n} for n in (40, 100)],
        'hyperparameters': [
            {'max_depth': depth, 'min_samples_leaf': leaf, 'feature_share': share}
            for depth in (1, 4, 8)
            for leaf in (1, 2)
            for share in (0.5, 1.0)
        ],
    }
    random = np.random.default_rng(5)
    rows = [
        point
        | {'family': family, 'seed': seed, 'status': OK, 'message': '', 'n_features': 10 + 8 * number}
        | {'n_train': 40 + 60 * number, 'r2_validation': random.uniform(0.5, 1), 'r2_test': random.uniform(0.5, 1)}
        | {'mae_test_ev': random.uniform(0.05, 0.3)}
        for number, point in enumerate(points[name])
        for family in ('h', 's')
        for seed in (0, 1)
    ]
    kind = {'hyperparameters': 'forest'}.get(name, 'linear')
    made = make_study(name, settings[name], kind)
    return made.figure(tabulate(rows), SIESTA, **options)


def words(drawn: Any) -> list[str]:
    """All texts of a figure, each in one line.

    :param drawn: axes of it, or their list.
    """
    axes = drawn[0] if isinstance(drawn, list) else drawn
    found = [
        ' '.join(text.get_text().split()) for text in axes.get_figure(root=True).findobj(Text) if text.get_visible()
    ]
    return [text for text in found if text]


FIGURES: dict[str, Callable[..., Any]] = {
    'parity of few rows': lambda **options: parity(36, **options),
    'crowded parity': lambda **options: parity(85, **options),
    'shaded parity': lambda **options: parity(3000, **options),
    'parity of a pressure': lambda **options: plot_parity(
        parts(30), CORRECTION, SPIN, target=TARGETS['pressure'], **options
    ),
    'calibration': calibration,
    'learning curve': learning_curve,
    'rounds': rounds,
    'test errors': test_errors,
    'curves': curves,
    'stress': stress,
    'phase map': phase_map,
    'phase parity': phase_parity,
    'transmission': transmission,
    'scan as lines': lambda **options: transmission_scan(5, **options),
    'scan as map': lambda **options: transmission_scan(12, **options),
    'density': lambda **options: density_maps(False, **options),
    'predicted density': lambda **options: density_maps(True, **options),
    'errors of densities': nmae,
    'selection': lambda **options: study('selection', **options),
    'transfer': lambda **options: study('transfer', **options),
    'learning curve of a study': lambda **options: study('learning_curve', **options),
    'hyperparameters': lambda **options: study('hyperparameters', **options),
}
"""Each draws one figure; options are those of the functions, ``width`` and ``ax``."""
