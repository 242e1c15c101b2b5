"""Parser of single runs of SIESTA: the label, and an exit code for each failure."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import ExitCode
from aiida_siesta.parsers.siesta import SiestaParser as AiidaSiestaParser

from aiida_nanoml.calculations.siesta import structure_of_inputs
from aiida_nanoml.data.labels import LabelSetData
from aiida_nanoml.engines.label_set import LabelSource
from aiida_nanoml.engines.siesta.engine import SiestaEngine
from aiida_nanoml.engines.siesta.fdf import read_fdf
from aiida_nanoml.engines.siesta.fdf_recognition import match_protocol, read_parameters
from aiida_nanoml.engines.siesta.output import Run, find_start_failure, read_run, read_version
from aiida_nanoml.errors import EngineError, EvaluationError, FailureCode, StructureError
from aiida_nanoml.parsers.base import SCHEDULER_FAILURES
from aiida_nanoml.structures import StructureSet
from aiida_nanoml.worker.labelled_rows import LabelledRow, tabulate

EXIT_CODES = {
    FailureCode.NOT_CONVERGED: 'SCF_NOT_CONV',
    FailureCode.GEOMETRY_NOT_CONVERGED: 'GEOM_NOT_CONV',
    FailureCode.WALL_TIME: 'ERROR_WALL_TIME',
    FailureCode.OUT_OF_MEMORY: 'ERROR_OUT_OF_MEMORY',
    FailureCode.DISK_FULL: 'ERROR_DISK_FULL',
    FailureCode.TRUNCATED: 'ERROR_OUTPUT_TRUNCATED',
    FailureCode.INCONSISTENT: 'ERROR_OUTPUT_INVALID',
    FailureCode.MISSING_PSEUDOPOTENTIAL: 'ERROR_PSEUDOPOTENTIAL',
    FailureCode.BASIS_ERROR: 'ERROR_BASIS',
    FailureCode.ENGINE_FAILURE: 'ERROR_STOPPED',
    FailureCode.NODE_FAILURE: 'ERROR_NODE_FAILURE',
}
"""Exit code for each failure that the output shows."""


class SiestaParser(AiidaSiestaParser):  # type: ignore[misc]
    """Results as aiida-siesta reads them, and the label; each failure has an exit code, none an exception."""

    def parse(self, **kwargs: Any) -> ExitCode:
        """Read the run twice: for its label or the reason why there is none, and with aiida-siesta."""
        output = self.node.get_option('output_filename')
        text = self._read(output)
        if not text:
            return self.exit_codes.ERROR_OUTPUT_MISSING.format(
                reason=self._last_scheduler_line() or f'{output} is not there'
            )
        failure: EvaluationError | None = None
        run: Run | None = None
        try:
            run = read_run(
                self._read,
                prefix=self.node.get_option('prefix'),
                output=output,
                scheduler_stderr=self._scheduler_stderr(),
            )
        except EvaluationError as error:
            failure = self._prefer_scheduler_failure(error)
        self.logger.logger.addFilter(_without_ions)
        try:
            inherited = super().parse(**kwargs)
        except Exception as error:  # it excepts on files that are cut, and on the fatal messages that it knows
            inherited = self.exit_codes.ERROR_OUTPUT_INVALID.format(
                reason=f'aiida-siesta raised {type(error).__name__}: {error}'
            )
        finally:
            self.logger.logger.removeFilter(_without_ions)
        if not self._moves_atoms():
            self._attach_label(run, failure, text)
        not_started = find_start_failure(text) if 'start' in self._inputs else None
        if not_started:
            return self.exit_codes.ERROR_START.format(reason=not_started)
        return inherited if failure is None else self._exit_code(failure)

    def _prefer_scheduler_failure(self, error: EvaluationError) -> EvaluationError:
        """Prefer the scheduler's reason for an output that ends in the middle."""
        known = SCHEDULER_FAILURES.get(self.node.exit_status)
        return (
            EvaluationError(*known)
            if known and error.code in (FailureCode.TRUNCATED, FailureCode.ENGINE_FAILURE)
            else error
        )

    def _exit_code(self, failure: EvaluationError) -> ExitCode:
        if failure.code == FailureCode.BASIS_ERROR:
            text = self._read(self.node.get_option('output_filename')).lower()
            if 'split_norm' in text:
                return self.exit_codes.SPLIT_NORM
            if 'polarization:' in text:
                return self.exit_codes.BASIS_POLARIZ
        return self.exit_codes[EXIT_CODES[FailureCode(failure.code)]].format(reason=failure.message)

    def _attach_label(self, run: Run | None, failure: EvaluationError | None, text: str) -> None:
        version = run.version if run is not None else read_version(text)
        source = self._source(version) if version else None
        if source is None:
            return
        recovery = self.node.get_option('recovery')
        if run is not None:
            row = LabelledRow.from_label(run.label, run.wall_s, f'recovered: {recovery}' if recovery else '')
        elif failure is not None:
            tried = f' (after: {recovery})' if recovery else ''
            row = LabelledRow.from_error(EvaluationError(failure.code, failure.message + tried))
        structures = StructureSet.from_structures([structure_of_inputs(self._inputs['structure'])])
        self.out('labels', LabelSetData(tabulate(source, structures, {0: row})))

    def _source(self, version: str) -> LabelSource | None:
        """Return what made the label: the source in the inputs, or else what the input file amounts to."""
        inputs = self._inputs
        if 'source' in inputs:
            content = inputs['source'].get_dict()
            protocol = content['protocol']
            settings = SiestaEngine.Parameters.model_validate(content['parameters'])
        else:
            try:
                settings = read_parameters(read_fdf(self._input()))
            except (EngineError, StructureError) as error:
                self.logger.warning(f'there is no label, since the input is not one of the engine siesta: {error}')
                return None
            protocol = match_protocol(settings)
        symbols = {kind.name: kind.symbol for kind in inputs['structure'].kinds}
        pseudos = inputs.get('pseudos', {})
        return LabelSource(
            engine=SiestaEngine.name,
            version=version,
            title=SiestaEngine(settings).method,
            protocol=protocol,
            parameters=settings.model_dump(),
            pseudopotentials={symbols[name]: node.md5 for name, node in pseudos.items() if name in symbols},
        )

    def _moves_atoms(self) -> bool:
        """Return whether the run relaxes: its label would belong to another geometry than the one given."""
        if 'remote_folder' in self._inputs:  # the importer takes no runs that move atoms
            return False
        return read_fdf(self._input()).get('MD.TypeOfRun') is not None

    def _input(self) -> str:
        name = self.node.get_option('input_filename')
        if 'remote_folder' in self._inputs:  # an imported run has the input that it was made with
            return self._read(name)
        content: str = self.node.base.repository.get_object_content(name)
        return content

    @cached_property
    def retrieved(self) -> orm.FolderData:
        """The files of the run; AiiDA asks the graph for the node at every use."""
        return super().retrieved

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        """All inputs; AiiDA asks the graph at every look at one."""
        inputs: dict[str, Any] = self.node.base.links.get_incoming(link_type=LinkType.INPUT_CALC).nested()
        return inputs

    def _read(self, name: str) -> str:
        try:
            content: bytes = self.retrieved.base.repository.get_object_content(name, mode='rb')
        except FileNotFoundError:
            return ''
        return content.decode('utf-8', errors='replace')

    def _scheduler_stderr(self) -> str:
        return self._read(self.node.get_option('scheduler_stderr') or '_scheduler-stderr.txt')

    def _last_scheduler_line(self) -> str:
        lines = [line.strip() for line in self._scheduler_stderr().splitlines() if line.strip()]
        return lines[-1][:200] if lines else ''


def _without_ions(record: logging.LogRecord) -> bool:
    """Drop the warnings that files are missing which are not retrieved on purpose: each would be stored."""
    return 'no ion file retrieved' not in record.getMessage()
