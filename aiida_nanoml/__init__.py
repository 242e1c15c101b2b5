"""Machine learning on nanostructures on top of the AiiDA provenance engine.

``import aiida_nanoml as nm`` gives what is needed most in scripts and notebooks, without AiiDA; each name is imported
when it is used first.

- structures: ``StructureSet``, ``generate_flakes``, ``FlakeParameters``, ``generate_alloys``, ``AlloyParameters``,
  ``read_structures``, ``write_structures``
- labels: ``label_structures``, ``LabelSet``, ``get_engine``
- descriptors: ``make_descriptor``, ``descriptor_names``
- models: ``make_model``, ``MODELS``, ``Dataset``, ``split_rows``, ``save_model``, ``load_model``
- alloys: ``scale_cells``, ``fit_curves``, ``equilibrium_phases``, ``compare_phases``
- densities: ``Density``, ``DensityNetwork``
- transmission: ``make_potential``, ``TransmissionSettings``, ``compute_transmission``
- figures: ``plot_parity``, ``plot_learning_curve``, ``plot_curves``, ``plot_phase_map``, ``plot_density_maps``,
  ``plot_transmission``, ``plot_scan``, ``save_figure``
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = '0.1.0'

_PLACES = {
    'alloys.curves': ('fit_curves',),
    'alloys.phases': ('compare_phases', 'equilibrium_phases'),
    'alloys.plots': ('plot_curves', 'plot_phase_map'),
    'densities': ('Density',),
    'engines': ('get_engine',),
    'engines.label_set': ('LabelSet',),
    'features': ('descriptor_names', 'make_descriptor'),
    'learning.dataset': ('Dataset',),
    'learning.density.network': ('DensityNetwork',),
    'learning.density.plots': ('plot_density_maps',),
    'learning.model_files': ('load_model', 'save_model'),
    'learning.plot_style': ('save_figure',),
    'learning.plots': ('plot_learning_curve', 'plot_parity'),
    'learning.registry': ('MODELS', 'make_model'),
    'learning.splits': ('split_rows',),
    'structures': (
        'AlloyParameters',
        'FlakeParameters',
        'StructureSet',
        'generate_alloys',
        'generate_flakes',
        'read_structures',
        'write_structures',
    ),
    'structures.cubic': ('scale_cells',),
    'transport.plots': ('plot_scan', 'plot_transmission'),
    'transport.presets': ('make_potential',),
    'transport.settings': ('TransmissionSettings',),
    'transport.transmission': ('compute_transmission',),
    'worker.label': ('label_structures',),
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}

__all__ = ['__version__', *sorted(_MODULE_OF)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_MODULE_OF[name]}'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
