from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import ase.io
import numpy as np
import pytest

from aiida_nanoml.engines import get_engine
from aiida_nanoml.structures import Structure

FLAKES = Path(__file__).parent / 'data' / 'siesta_flakes.extxyz'


def test_gaps_follow_siesta() -> None:
    """Twelve C-BN flakes whose gaps a real SIESTA 4.1 computed (LDA-CA, DZP, Troullier-Martins pseudopotentials)."""
    chosen = get_engine('xtb')
    engine = chosen(chosen.parameters())
    flakes = ase.io.read(FLAKES, ':')
    recorded = np.array([flake.info['siesta_gap_ev'] for flake in flakes])
    labels = [engine.evaluate(Structure(flake.numbers, flake.positions)) for flake in flakes]
    gaps = np.array([label.gap_ev for label in labels])
    assert np.corrcoef(recorded, gaps)[0, 1] ** 2 > 0.95
    assert np.abs(gaps - recorded).mean() < 0.2
    valence = {1: 1, 5: 3, 6: 4, 7: 5}
    assert [label.n_electrons for label in labels] == [sum(valence[z] for z in flake.numbers) for flake in flakes]


def test_protocols_differ_in_accuracy_only(coronene: Structure) -> None:
    chosen = get_engine('xtb')
    gaps = {
        protocol: chosen(chosen.parameters(protocol)).evaluate(coronene).gap_ev
        for protocol in ('fast', 'balanced', 'stringent')
    }
    assert gaps['fast'] == pytest.approx(gaps['stringent'], abs=1e-3)
    assert gaps['balanced'] == pytest.approx(gaps['stringent'], abs=1e-4)


def test_hamiltonian_is_named_with_the_label(benzene: Structure) -> None:
    chosen = get_engine('xtb')
    first, second = (chosen(chosen.parameters('balanced', {'method': name})) for name in ('GFN1-xTB', 'GFN2-xTB'))
    assert (first.method, second.method) == ('GFN1-xTB (tblite)', 'GFN2-xTB (tblite)')
    assert abs(first.evaluate(benzene).energy_ev - second.evaluate(benzene).energy_ev) > 0.1


def test_an_engine_travels_to_another_process(benzene: Structure) -> None:
    chosen = get_engine('xtb')
    engine = chosen(chosen.parameters('fast'))
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        label = pool.submit(engine.evaluate, benzene).result(timeout=120)
    assert label == engine.evaluate(benzene)
