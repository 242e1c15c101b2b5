"""Machine learning on nanostructures on top of the AiiDA provenance engine.

``import aiida_nanoml as nm`` gives what is needed most in scripts and notebooks, without AiiDA; each name is imported
when it is used first.

- structures: ``StructureSet``, ``generate_flakes``, ``FlakeParameters``, ``generate_alloys``, ``AlloyParameters``,
  ``read_structures``, ``write_structures``
- labels: ``get_engine``, ``LabelSet``
- descriptors: ``make_descriptor``, ``descriptor_names``
- models: ``make_model``, ``MODELS``, ``Dataset``, ``save_model``, ``load_model``
- transmission: ``make_potential``, ``TransmissionSettings``, ``compute_transmission``
- figures: ``plot_parity``, ``plot_learning_curve``, ``plot_transmission``
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = '0.1.0'

_PLACES = {
    'structures': (
        'AlloyParameters',
        'FlakeParameters',
        'StructureSet',
        'generate_alloys',
        'generate_flakes',
        'read_structures',
        'write_structures',
    ),
    'engines': ('get_engine',),
    'engines.label_set': ('LabelSet',),
    'features': ('descriptor_names', 'make_descriptor'),
    'learning.dataset': ('Dataset',),
    'learning.model_files': ('load_model', 'save_model'),
    'learning.plots': ('plot_learning_curve', 'plot_parity'),
    'learning.registry': ('MODELS', 'make_model'),
    'transport.plots': ('plot_transmission',),
    'transport.presets': ('make_potential',),
    'transport.settings': ('TransmissionSettings',),
    'transport.transmission': ('compute_transmission',),
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}

__all__ = ['__version__', *sorted(_MODULE_OF)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_MODULE_OF[name]}'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
