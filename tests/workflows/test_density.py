"""From flakes to judged densities, with an engine that needs no program."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory

from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.structures import Structure, StructureSet

DensityWorkChain = WorkflowFactory('nanoml.density')
OVERRIDES = {
    'label': {'mesh_spacing_ang': 0.25},
    'settings': {
        'spacing_ang': 0.25,
        'epochs': 8,
        'points_per_epoch': 4096,
        'copies': 1,
        'radius': 3.0,
        'dilations': [1, 2],
        'smoothing': [0.0, 0.8],
    },
}


def diatomics(*pairs: tuple[int, int, float]) -> StructureSetData:
    """Molecules of two atoms: atomic numbers, and distance in Å."""
    molecules = [Structure(pair[:2], [[0.0, 0.0, 0.0], [pair[2], 0.0, 0.0]]) for pair in pairs]
    return StructureSetData(StructureSet.from_structures(molecules, [f'm{number}' for number in range(len(pairs))]))


def test_from_structures_to_judged_predictions(code: orm.InstalledCode) -> None:
    builder = DensityWorkChain.get_builder_from_protocol(
        code,
        structures=diatomics((7, 7, 1.1), (7, 7, 1.2)),
        judged={'unseen': diatomics((7, 7, 1.15))},
        engine='pyscf',
        protocol='fast',
        overrides=OVERRIDES,
    )
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    assert outputs['densities'].n_densities == 2
    judged = outputs['judged']['unseen']
    assert judged['densities'].label_source.engine == 'pyscf'
    metrics = judged['results'].get_dict()['metrics']
    assert metrics['nmae'] < metrics['nmae_free']
    assert metrics['nmae'] == pytest.approx(outputs['metrics']['test']['nmae'], rel=1e-3)
    assert judged['predictions'].model_fingerprint == outputs['model'].fingerprint
    ancestors = orm.QueryBuilder().append(orm.Data, filters={'uuid': judged['predictions'].uuid}, tag='end')
    ancestors.append(orm.CalcJobNode, with_descendants='end', project=['uuid', 'process_type'])
    tasks = sorted(kind.rpartition('.')[2] for kind in dict(ancestors.all()).values())
    # What was learnt from is one batch, and what is judged by another.
    assert tasks == ['density_predict', 'density_train', 'label', 'label']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({}, 'either flakes to generate or structures'),
        (
            {'flakes': {'z': {'family': 'z', 'size': 2, 'count': 2, 'seed': '1'}}},
            "flakes.z: parameter seed='1' of FlakeParameters",
        ),
        ({'structures': True, 'judged': {'bigger': True}}, 'has the parts unseen, larger, not bigger'),
        ({'structures': True, 'larger': {'z': {}}}, '`larger` goes with `flakes`'),
        ({'structures': True, 'engine': 'xtb'}, "engine 'xtb' computes no density"),
    ],
)
def test_inputs_that_cannot_work_are_refused(code, change: dict, message: str) -> None:
    molecules = diatomics((7, 7, 1.1))
    change = {name: molecules if value is True else value for name, value in change.items()}
    if 'judged' in change:
        change['judged'] = dict.fromkeys(change['judged'], molecules)
    with pytest.raises(ValueError, match=message):
        run_get_node(
            DensityWorkChain.get_builder_from_protocol(code, **{'engine': 'pyscf', 'protocol': 'fast', **change})
        )
