"""Write a network as one file."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import FileAction, Result, record
from aiida_nanoml.actions.describe import source_line
from aiida_nanoml.actions.fields import ModelNode, argument, output_option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.data.model import ModelData


class ExportModel(FileAction):
    """Write the network NODE as one file that maps raw features to its targets in their units.

    Of a model with a baseline, the last feature is the baseline, and the answer the correction to it.
    """

    action: ClassVar[str] = 'export_model'
    command: ClassVar[tuple[str, ...]] = ('model', 'export')
    example: ClassVar[str] = 'aiida-nanoml model export gap-model -o cbn_trained_model.h5'

    node: ModelNode = argument('Network to export.')
    output: Path = output_option('File to write: .keras, or .h5 for legacy HDF5.', required=True)

    def perform(self, session: Session) -> Result:
        """Write the file."""
        from aiida_nanoml.learning.model_files import export_model

        node = self.load('node')
        self.check_overwriting(self.output)
        with tempfile.TemporaryDirectory() as folder:
            node.base.repository.copy_tree(Path(folder))
            export_model(folder, self.output)
        return ExportModelResult(node, self.output)


@dataclass(frozen=True)
class ExportModelResult(Result):
    """A file with a network.

    :param model: what was exported.
    :param file: file that was written.
    """

    model: ModelData
    file: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the file, what it answers, and its features in order."""
        card = self.model.card
        return record(
            self.model,
            file=str(self.file),
            answer=self._answer(),
            unit=card.unit,
            others=card.others,
            baseline=card.baseline,
            feature_names=card.feature_names or [],
        )

    def lines(self) -> dict[str, object]:
        """Return the file, what it answers, and the number of features."""
        card = self.model.card
        answers = {self._answer(): card.unit, **card.others}
        return {
            'file': self.file,
            'answers': '; '.join(f'{name}, in {unit}' for name, unit in answers.items()),
            'features': f'{len(card.feature_names or [])}, raw',
        }

    def _answer(self) -> str:
        card = self.model.card
        return f'correction to {source_line(card.baseline)}' if card.baseline else str(card.target)
