"""``aiida-nanoml quickstart``: the main job from nothing to predictions with provenance."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from aiida_nanoml.cli import quickstart_siesta
from aiida_nanoml.cli.output import metric_table, note
from aiida_nanoml.text import aligned

PROFILE = 'nanoml-quickstart'
FLAKES = {
    'h': {'family': 'h', 'size': 2},
    's': {'family': 's', 'size': [9, 6]},
}
SEED = 2026
SUMMARY_FILE = 'summary.json'
ACTIVATE_FILE = 'activate'


@click.command('quickstart')
@click.option(
    '--folder',
    type=click.Path(file_okay=False, path_type=Path),
    default=Path('quickstart'),
    show_default=True,
    help='Holds the AiiDA profile, the figures and the summary.',
)
@click.option('--count', type=click.IntRange(min=20), default=300, show_default=True, help='Flakes of each family.')
@click.option('--unseen', type=click.IntRange(min=1), default=10, show_default=True, help='Flakes of each to predict.')
@click.option('--engine', default='xtb', show_default=True, help='Engine that labels the flakes.')
@click.option('--protocol', default='balanced', show_default=True, help='fast, balanced or stringent.')
@click.option('--jobs', type=click.IntRange(min=1), help='Jobs at the same time.  [default: the number of cores]')
@click.option(
    '--fresh', is_flag=True, help='Do not follow an unfinished run: submit anew, with what is finished cached.'
)
@click.option(
    '--siesta/--no-siesta',
    'with_siesta',
    default=True,
    show_default=True,
    help='Go on to gaps of recorded SIESTA runs.',
)
@click.option('--json', 'as_json', is_flag=True, help='Print the summary as one JSON object.')
def quickstart(
    folder: Path,
    count: int,
    unseen: int,
    engine: str,
    protocol: str,
    jobs: int | None,
    fresh: bool,
    with_siesta: bool,
    as_json: bool,
) -> None:
    """Run the main job in a profile of its own: flakes, labels, features, network, predictions, provenance.

    Then the starter data, gaps of SIESTA, are learnt: alone, and as a correction to the engine of the first part. Your
    own AiiDA profiles are not touched. Interrupted, it goes on from what is stored; run again, it answers from the
    cache.

    \b
    Example:
        aiida-nanoml quickstart --count 40 --folder trial
    """
    folder = folder.absolute()
    _enter(folder)
    start = time.monotonic()
    from aiida import load_profile

    from aiida_nanoml.actions.installation import make_profile, start_daemon, stop_daemon
    from aiida_nanoml.calculations.local_worker import make_code, make_localhost
    from aiida_nanoml.cli.progress import follow

    profile = load_profile(make_profile(PROFILE).name)
    code = make_code(make_localhost())
    _write_activation(folder)
    started = start_daemon(profile)
    note(f'profile {PROFILE} in {folder} (SQLite, ZeroMQ), daemon {"started" if started else "is running"}')
    request = {'count': count, 'unseen': unseen, 'engine': engine, 'protocol': protocol}
    process = None if fresh else _unfinished(request)
    attached = process is not None
    jobs = jobs or len(os.sched_getaffinity(0))
    if process is None:
        process = _submit(code, request, jobs)
    note(
        f'{"following the unfinished" if attached else "submitted"} GapWorkChain<{process.pk}>: {count} + {unseen} '
        f'flakes of each of {", ".join(FLAKES)}, engine {engine}, protocol {protocol}'
    )
    second = None
    try:
        follow(process)
        if with_siesta and process.is_finished_ok:
            second = quickstart_siesta.learn_from_siesta(request, code, process, jobs)
    except KeyboardInterrupt:
        note('\ninterrupted: the daemon goes on with the work. Run the same command again to follow it,')
        note(f'or stop it: source {_relative(folder / ACTIVATE_FILE)} && verdi daemon stop')
        raise SystemExit(130) from None
    stop_daemon(profile)
    if not process.is_finished_ok:
        reason = process.exit_message or process.exception or 'it was killed'
        raise click.ClickException(
            f'GapWorkChain<{process.pk}> failed: {reason}\n'
            f'What was finished is kept. Look: source {_relative(folder / ACTIVATE_FILE)} && verdi process report '
            f'{process.pk}; then run the same command again.'
        )
    summary = _summarise(process, folder)
    if second is not None:
        summary['siesta'] = quickstart_siesta.summarise(second, folder)
    summary['nodes'] = _count_nodes()
    summary['wall_s'] = round(time.monotonic() - start, 1)
    (folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    if as_json:
        click.echo(json.dumps(summary))
    else:
        _report(process, summary)
        if second is not None:
            quickstart_siesta.report(second, summary['siesta'])
        _report_end(folder, summary)


def _enter(folder: Path) -> None:
    """Go on in an environment in which AiiDA sees only the folder of the quickstart.

    AiiDA reads these variables when it is imported, so that the program is started anew where they differ.
    """
    from aiida_nanoml.actions.installation import daemon_environment

    if os.pathsep in str(folder):
        raise click.ClickException(
            f'the path {folder} has a {os.pathsep!r}, which AiiDA cannot read: use another --folder'
        )
    folder.mkdir(parents=True, exist_ok=True)
    inside = os.environ.get('AIIDA_PATH') == str(folder) and os.environ.get('NANOML_QUICKSTART') == str(os.getpid())
    if not inside:
        environment = daemon_environment(folder) | {'NANOML_QUICKSTART': str(os.getpid())}
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)  # noqa: S606


def _unfinished(request: dict[str, Any]) -> Any:
    """Return the process of the same request that has not ended, or None."""
    from aiida import orm

    query = orm.QueryBuilder().append(
        orm.WorkChainNode,
        filters={
            'process_type': 'aiida.workflows:nanoml.gap',
            'description': json.dumps(request),
            'attributes.process_state': {'in': ['created', 'running', 'waiting']},
        },
        tag='process',
    )
    return query.order_by({'process': {'ctime': 'desc'}}).first(flat=True)


def _submit(code: Any, request: dict[str, Any], jobs: int) -> Any:
    from aiida.engine import submit
    from aiida.plugins import WorkflowFactory

    workflow = WorkflowFactory('nanoml.gap')
    flakes = {name: FLAKES[name] | {'count': request['count'], 'seed': SEED} for name in FLAKES}
    total = request['count'] * len(FLAKES)
    # Two rounds of jobs on every core: small enough to share the work evenly, large enough to start seldom.
    batch_size = -(-total // (2 * jobs))
    builder = workflow.get_builder_from_protocol(
        code,
        flakes=flakes,
        engine=request['engine'],
        protocol=request['protocol'],
        overrides={
            'n_unseen': request['unseen'],
            'label': {'batch_size': batch_size, 'max_concurrent': 2 * jobs},
        },
    )
    builder.metadata.label = 'quickstart'
    builder.metadata.description = json.dumps(request)  # by which a later call finds it
    return submit(builder)


def _summarise(process: Any, folder: Path) -> dict[str, Any]:
    from aiida import orm

    outputs = process.outputs
    for name in outputs.figures.base.repository.list_object_names():
        with outputs.figures.base.repository.open(name, 'rb') as source, (folder / name).open('wb') as target:
            shutil.copyfileobj(source, target)
    metrics = outputs.metrics.get_dict()
    validation = outputs.validation.metrics.get_dict()
    families = outputs.dataset.dataset.families
    calculations = [node for node in process.called_descendants if isinstance(node, orm.CalculationNode)]
    cached = sum(node.base.caching.is_created_from_cache for node in calculations)
    labels = outputs.labels.base.attributes
    return {
        'wall_s': 0.0,
        'cached': cached == len(calculations),
        'calculations': len(calculations),
        'calculations_from_cache': cached,
        'labels': f'{labels.get("engine_title")} {labels.get("engine_version")}, protocol {labels.get("protocol")}',
        'families': {
            name: {
                'r2_test': metrics[f'test/{name}']['r2'],
                'mae_test_ev': metrics[f'test/{name}']['mae'],
                'n': int((families == name).sum()),
                'n_test': metrics[f'test/{name}']['n'],
            }
            for name in FLAKES
        },
        'metrics': metrics,
        'validation': {'n': validation['all']['n'], 'mae_ev': validation['all']['mae'], 'r2': validation['all']['r2']},
        'model_uuid': outputs.model.uuid,
        'prediction_uuid': outputs.predictions.uuid,
        'process_uuid': process.uuid,
        'figure': str(folder / 'Energy_gap_prediction.png'),
    }


def _count_nodes() -> int:
    from aiida import orm

    return int(orm.QueryBuilder().append(orm.Node).count())


def _report(process: Any, summary: dict[str, Any]) -> None:
    attributes = process.outputs.dataset.base.attributes
    excluded = ', '.join(f'{count} {reason}' for reason, count in attributes.get('excluded').items())
    click.echo(f'\nGap from {attributes.get("n_features")} features, labels: {summary["labels"]}')
    click.echo(f'{attributes.get("n_rows")} rows, left out: {excluded or "none"}')
    click.echo(metric_table(summary['metrics']))
    table = process.outputs.validation.table
    rows: list[list[object]] = [['unseen flake', 'predicted (eV)', 'labelled (eV)', 'error (eV)']]
    columns = (table.get_array(name) for name in ('names', 'predicted', 'labelled'))
    for name, predicted, labelled in zip(*columns, strict=True):
        rows.append([name, f'{predicted:.3f}', f'{labelled:.3f}', f'{predicted - labelled:+.3f}'])
    click.echo(f'\nFlakes that the model never saw, labelled afterwards with {summary["labels"]}')
    click.echo(aligned(rows))
    click.echo(f'MAE {summary["validation"]["mae_ev"]:.3f} eV')
    _report_lineage(process)


def _report_end(folder: Path, summary: dict[str, Any]) -> None:
    answered = 'everything' if summary['cached'] else f'{summary["calculations_from_cache"]}'
    source = f'{answered} of {summary["calculations"]} calculations from the cache'
    click.echo(f'\n{summary["wall_s"]:.0f} s, {source}, {summary["nodes"]} nodes in the profile')
    click.echo(f'figures and summary: {_relative(folder)}/')
    click.echo(f'\nnext, after `source {_relative(folder / ACTIVATE_FILE)}`:')
    last = summary.get('siesta', summary)
    click.echo(f'  aiida-nanoml trace {last["prediction_uuid"][:8]}')
    click.echo(f'  aiida-nanoml model show {summary["model_uuid"][:8]}')
    click.echo('  aiida-nanoml flakes generate --family h --size 3 --count 5 --seed 7')


def _report_lineage(process: Any) -> None:
    from aiida_nanoml.provenance.lineage import trace

    predictions = process.outputs.predictions
    click.echo(f'\nLineage of the prediction for {predictions.get_array("names")[0]}')
    click.echo(trace(predictions).render())


def _write_activation(folder: Path) -> None:
    """Write a file for shells to source: the commands of this installation, in the profile of the quickstart."""
    (folder / ACTIVATE_FILE).write_text(
        f'# source this file to work with the profile of the quickstart\n'
        f'export AIIDA_PATH={shlex.quote(str(folder))}\n'
        f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"\n',
        encoding='utf-8',
    )


def _relative(path: Path) -> str:
    try:
        return shlex.quote(str(path.relative_to(Path.cwd())))
    except ValueError:
        return shlex.quote(str(path))
