"""Source of labels and densities in the attributes of a node."""

from __future__ import annotations

from typing import Any

from aiida_nanoml.engines.label_set import LabelSource


class LabelSourceMixin:
    """Property ``label_source`` of a node that has the attributes of :func:`source_attributes`."""

    base: Any

    @property
    def label_source(self) -> LabelSource:
        """Engine, version, protocol, parameters and pseudopotentials."""
        attributes = self.base.attributes
        return LabelSource(
            engine=attributes.get('engine'),
            version=attributes.get('engine_version'),
            title=attributes.get('engine_title'),
            protocol=attributes.get('protocol'),
            parameters=attributes.get('parameters'),
            # Nodes from before there were engines with pseudopotentials do not have them.
            pseudopotentials=attributes.get('pseudopotentials', {}),
        )


def source_attributes(source: LabelSource) -> dict[str, Any]:
    """Return the attributes of a node that hold a source."""
    return {
        'engine': source.engine,
        'engine_version': source.version,
        'engine_title': source.title,
        'protocol': source.protocol,
        'parameters': dict(source.parameters),
        'pseudopotentials': dict(source.pseudopotentials),
    }
