"""``aiida-nanoml campaign``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.params import types

from aiida_nanoml.cli.groups import LazyGroup
from aiida_nanoml.cli.launch import run_builder, submit_builder
from aiida_nanoml.cli.options import JSON, NAME, SUBMIT, WALLCLOCK, example, job_options, load_storage
from aiida_nanoml.cli.output import emit, identity_line, record, type_name
from aiida_nanoml.text import aligned

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

    from aiida_nanoml.provenance.campaign import Campaign

COMMANDS = {
    'status': 'aiida_nanoml.cli.campaign:status',
    'resume': 'aiida_nanoml.cli.campaign:resume',
    'retry': 'aiida_nanoml.cli.campaign:retry',
}
SHOWN_JOBS = 10


@click.group('campaign', cls=LazyGroup, lazy=COMMANDS)
def campaign() -> None:
    """Follow the labelling of many structures, and go on with it after a stop."""


class CampaignNode(types.ProcessParamType):  # type: ignore[misc]
    """A process of the command ``label``, by PK, UUID or label."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Load the process."""
        from aiida_nanoml.provenance.campaign import CAMPAIGN

        load_storage()
        node = super().convert(value, param, ctx)
        if node.process_type != CAMPAIGN:
            self.fail(f'{value} is a {type_name(node)}, not a campaign: see `aiida-nanoml campaign status`', param, ctx)
        return node


NODE = click.argument('node', type=CampaignNode())


@click.command(epilog=example('aiida-nanoml campaign status'))
@click.argument('node', type=CampaignNode(), required=False)
@JSON
def status(node: WorkChainNode | None, as_json: bool) -> None:
    """Show what is done, what runs, what failed and why, and how long the rest will take.

    Without NODE, all campaigns are listed.
    """
    from aiida_nanoml.provenance.campaign import campaign_status, campaigns

    load_storage()
    if node is not None:
        _show(campaign_status(node), as_json)
        return
    found = [campaign_status(one) for one in campaigns()]
    rows: list[list[object]] = [['pk', 'label', 'state', 'done', 'running', 'waiting', 'failed']]
    for one in found:
        n_failed = sum(failure.n_structures for failure in one.failures)
        done = f'{one.n_done} of {one.n_structures}'
        rows.append([one.pk, one.label or '-', one.state, done, one.n_running, one.n_waiting, n_failed])
    lines = aligned(rows) if found else 'no campaign yet'
    next_step = f'campaign status {found[0].pk}' if found else 'label STRUCTURES --engine xtb'
    emit(as_json, {'campaigns': [one.to_dict() for one in found]}, lines, next_step)


def _show(found: Campaign, as_json: bool) -> None:
    each = 'unknown' if found.seconds_each is None else f'{found.seconds_each:.1f} s each'
    remaining = 'unknown' if found.remaining_s is None else f'{duration(found.remaining_s)} of computing'
    lines = {
        'campaign': f'{found.label} pk {found.pk}, uuid {found.uuid}'.strip(),
        'state': found.state,
        'labels': found.source or 'none yet',
        'done': f'{found.n_done} of {found.n_structures}, {each}'
        + (f', {found.n_recovered} recovered' if found.n_recovered else ''),
        'running': f'{found.n_running} in {len(found.jobs)} jobs',
        'waiting': found.n_waiting,
        'failed': sum(failure.n_structures for failure in found.failures),
        'remaining': 'nothing' if not found.n_waiting + found.n_running else remaining,
    }
    rows: list[list[object]] = [
        [f'  {failure.code}', failure.n_structures, failure.message] for failure in found.failures
    ]
    rows += [[f'  {job.kind} {job.pk}', job.n_structures, job.state] for job in found.jobs[:SHOWN_JOBS]]
    if len(found.jobs) > SHOWN_JOBS:
        rows.append([f'  and {len(found.jobs) - SHOWN_JOBS} more', '', ''])
    emit(as_json, found.to_dict(), lines, _next_step(found), aligned(rows) if rows else '')


