from __future__ import annotations

import pytest

from aiida_nanoml.engines import Engine, get_engine
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
