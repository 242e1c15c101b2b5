"""The errors that this package raises on purpose: each says what was wrong, where, and what to do."""

from __future__ import annotations


class NanomlError(ValueError):
    """Root of the errors caused by input that cannot be used."""


class StructureError(NanomlError):
    """A structure, a set of structures or a request for structures is not physical or not readable."""


class AlloyError(NanomlError):
    """A lattice scan of alloys cannot be evaluated, or two scans cannot be compared."""


class TransportError(NanomlError):
    """A potential, a file of one, or a request for its transmission cannot be used."""


class DensityError(NanomlError):
    """A density, a mesh, or a file of one cannot be used, or a network does not fit it."""


class DescriptorError(NanomlError):
    """A descriptor cannot describe a structure, or features of two descriptors are mixed."""


class DatasetError(NanomlError):
    """A data set is malformed: shapes, NaN, units, duplicates, mixed engines or protocols."""


class ModelError(NanomlError):
    """A model is unknown, corrupt, not trained, or applied to features that it was not trained on."""


class EngineError(NanomlError):
    """An engine is unknown or not installed, or its parameters are wrong."""


class ProvenanceError(NanomlError):
    """A node has no provenance of the kind that was asked for, or a part of it is missing or too old to be read."""


class EvaluationError(Exception):
    """One structure could not be evaluated; the rest of a batch goes on.

    :param code: short stable identifier, for example ``'not_converged'``.
    :param message: one sentence for the user.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f'{code}: {message}')
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[EvaluationError], tuple[str, str]]:
        # Without it, an error raised in a worker process could not be rebuilt from its single formatted argument.
        return type(self), (self.code, self.message)
