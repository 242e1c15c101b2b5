"""Single runs of SIESTA: real output through the stand-in, each failure to its cure or its final code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node

from aiida_nanoml.calculations.functions.siesta import node_of_structure, place_structures
from aiida_nanoml.data.structures import StructureSetData
from aiida_nanoml.engines.label_set import LabelSet
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.workflows.siesta import SiestaWorkChain, scf_residuals, shared
from tests.stand_in.fixtures import RecordedRun, recorded_runs

RUNS = recorded_runs()
FLAKES = recorded_runs('flake')
COARSE = {'mesh_cutoff_ry': 100.0}


@pytest.fixture
def start(siesta_code, siesta_pseudos: dict[str, orm.SinglefileData]):
    """Make a builder for the structure of a recorded run."""

    def make(run: RecordedRun, overrides: dict[str, Any] | None = None, **kwargs: Any):
        return SiestaWorkChain.get_builder_from_protocol(
            kwargs.pop('code', siesta_code),
            node_of_structure(run.structure),
            pseudos=siesta_pseudos,
            overrides=overrides,
            **kwargs,
        )

    return make


def finish(builder) -> tuple[dict[str, Any], orm.WorkChainNode]:
    outputs, node = run_get_node(builder)
    return outputs, node


def label_of(node: orm.WorkChainNode) -> LabelSet:
    return node.outputs.labels.labels


def codes(node: orm.WorkChainNode) -> list[int]:
    return [call.exit_status for call in sorted(node.called, key=lambda called: called.pk)]


def test_a_flake_gets_the_recorded_label(start) -> None:
    run = FLAKES['h-0000']
    _, node = finish(start(run))
    assert (node.exit_status, codes(node)) == (0, [0])
    labels = label_of(node)
    assert labels.energies['gap_ev'][0] == pytest.approx(run.about['gap_ev'], abs=1e-6)
    assert labels.energies['homo_ev'][0] == pytest.approx(run.about['homo_ev'], abs=1e-6)
    assert labels.messages[0] == ''
