"""The errors that this package raises on purpose: each says what was wrong, where, and what to do."""

from __future__ import annotations

from enum import StrEnum


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


class DatasetTypeError(DatasetError, TypeError):
    """A data set holds something that is no number: for scikit-learn an error of the type."""


class ModelError(NanomlError):
    """A model is unknown, corrupt, not trained, or applied to features that it was not trained on."""


class EngineError(NanomlError):
    """An engine is unknown or not installed, or its parameters are wrong."""


class ProvenanceError(NanomlError):
    """A node has no provenance of the kind that was asked for, or a part of it is missing or too old to be read."""


class FailureCode(StrEnum):
    """Why there is no label: the status of a row in journals and label sets, the reason why a run is not imported.

    The values are stored. A code belongs to exactly one of the groups :data:`REFUSED`, :data:`MACHINE`, :data:`RUN` and
    :data:`IMPORT`. Engines of other packages may use codes of their own.
    """

    INVALID_STRUCTURE = 'invalid_structure'
    UNSUPPORTED_ELEMENT = 'unsupported_element'
    PERIODIC_UNSUPPORTED = 'periodic_unsupported'
    ATOMS_TOO_CLOSE = 'atoms_too_close'
    TOO_LITTLE_VACUUM = 'too_little_vacuum'
    MISSING_PSEUDOPOTENTIAL = 'missing_pseudopotential'
    WRONG_PSEUDOPOTENTIAL = 'wrong_pseudopotential'

    INTERRUPTED = 'interrupted'
    TIME_LIMIT = 'time_limit'
    ENGINE_CRASH = 'engine_crash'

    NOT_CONVERGED = 'not_converged'
    GEOMETRY_NOT_CONVERGED = 'geometry_not_converged'
    BASIS_ERROR = 'basis_error'
    ENGINE_FAILURE = 'engine_failure'
    WALL_TIME = 'wall_time'
    OUT_OF_MEMORY = 'out_of_memory'
    DISK_FULL = 'disk_full'
    TRUNCATED = 'truncated'
    INCONSISTENT = 'inconsistent'
    CONTRADICTED = 'contradicted'
    NODE_FAILURE = 'node_failure'

    UNREADABLE = 'unreadable'
    OUTSIDE = 'outside'
    NO_INPUT = 'no_input'
    NO_OUTPUT = 'no_output'
    NO_XML = 'no_xml'
    NO_DENSITY = 'no_density'
    AMBIGUOUS = 'ambiguous'
    INPUT_REFUSED = 'input_refused'
    INPUT_CHANGED = 'input_changed'
    VACUUM = 'vacuum'
    PSEUDOPOTENTIAL = 'pseudopotential'


REFUSED = frozenset(
    {
        FailureCode.INVALID_STRUCTURE,
        FailureCode.UNSUPPORTED_ELEMENT,
        FailureCode.PERIODIC_UNSUPPORTED,
        FailureCode.ATOMS_TOO_CLOSE,
        FailureCode.TOO_LITTLE_VACUUM,
        FailureCode.MISSING_PSEUDOPOTENTIAL,
        FailureCode.WRONG_PSEUDOPOTENTIAL,
    }
)
"""The input was refused before anything ran: to try it again is useless."""

MACHINE = frozenset({FailureCode.INTERRUPTED, FailureCode.TIME_LIMIT, FailureCode.ENGINE_CRASH})
"""The worker was stopped, or the process of the engine died or took too long: the row is labelled again."""

RUN = frozenset(
    {
        FailureCode.NOT_CONVERGED,
        FailureCode.GEOMETRY_NOT_CONVERGED,
        FailureCode.BASIS_ERROR,
        FailureCode.ENGINE_FAILURE,
        FailureCode.WALL_TIME,
        FailureCode.OUT_OF_MEMORY,
        FailureCode.DISK_FULL,
        FailureCode.TRUNCATED,
        FailureCode.INCONSISTENT,
        FailureCode.CONTRADICTED,
        FailureCode.NODE_FAILURE,
    }
)
"""The engine ran and gave no label: the same run fails again, other settings or more resources may help."""

IMPORT = frozenset(
    {
        FailureCode.UNREADABLE,
        FailureCode.OUTSIDE,
        FailureCode.NO_INPUT,
        FailureCode.NO_OUTPUT,
        FailureCode.NO_XML,
        FailureCode.NO_DENSITY,
        FailureCode.AMBIGUOUS,
        FailureCode.INPUT_REFUSED,
        FailureCode.INPUT_CHANGED,
        FailureCode.VACUUM,
        FailureCode.PSEUDOPOTENTIAL,
    }
)
"""A folder with a run cannot be imported."""


class EvaluationError(Exception):
    """One structure could not be evaluated; the rest of a batch continues.

    :param code: a :class:`FailureCode`, or a short stable identifier of another package's engine.
    :param message: one sentence for the user.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f'{code}: {message}')
        self.code = str(code)
        self.message = message

    def __reduce__(self) -> tuple[type[EvaluationError], tuple[str, str]]:
        # Without it, an error raised in a worker process could not be rebuilt from its single formatted argument.
        return type(self), (self.code, self.message)
