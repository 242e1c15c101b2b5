"""Write the pseudopotential that SIESTA uses as upf and psp8 files, so that plane waves compute with it, too.

SIESTA makes local potential and projectors from a psf file itself, and tells them in ``ELEMENT.ion.xml``. Usage:
``python benchmarks/pseudopotentials_from_siesta.py RUN FOLDER``, where RUN holds such files. Files with a partial core
are refused, as are functionals other than the LDA of Ceperley and Alder.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

STEP_BOHR = 0.005
POINTS = 2001


@dataclass(frozen=True)
class Pseudopotential:
    """A local potential and projectors on a linear mesh, in Ry and bohr.

    :param radii: (POINTS,).
    :param local: (POINTS,).
    :param projectors: angular momentum, energy, and radius times function (POINTS,) of each.
    """

    element: str
    number: float
    valence: float
    radii: NDArray[np.float64]
    local: NDArray[np.float64]
    projectors: list[tuple[int, float, NDArray[np.float64]]]

    @property
    def largest_momentum(self) -> int:
        """Largest angular momentum of a projector."""
        return max(momentum for momentum, _, _ in self.projectors)


def text_of(node: ET.Element, tag: str) -> str:
    """Return the text of the first element with a name below a node."""
    found = node.find(f'.//{tag}')
    if found is None or found.text is None:
        raise click.ClickException(f'the ion file has no {tag}')
    return found.text


def sample(node: ET.Element, radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a radial function of an ion file on another mesh; it ends at its cutoff."""
    known, values = np.array(text_of(node, 'data').split(), dtype=float).reshape(-1, 2).T
    return np.where(radii <= known[-1], CubicSpline(known, values)(np.minimum(radii, known[-1])), 0.0)


def read_ion(path: Path) -> Pseudopotential:
    """Read an ion file of SIESTA 4.1."""
    root = ET.parse(path).getroot()  # noqa: S314
    header = text_of(root, 'pseudopotential_header')
    if root.find('core') is not None or ' ca ' not in header:
        raise click.ClickException(f'{path.name} has a partial core or another functional than ca: {header.strip()}')
    radii = np.arange(POINTS) * STEP_BOHR
    valence = float(text_of(root, 'valence'))
    reduced = root.find('reduced_vlocal')
    if reduced is None:
        raise click.ClickException(f'{path.name} has no reduced_vlocal')
    # SIESTA keeps r V + 2 Z, which vanishes far away.
    local = np.empty(POINTS)
    local[1:] = (sample(reduced, radii)[1:] - 2 * valence) / radii[1:]
    local[0] = (4 * local[1] - local[2]) / 3
    projectors = []
    for node in root.iter('projector'):
        momentum = int(node.attrib['l'])
        # Its functions are divided by r to the power of the angular momentum.
        projectors.append((momentum, float(node.attrib['ref_energy']), sample(node, radii) * radii ** (momentum + 1)))
    number = float(text_of(root, 'z'))
    return Pseudopotential(text_of(root, 'symbol').strip(), number, valence, radii, local, projectors)


def upf(potential: Pseudopotential) -> str:
    """Return the text of a upf file, version 2.0.1; the density of the atom is a Gaussian, as it only starts a run."""

    def field(name: str, values: NDArray[np.float64], **attributes: object) -> list[str]:
        rows = [' '.join(f'{value:.14E}' for value in values[i : i + 4]) for i in range(0, len(values), 4)]
        given = ''.join(f' {key}="{value}"' for key, value in attributes.items())
        return [f'<{name} type="real" size="{len(values)}" columns="4"{given}>', *rows, f'</{name}>']

    radii, count = potential.radii, len(potential.projectors)
    density = 4 / np.sqrt(np.pi) * potential.valence * radii**2 * np.exp(-(radii**2))
    lines = [
        '<UPF version="2.0.1">',
        '<PP_INFO>',
        'what SIESTA made of a psf file',
        '</PP_INFO>',
        f'<PP_HEADER generated="SIESTA" author="" date="" comment="" element="{potential.element}" pseudo_type="NC"',
        'relativistic="no" is_ultrasoft="F" is_paw="F" is_coulomb="F" has_so="F" has_wfc="F" has_gipaw="F"',
        'core_correction="F" functional="SLA PZ NOGX NOGC" total_psenergy="0" wfc_cutoff="0" rho_cutoff="0"',
        f'z_valence="{potential.valence}" l_max="{potential.largest_momentum}" l_local="-1" mesh_size="{POINTS}"',
        f'number_of_wfc="0" number_of_proj="{count}"/>',
        f'<PP_MESH mesh="{POINTS}" rmax="{radii[-1]}">',
        *field('PP_R', radii),
        *field('PP_RAB', np.full(POINTS, STEP_BOHR)),
        '</PP_MESH>',
        *field('PP_LOCAL', potential.local),
        '<PP_NONLOCAL>',
    ]
    for index, (momentum, _, function) in enumerate(potential.projectors, start=1):
        end = int(np.flatnonzero(function)[-1]) + 1
        lines += field(f'PP_BETA.{index}', function, index=index, angular_momentum=momentum, cutoff_radius_index=end)
    energies = np.diag([energy for _, energy, _ in potential.projectors]).ravel()
    lines += [
        *field('PP_DIJ', energies),
        '</PP_NONLOCAL>',
        '<PP_PSWFC>',
        '</PP_PSWFC>',
        *field('PP_RHOATOM', density),
        '</UPF>',
    ]
    return '\n'.join(lines) + '\n'


def psp8(potential: Pseudopotential) -> str:
    """Return the text of a psp8 file, which has hartree in place of rydberg."""
    largest = potential.largest_momentum
    momenta = [momentum for momentum, _, _ in potential.projectors]
    lines = [
        f' {potential.element}     what SIESTA made of a psf file',
        f'{potential.number:12.4f}{potential.valence:12.4f}    010101    zatom,zion,pspd',
        f'     8       2   {largest}     {largest + 1}  {POINTS}     0    pspcod,pspxc,lmax,lloc,mmax,r2well',
        ' 10.0  0.0  0.0    rchrg fchrg qchrg',
        ''.join(f'     {momenta.count(momentum)}' for momentum in range(largest + 1)),
        '     0              extension_switch',
    ]
    blocks = [(f'   {momentum}  {energy / 2:.13E}', function) for momentum, energy, function in potential.projectors]
    for title, values in [*blocks, (f'   {largest + 1}', potential.local / 2)]:
        lines.append(title)
        lines += [
            f'{index:6d} {radius:.13E} {value:.13E}'
            for index, (radius, value) in enumerate(zip(potential.radii, values, strict=True), start=1)
        ]
    return '\n'.join(lines) + '\n'


@click.command()
@click.argument('run', type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument('folder', type=click.Path(file_okay=False, path_type=Path))
def main(run: Path, folder: Path) -> None:
    """Write ELEMENT.upf and ELEMENT.psp8 for each ion file of a run of SIESTA."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(run.glob('*.ion.xml')):
        potential = read_ion(path)
        (folder / f'{potential.element}.upf').write_text(upf(potential))
        (folder / f'{potential.element}.psp8').write_text(psp8(potential))


if __name__ == '__main__':
    main()
