from __future__ import annotations

import numpy as np
import pytest

from aiida_nanoml.engines import Engine, get_engine
from aiida_nanoml.errors import EvaluationError, FailureCode
from aiida_nanoml.structures import Structure

pytest.importorskip('pyscf')


def engine(protocol: str) -> Engine:
    chosen = get_engine('pyscf')
    return chosen(chosen.parameters(protocol))


def test_benzene_has_the_lda_gap(benzene: Structure) -> None:
    """LDA puts 5.1 to 5.2 eV between the e1g and e2u levels of benzene."""
    label = engine('stringent').evaluate(benzene)
    assert label.gap_ev == pytest.approx(5.15, abs=0.1)
    assert label.n_electrons == 30


def test_more_basis_functions_lower_the_energy(methyl: Structure) -> None:
    energies = [engine(protocol).evaluate(methyl).energy_ev for protocol in ('fast', 'balanced', 'stringent')]
    assert energies == sorted(energies, reverse=True)


def test_the_label_names_functional_and_basis() -> None:
    assert engine('stringent').method == 'LDA/GTH-DZVP (PySCF)'


def test_mesh_spacing_is_kept_exactly_and_changes_no_label(borazine: Structure) -> None:
    chosen = get_engine('pyscf')
    labels = [
        chosen(chosen.parameters('fast'), runtime={'mesh_spacing_ang': spacing}, density=True).evaluate(borazine)
        for spacing in (0.4, 0.2)
    ]
    assert labels[0] == labels[1]
    for label, spacing in zip(labels, (0.4, 0.2), strict=True):
        np.testing.assert_allclose(label.density.spacing, spacing, rtol=1e-12)
        vacuum = np.diag(label.density.structure.cell) - np.ptp(borazine.positions, axis=0)
        assert ((vacuum >= 10) & (vacuum < 10 + spacing)).all()
    errors = [abs(label.density.charge(label.density.total) - 30) for label in labels]
    assert errors[1] < 0.005 < errors[0], 'a mesh that is too coarse is not mended'


def test_a_free_atom_is_a_neutral_sphere() -> None:
    """The self-consistent atom of the molecule's code is no sphere, as its p levels are not filled evenly."""
    chosen = get_engine('pyscf')
    engine = chosen(chosen.parameters('balanced'), runtime={'mesh_spacing_ang': 0.2}, density=True)
    carbon = engine.evaluate(Structure(np.array([6]), np.zeros((1, 3)))).density
    assert carbon.charge(carbon.free) == pytest.approx(4, abs=1e-3)
    x, y, z = np.rint(carbon.structure.positions[0] / 0.2).astype(int)
    np.testing.assert_allclose(carbon.structure.positions[0], [0.2 * x, 0.2 * y, 0.2 * z], atol=1e-9)
    # Five steps along an axis are as far as three along one and four along another.
    around = [(x + 5, y, z), (x, y - 5, z), (x, y, z + 5), (x + 3, y + 4, z), (x, y - 4, z + 3)]
    np.testing.assert_allclose([carbon.free[point] for point in around], carbon.free[x - 5, y, z], rtol=1e-5)


def test_a_mesh_that_is_too_fine_is_refused(methyl: Structure) -> None:
    chosen = get_engine('pyscf')
    engine = chosen(chosen.parameters('fast'), runtime={'mesh_spacing_ang': 0.005}, density=True)
    with pytest.raises(EvaluationError, match='needs more than 2147483648 points'):
        engine.evaluate(methyl)


def test_energy_that_the_last_diagonalisation_moves_is_no_label() -> None:
    """Boron and nitrogen, 50 Å apart: PySCF calls a state converged that lies hundreds of eV above the free atoms."""
    apart = Structure(np.array([5, 7]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 50.0]]))
    with pytest.raises(EvaluationError, match='after the last iteration moved the energy by') as caught:
        engine('fast').evaluate(apart)
    assert caught.value.code == FailureCode.NOT_CONVERGED
    together = sum(engine('fast').evaluate(Structure(np.array([one]), np.zeros((1, 3)))).energy_ev for one in (5, 7))
    assert together == pytest.approx(-332, abs=1)
