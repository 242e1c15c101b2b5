"""Named settings of the gap network."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # Chosen on C-BN flakes labelled with GFN1-xTB; figures in the documentation of the models.
        'fast': MappingProxyType({}),
        'paper': MappingProxyType(
            {
                'hidden_layers': (600, 550, 500, 450, 400, 350, 300, 250, 200, 150, 100, 75, 50, 25),
                'activation': 'relu',
                'output': 'linear',
                'initializer': 'random_uniform',
                'loss': 'mse',
                'learning_rate': 1e-5,
                'schedule': 'constant',
                'batch_size': 100,
                'epochs': 2100,
                'weight_decay': 0.0,
                'members': 1,
                'standardize': False,
                'target_scale_ev': 4.0,
                'early_stopping': False,
            }
        ),
        'transfer': MappingProxyType(
            {
                'hidden_layers': (300, 50, 25),
                'activation': 'relu',
                'output': 'linear',
                'learning_rate': 1e-3,
                'schedule': 'constant',
                'batch_size': 100,
                'epochs': 500,
                'weight_decay': 0.0,
                'members': 1,
                'target_scale_ev': 4.0,
                'early_stopping': False,
            }
        ),
    }
)
"""Hyperparameters of :class:`~aiida_nanoml.learning.gap_network.GapNetwork` by name of preset.

``fast`` are the defaults of the class. ``paper`` is the reference network of the source: 14 layers, uniform initial
weights, no standardisation, learning rate 1e-5. ``transfer`` is the 300-50-25 network of the transfer study; the source
gives only its layers.
"""
