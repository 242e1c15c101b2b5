"""``aiida-nanoml label --densities``."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm

from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines import get_engine
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.testing.structures import METHYL


@pytest.fixture
def radical(code) -> str:
    node = StructureSetData(StructureSet.from_structures([METHYL], ['methyl']), label='radical').store()
    return node.uuid


@pytest.mark.skipif(get_engine('pyscf').missing() is not None, reason='PySCF is not installed')
def test_densities_come_beside_the_labels(radical: str, cli_json) -> None:
    ask = ('label', radical, '--engine', 'pyscf', '--protocol', 'fast', '--densities', '--mesh-spacing', '0.25')
    made = cli_json(*ask, '--name', 'ch3')
    densities = orm.load_node(made['densities'])
    assert densities.label == 'ch3-densities'
    assert densities.hashes.tolist() == orm.load_node(made['uuid']).labels.hashes.tolist()
    np.testing.assert_allclose(densities.density(0).spacing, 0.25)
    assert densities.electrons == pytest.approx([7], rel=1e-3)


def test_densities_of_an_engine_without_are_refused(radical: str, cli) -> None:
    before = orm.QueryBuilder().append(orm.Node).count()
    assert "engine 'xtb' computes no density" in cli('label', radical, '--densities', status=1).stderr
    assert orm.QueryBuilder().append(orm.Node).count() == before
