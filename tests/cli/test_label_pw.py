"""``aiida-nanoml label --engine quantumespresso`` with the program itself."""

from __future__ import annotations

import shutil

import pytest

from aiida_nanoml.calculations.pseudopotentials import install_family
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.pseudopotentials import bundled, digest
from aiida_nanoml.engines.quantumespresso.engine import QuantumEspressoEngine
from aiida_nanoml.structures import StructureSet
from tests.engines.quantumespresso.recorded import HYDROGEN, HYDROGEN_CYANIDE

MISSING = QuantumEspressoEngine.missing()


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_molecules_are_labelled_with_pw(cli_json, code, code_factory) -> None:
    program = code_factory(shutil.which('pw.x'), 'pw', with_mpi=False)
    install_family('upf')
    structures = StructureSet.from_structures([HYDROGEN_CYANIDE, HYDROGEN], names=['hcn', 'h2'])
    node = StructureSetData(structures).store()
    answer = cli_json(
        *('label', node.uuid, '--engine', 'quantumespresso', '--engine-code', program.full_label),
        *('--protocol', 'fast', '--set', 'cutoff_ry=25.0', '--set', 'vacuum_ang=5.0'),
    )
    assert (answer['n_finished'], answer['failures']) == (2, {})
    source = answer['labels']
    assert (source['engine'], source['title']) == ('quantumespresso', 'LDA-CA/25 Ry (Quantum ESPRESSO)')
    assert source['pseudopotentials'] == {element: digest(bundled('upf')[element]) for element in ('C', 'H', 'N')}
    assert answer['gap_min_ev'] == pytest.approx(7.5359, abs=1e-3)
