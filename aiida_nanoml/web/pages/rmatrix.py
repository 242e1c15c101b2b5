"""Pages of R-MATRIX: a text or a file is computed, and shown as V(x) and T(E) with its resonances."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from aiida_nanoml.errors import TransportError
from aiida_nanoml.transport.files import EXAMPLE, TransmissionInput, parse_input, read_input
from aiida_nanoml.transport.memory import transmission_memory_mb
from aiida_nanoml.transport.settings import TransmissionSettings
from aiida_nanoml.web.applications import RMATRIX
from aiida_nanoml.web.charts import Floats, LineChart, line_chart
from aiida_nanoml.web.errors import PageError
from aiida_nanoml.web.files import UserFileError
from aiida_nanoml.web.guard import FORM_BYTES
from aiida_nanoml.web.pages.actions import command_of, find_action, summaries
from aiida_nanoml.web.pages.runs import wait_briefly
from aiida_nanoml.web.runs import Run
from aiida_nanoml.web.site import Site, attachment

LARGEST_MB = 300
"""Memory beyond which a transmission is a job of the profile, with its limits: some 1,500 cosines."""

ACTION = 'rmatrix'
_RESONANCE = re.compile(r'# resonance: (\S+) eV, width (\S+) eV')


@dataclass(frozen=True)
class Computed:
    """What the text file of a transmission holds.

    :param energies: (n,) in eV.
    :param values: (n,) probabilities.
    :param resonances: energy and width of each, in eV.
    """

    energies: Floats
    values: Floats
    resonances: Sequence[tuple[float, float]]

    def charts(self, source: TransmissionInput, *, logarithmic: bool) -> list[LineChart]:
        """Return V(x) of the input, and T(E) with the resonances."""
        potential = source.potential
        marks = [(energy, f'resonance at {energy:.6g} eV, width {width:.3g} eV') for energy, width in self.resonances]
        return [
            line_chart('Potential V(x)', ('x (nm)', potential.edges), ('V (eV)', potential.values), steps=True),
            line_chart(
                f'Transmission T(E) with {len(marks)} resonances',
                ('E (eV)', self.energies),
                ('T', self.values),
                marks,
                logarithmic=logarithmic,
            ),
        ]


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes, below those of the application."""

    async def show_example(request: Request) -> Response:
        return _page(site, request, EXAMPLE.read_text(encoding='utf-8'))

    async def compute(request: Request, form: FormData) -> Response:
        try:
            content = await _content(form)
            source = await asyncio.to_thread(parse_input, content)
        except (TransportError, PageError) as error:
            text = form.get('text')
            return _page(site, request, text if isinstance(text, str) else '', 422, error=str(error), form=form)
        base = f'rmatrix-{time.strftime("%Y%m%d-%H%M%S", time.gmtime())}-{secrets.token_hex(3)}'
        try:
            await site.files.write(f'{base}.txt', _once(content))
        except UserFileError as error:
            return _page(site, request, content.decode(), 422, error=str(error), form=form)
        settings = TransmissionSettings.from_dict(source.settings)
        needed = transmission_memory_mb(source.potential, settings.n_basis, settings.correction, settings.n_energies)
        stored = form.get('store') == 'true' or needed > LARGEST_MB
        filled = [('source', f'{base}.txt'), ('output', f'{base}.T.txt'), ('plot', f'{base}.png')]
        filled += [] if stored else [('no_store', 'true')]
        filled += [('resolve', 'true')] if form.get('resolve') == 'true' else []
        name = site.runs.create(ACTION, filled, estimates=False)
        await site.begin(name)
        return RedirectResponse(f'/applications/rmatrix/results/{name}', status_code=303)

    async def show_result(request: Request) -> Response:
        run = _of_ours(await wait_briefly(site, request.path_params['name']))
        return await asyncio.to_thread(_result_page, site, request, run)

    async def table(request: Request) -> Response:
        run = _of_ours(site.runs.read(request.path_params['name']))
        found = await asyncio.to_thread(_read_result, site, run)
        if found is None:
            raise PageError(404, 'this run has no transmission')
        rows = zip(found.energies.tolist(), found.values.tolist(), strict=True)
        text = ''.join(['E_eV,T\n', *(f'{energy!r},{value!r}\n' for energy, value in rows)])
        return Response(text, media_type='text/csv', headers=attachment('transmission.csv'))

    return [
        Route('/', show_example),
        site.change('/compute', compute),
        Route('/results/{name}', show_result),
        Route('/results/{name}/transmission.csv', table),
    ]


def _page(
    site: Site,
    request: Request,
    text: str,
    status: int = 200,
    *,
    error: str = '',
    form: FormData | None = None,
    **context: object,
) -> Response:
    filled: FormData | dict[str, str] = form or {}
    return site.page(
        request,
        'rmatrix',
        status,
        text=text,
        error=error,
        largest_mb=LARGEST_MB,
        actions=summaries(RMATRIX.actions),
        **({'run': None, 'store': filled.get('store') == 'true', 'resolve': filled.get('resolve') == 'true'} | context),
    )


def _result_page(site: Site, request: Request, run: Run) -> Response:
    given = dict(run.form)
    try:
        with site.files.open(given['source']) as handle:
            text = handle.read(FORM_BYTES).decode('utf-8', 'replace')
        source = read_input(site.files.root / given['source'])
    except (UserFileError, TransportError) as error:
        return _page(site, request, '', error=f'the input of this run is not there any more: {error}')
    found = _read_result(site, run)
    scale = request.query_params.get('scale')
    logarithmic = scale == 'log' or (scale is None and found is not None and float(np.median(found.values)) < 1e-3)
    return _page(
        site,
        request,
        text,
        run=run,
        store='no_store' not in given,
        resolve='resolve' in given,
        charts=[] if found is None else found.charts(source, logarithmic=logarithmic),
        logarithmic=logarithmic,
        result=given['output'],
        figure=given['plot'],
        command=command_of(site, find_action(ACTION), run.form),
    )


def _of_ours(run: Run) -> Run:
    """Check that a run is one of this page.

    :raises PageError: it is another one.
    """
    if run.action != ACTION or run.estimates or not {'source', 'output', 'plot'} <= dict(run.form).keys():
        raise PageError(404, f'{run.name} is no transmission of this page: see its own page, /runs/{run.name}')
    return run


def _read_result(site: Site, run: Run) -> Computed | None:
    """Return what a run wrote; None: nothing yet, or it was deleted."""
    if run.state != 'done':
        return None
    try:
        with site.files.open(dict(run.form)['output']) as handle:
            lines = handle.read().decode().splitlines()
    except UserFileError:
        return None
    energies, values = np.array([line.split() for line in lines if not line.startswith('#')], dtype=np.float64).T
    marks = [found.groups() for line in lines if (found := _RESONANCE.fullmatch(line))]
    return Computed(energies, values, [(float(energy), float(width)) for energy, width in marks])


async def _content(form: FormData) -> bytes:
    """Return the input that was sent: the file if there is one.

    :raises PageError: there is none, or it is too large.
    """
    file, text = form.get('file'), form.get('text')
    if isinstance(file, UploadFile) and file.filename:
        content = await file.read(FORM_BYTES + 1)
        if len(content) > FORM_BYTES:
            most = f'{FORM_BYTES // 10**6} MB'
            raise PageError(
                413, f'{file.filename} is larger than {most}: upload it to your files, and use the form rmatrix'
            )
        return content
    if isinstance(text, str) and text.strip():
        return text.replace('\r\n', '\n').encode()
    raise PageError(422, 'there is no input: write one, or choose a file')


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
