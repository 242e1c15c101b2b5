"""Write the features and targets of a data set to text files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_nanoml.actions.base import FileAction, Result, record
from aiida_nanoml.actions.common import TARGET_SCALE
from aiida_nanoml.actions.fields import OUTPUT, DatasetNode, argument, option, output_option
from aiida_nanoml.actions.session import Session

if TYPE_CHECKING:
    from aiida_nanoml.data.dataset import DatasetData


class ExportDataset(FileAction):
    """Write the features of NODE to x.dat and its targets, those of the main one, to y.dat."""

    action: ClassVar[str] = 'export_dataset'
    command: ClassVar[tuple[str, ...]] = ('dataset', 'export')
    example: ClassVar[str] = 'aiida-nanoml dataset export gaps -o .'

    node: DatasetNode = argument('Data set to export.')
    output: Path = output_option('Folder for x.dat, y.dat.', required=True, exists='new folder')
    target_scale: float = option(
        TARGET_SCALE, 'y.dat holds the target divided by this, for gaps in eV.', gt=0, group=OUTPUT
    )

    def perform(self, session: Session) -> Result:
        """Write both files."""
        from aiida_nanoml.learning.exchange import write_xy

        node = self.load('node')
        self.output.mkdir(parents=True, exist_ok=True)
        paths = [self.output / 'x.dat', self.output / 'y.dat']
        for path in paths:
            self.check_overwriting(path)
        rows = node.dataset
        write_xy(paths[0], paths[1], rows.X, rows.y, self.target_scale)
        return ExportDatasetResult(node, tuple(paths))


@dataclass(frozen=True)
class ExportDatasetResult(Result):
    """Files with the rows of a data set.

    :param dataset: what was exported.
    :param files: files that were written.
    """

    dataset: DatasetData
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the shape and the files."""
        n_rows, n_features = self.dataset.dataset.X.shape
        return record(self.dataset, n_rows=n_rows, n_features=n_features, files=[str(path) for path in self.files])

    def lines(self) -> dict[str, object]:
        """Return the shape and the files."""
        n_rows, n_features = self.dataset.dataset.X.shape
        return {'rows': n_rows, 'features': n_features, 'files': ' '.join(map(str, self.files))}
