"""3,000 alloys of Co, Cr, Fe, Ni and Al, scanned in both phases by CHGNet: how well a network finds their phases.

``alloys_chgnet.npz`` holds energies and pressures of all points. It was made by these commands, and this program:

    aiida-nanoml alloys generate --atoms 8 --count 3000 --seed 2026 --name cells
    aiida-nanoml alloys scan cells --engine ase --protocol balanced --factors 0.94,0.96,0.98,1,1.02 \\
        --batch-size 2000 --name scan
    python benchmarks/alloys.py --keep scan

Without ``--keep`` models are trained on 2,000 alloys, watched on 500 and tested on 500, all points of a composition
being in one part, and one line of JSON is printed for each. CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)) is
a neural network trained on PBE and PBE+U; it is no density-functional theory.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aiida_nanoml.alloys import compare_phases, fit_curves
from aiida_nanoml.alloys.curves import refinement
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.features import describe, descriptor_identity, make_descriptor
from aiida_nanoml.learning.dataset import Dataset
from aiida_nanoml.learning.metrics import regression_metrics
from aiida_nanoml.learning.registry import make_model
from aiida_nanoml.learning.splits import split_rows
from aiida_nanoml.learning.training import fit_model
from aiida_nanoml.structures import (
    AlloyParameters,
    StructureSet,
    generate_alloys,
    lattice_constants,
    scale_cells,
    with_lattice_constants,
)
from aiida_nanoml.structures.alloys import ELEMENTS, composition_section

FILE = Path(__file__).with_name('alloys_chgnet.npz')
POINTS = 25
"""Lattice constants at which a model is asked."""
VOLUME_ORDER = {'ridge': 3, 'linear': 3}
"""Highest power of the volume in the columns of models that cannot bend a curve by themselves."""
HELD_OUT = 1 / 6
"""Share of the alloys for validation, and for the test."""
Floats = npt.NDArray[np.float64]


def keep(name: str) -> None:
    """Write the data file from a scan of the loaded profile.

    :param name: label of the workflow ``nanoml.alloy_scan``.
    """
    from aiida import load_profile, orm

    from aiida_nanoml.learning.targets import find_values

    load_profile()
    wanted = {'label': name, 'attributes.exit_status': 0}
    process = orm.QueryBuilder().append(orm.WorkChainNode, filters=wanted).first(flat=True)
    outputs = process.outputs
    cells, scan, labels = outputs.cells.structures, outputs.structures.structures, outputs.labels.labels
    atoms = outputs.atoms.labels
    head = {key: row for row, key in enumerate(zip(cells.names.tolist(), cells.families.tolist(), strict=True))}
    np.savez_compressed(
        FILE,
        alloys=json.dumps(outputs.cells.creator.inputs.parameters.get_dict()),
        labels=json.dumps(labels.source.to_dict()),
        cell=np.array([head[key] for key in zip(scan.names.tolist(), scan.families.tolist(), strict=True)], np.uint16),
        lattice_constant_ang=lattice_constants(scan),
        cohesive_energy_ev=np.round(find_values('cohesive_energy', labels, scan.hashes, scan, atoms), 6),
        pressure_gpa=np.round(find_values('pressure', labels, scan.hashes, scan), 3),
        seconds=np.array([np.nansum(labels.wall_s), (process.mtime - process.ctime).total_seconds()]),
        nodes=len(_nodes_of(process)),
    )


def _nodes_of(process: Any) -> set[int]:
    """PKs of the processes of a scan, and of what they took and made."""
    processes = [process, *process.called_descendants]
    links = [link for node in processes for way in ('incoming', 'outgoing')
             for link in getattr(node.base.links, f'get_{way}')().all()]  # fmt: skip
    return {node.pk for node in processes} | {link.node.pk for link in links}


def load() -> tuple[StructureSet, Floats, Floats, dict[str, Any]]:
    """Make the cells again, and read what was computed.

    :returns: the points, cohesive energies (n,) in eV per atom, pressures (n,) in GPa, and about them.
    """
    with np.load(FILE, allow_pickle=False) as stored:
        cells = generate_alloys(AlloyParameters.from_dict(json.loads(str(stored['alloys']))))
        points = with_lattice_constants(cells.select(stored['cell'].astype(int)), stored['lattice_constant_ang'])
        about = {
            'source': LabelSource.from_dict(json.loads(str(stored['labels']))),
            'seconds': stored['seconds'],
            'nodes': int(stored['nodes']),
        }
        return points, stored['cohesive_energy_ev'], stored['pressure_gpa'], about


def split(points: StructureSet, seed: int) -> npt.NDArray[np.str_]:
    """Divide the alloys; all cells of one composition are in one part.

    :returns: part of each point (n,).
    """
    formulas = np.array(points.formulas)
    return split_rows(formulas, validation=HELD_OUT, test=HELD_OUT, seed=seed)


def judge(
    model: Any, dataset: Dataset, points: StructureSet, descriptor: dict[str, Any], reference: Any
) -> dict[str, Any]:
    """Ask a model for the curves of the test alloys, and compare them with those of the engine."""
    test = points.select(dataset.split == 'test')
    rows, constants = refinement(test, POINTS)
    fine = with_lattice_constants(test.select(rows), constants)
    began = time.perf_counter()
    curves = fit_curves(fine, -model.predict(describe(descriptor, fine)))
    seconds = time.perf_counter() - began
    return compare_phases(reference, curves) | {'curves_s': round(seconds, 2)}


def draw_map(path: Path, seed: int) -> None:
    """Draw the phases that a network finds over the fractions of Al and Cr, in cells of 32 atoms.

    The network learns from the same alloys as in the table.
    """
    from aiida_nanoml.alloys.phases import equilibrium_phases, fractions
    from aiida_nanoml.alloys.plots import plot_phase_map
    from aiida_nanoml.learning.plot_style import save_figure

    points, cohesive, pressure, about = load()
    known = np.isfinite(cohesive) & np.isfinite(pressure)
    points, cohesive, pressure = points.select(known), cohesive[known], pressure[known]
    descriptor = descriptor_identity(make_descriptor('alloy'))
    dataset = assemble(points, cohesive, pressure, descriptor, seed)
    model = fit_model(make_model('alloy'), dataset)
    section = composition_section(ELEMENTS, 'Al', 'Cr', steps=16, n_atoms=32, seed=1)
    scan = scale_cells(section, np.linspace(0.94, 1.02, POINTS))
    found = equilibrium_phases(fit_curves(scan, -model.predict(describe(descriptor, scan))))
    axes = plot_phase_map(
        fractions(found.formulas, 'Al'),
        fractions(found.formulas, 'Cr'),
        found.energy_difference_ev,
        'Fraction of Al',
        'Fraction of Cr',
        'E(fcc) - E(bcc) by the model',
        str(about['source']),
        width='double',
    )
    save_figure(axes, path, dpi=150)


def assemble(
    points: StructureSet, cohesive: Floats, pressure: Floats, descriptor: dict[str, Any], seed: int
) -> Dataset:
    """Put features, energies and pressures of all points into one data set."""
    return Dataset(
        X=describe(descriptor, points),
        y=cohesive,
        hashes=points.hashes,
        names=points.names,
        families=points.families,
        split=split(points, seed),
        feature_names=tuple(descriptor['feature_names']),
        others={'pressure': pressure},
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('--keep', metavar='SCAN', help='write the data file from this scan')
    parser.add_argument('--kinds', nargs='+', default=['alloy', 'ridge'], help='kinds of models')
    parser.add_argument('--alone', action='store_true', help='train on the energy alone, too')
    parser.add_argument('--seed', type=int, default=0, help='of the split and of the models')
    parser.add_argument('--set', nargs='*', default=[], help='hyperparameters KEY=JSON of the first kind')
    parser.add_argument('--map', type=Path, metavar='FILE', help='draw the phases by a network, and measure nothing')
    options = parser.parse_args()
    if options.map:
        draw_map(options.map, options.seed)
        return
    if options.keep:
        keep(options.keep)
        return
    points, cohesive, pressure, about = load()
    known = np.isfinite(cohesive) & np.isfinite(pressure)
    points, cohesive, pressure = points.select(known), cohesive[known], pressure[known]
    reference = fit_curves(points, -cohesive)
    parts = split(points, options.seed)
    test = parts == 'test'
    for number, kind in enumerate(options.kinds):
        given = dict(word.split('=', 1) for word in options.set) if number == 0 else {}
        descriptor = descriptor_identity(make_descriptor('alloy', volume_order=VOLUME_ORDER.get(kind, 0)))
        began = time.perf_counter()
        dataset = assemble(points, cohesive, pressure, descriptor, options.seed)
        describe_s = time.perf_counter() - began
        for data in (dataset, replace_others(dataset)) if options.alone else (dataset,):
            cpu = time.process_time()
            model = fit_model(make_model(kind, **{key: json.loads(value) for key, value in given.items()}), data)
            cpu = time.process_time() - cpu
            found = {
                'benchmark': 'alloys',
                'labels': str(about['source']),
                'kind': kind,
                'targets': ['cohesive_energy', *data.others],
                'alloys': {
                    part: len(set(points.names[parts == part].tolist())) for part in ('train', 'validation', 'test')
                },
                'points': len(points),
                'columns': dataset.X.shape[1],
                'describe_s': round(describe_s, 2),
                'train_cpu_s': round(cpu, 1),
                'energy': regression_metrics(cohesive[test], model.predict(dataset.X[test])),
                **judge(model, data, points, descriptor, reference),
                'labelling_nodes': about['nodes'],
                'labelling_cpu_s': round(float(about['seconds'][0])),
                'labelling_wall_s': round(float(about['seconds'][1])),
            }
            print(json.dumps(found), flush=True)


def replace_others(dataset: Dataset) -> Dataset:
    """Leave the energy as the only target."""
    from dataclasses import replace

    return replace(dataset, others={})


if __name__ == '__main__':
    main()