def _next_step(found: Campaign) -> str:
    if not found.ended:
        return f'campaign status {found.pk}'
    if found.n_waiting:
        return f'campaign resume {found.pk}'
    return f'campaign retry {found.pk}' if found.failures else f'trace {found.pk}'


@click.command(epilog=example('aiida-nanoml campaign resume labelling'))
@NODE
@click.option('--max-concurrent', type=click.IntRange(1), help='Jobs at the same time; default: as before.')
@WALLCLOCK
@SUBMIT
@NAME
@JSON
def resume(
    node: WorkChainNode, max_concurrent: int | None, wallclock: int | None, submit: bool, name: str, as_json: bool
) -> None:
    """Label what the campaign NODE, which was killed or failed, left open; failed structures stay as they are."""
    _go_on(node, {'max_concurrent': max_concurrent}, wallclock, submit, name, as_json)


@click.command(epilog=example('aiida-nanoml campaign retry labelling --time-limit 7200'))
@NODE
@click.option('--time-limit', type=click.FloatRange(0, min_open=True), help='Seconds that one structure may take.')
@click.option('--mode', type=click.Choice(['batch', 'single']), help='Batches, or a run for each; default: as before.')
@click.option('--max-concurrent', type=click.IntRange(1), help='Jobs at the same time; default: as before.')
@WALLCLOCK
@SUBMIT
@NAME
@JSON
def retry(
    node: WorkChainNode,
    time_limit: float | None,
    mode: str | None,
    max_concurrent: int | None,
    wallclock: int | None,
    submit: bool,
    name: str,
    as_json: bool,
) -> None:
    """Label the structures that failed in the campaign NODE once more, and those that it left open."""
    changes = {'retry': True, 'time_limit_s': time_limit, 'mode': mode, 'max_concurrent': max_concurrent}
    _go_on(node, changes, wallclock, submit, name, as_json)


def _go_on(
    node: WorkChainNode, changes: dict[str, Any], wallclock: int | None, submit: bool, name: str, as_json: bool
) -> None:
    from aiida_nanoml.provenance.campaign import campaign_status
    from aiida_nanoml.workflows.label import LabelWorkChain

    before = campaign_status(node)
    if not before.ended:
        raise click.ClickException(
            f'the campaign {node.pk} has not ended ({before.state}): it goes on by itself as soon as a daemon runs, '
            '`verdi daemon start`'
        )
    n_failed = sum(failure.n_structures for failure in before.failures)
    if not before.n_waiting and not (n_failed and changes.get('retry')):
        hint = f'; {n_failed} failed: `aiida-nanoml campaign retry {node.pk}`' if n_failed else ''
        raise click.ClickException(f'the campaign {node.pk} has labelled everything{hint}')
    builder = LabelWorkChain.get_builder_to_resume(node)
    for key, value in changes.items():
        if value is not None:
            builder[key] = value
    if wallclock is not None:
        builder.options = builder.options.get_dict() | job_options(wallclock, None)
    name = name or node.label
    if submit:
        submit_builder(builder, name, as_json, 'campaign status')
        return
    builder.metadata.label = name
    process = run_builder(builder)
    after = campaign_status(process)
    labels = process.outputs.labels
    labels.label = name
    structures = node.inputs.structures
    emit(
        as_json,
        record(labels, process=process.uuid, n_done=after.n_done, n_structures=after.n_structures),
        {
            'labels': identity_line(labels),
            'done': f'{after.n_done} of {after.n_structures}, {before.n_done} of them before',
            'failed': sum(failure.n_structures for failure in after.failures),
        },
        f'dataset build {structures.label or structures.pk} --labels {labels.label or labels.pk}',
    )


def duration(seconds: float) -> str:
    """Tell a time span in the unit that people would use."""
    for unit, size in (('d', 86400.0), ('h', 3600.0), ('min', 60.0)):
        if seconds >= 2 * size:
            return f'{seconds / size:.1f} {unit}'
    return f'{seconds:.0f} s'
