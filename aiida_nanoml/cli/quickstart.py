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
@click.option('--json', 'as_json', is_flag=True, help='Print the summary as one JSON object.')
def quickstart(
    folder: Path, count: int, unseen: int, engine: str, protocol: str, jobs: int | None, as_json: bool
) -> None:
    """Run the main job in a profile of its own: flakes, labels, features, network, predictions, provenance.

    Your own AiiDA profiles are not touched. Interrupted, it goes on from what is stored; run again, it answers from the
    cache.

    \b
    Example:
        aiida-nanoml quickstart --count 40 --folder trial
    """
    folder = folder.absolute()
    _enter(folder)
    start = time.monotonic()
    from aiida import load_profile

    from aiida_nanoml.cli.installation import make_code, make_localhost, make_profile, start_daemon, stop_daemon
    from aiida_nanoml.cli.progress import follow

    profile = load_profile(make_profile(PROFILE).name)
    code = make_code(make_localhost())
    _write_activation(folder)
    started = start_daemon(profile)
    _say(f'profile {PROFILE} in {folder} (SQLite, ZeroMQ), daemon {"started" if started else "is running"}')
    process, attached = _process(code, count, unseen, engine, protocol, jobs or len(os.sched_getaffinity(0)))
    _say(
        f'{"following the unfinished" if attached else "submitted"} GapWorkChain<{process.pk}>: {count} + {unseen} '
        f'flakes of each of {", ".join(FLAKES)}, engine {engine}, protocol {protocol}'
    )
    try:
        follow(process)
    except KeyboardInterrupt:
        _say('\ninterrupted: the daemon goes on with the work. Run the same command again to follow it,')
        _say(f'or stop it: source {_relative(folder / ACTIVATE_FILE)} && verdi daemon stop')
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
    summary['wall_s'] = round(time.monotonic() - start, 1)
    (folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    if as_json:
        click.echo(json.dumps(summary))
    else:
        _report(process, folder, summary)


def _enter(folder: Path) -> None:
    """Go on in an environment in which AiiDA sees only the folder of the quickstart.

    AiiDA reads these variables when it is imported, so that the program is started anew where they differ.
    """
    from aiida_nanoml.cli.installation import daemon_environment

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


def _process(code: Any, count: int, unseen: int, engine: str, protocol: str, jobs: int) -> tuple[Any, bool]:
    """Return the unfinished process of the same request, or submit a new one."""
    from aiida import orm
    from aiida.engine import submit
    from aiida.plugins import WorkflowFactory

    request = json.dumps([count, unseen, engine, protocol])
    workflow = WorkflowFactory('nanoml.gap')
    query = orm.QueryBuilder().append(
        orm.WorkChainNode,
        filters={
            'process_type': 'aiida.workflows:nanoml.gap',
            'extras.request': request,
            'attributes.process_state': {'in': ['created', 'running', 'waiting']},
        },
    )
    if (found := query.first(flat=True)) is not None:
        return found, True
    flakes = {name: FLAKES[name] | {'count': count, 'seed': SEED} for name in FLAKES}
    total = count * len(FLAKES)
    # Two rounds of jobs on every core: small enough to share the work evenly, large enough to start seldom.
    batch_size = -(-total // (2 * jobs))
    builder = workflow.get_builder_from_protocol(
        code,
        flakes=flakes,
        engine=engine,
        protocol='balanced',
        overrides={
            'n_unseen': unseen,
            'label': {'engine_protocol': protocol, 'batch_size': batch_size, 'max_concurrent': 2 * jobs},
        },
    )
    builder.metadata.label = 'quickstart'
    process = submit(builder)
    process.base.extras.set('request', request)
    return process, False


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
        'nodes': orm.QueryBuilder().append(orm.Node).count(),
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


def _report(process: Any, folder: Path, summary: dict[str, Any]) -> None:
    metrics = summary['metrics']
    click.echo(
        f'\nGap from {process.outputs.dataset.base.attributes.get("n_features")} features, labels: {summary["labels"]}'
    )
    click.echo(f'{"":>14}{"n":>6}{"R2":>9}{"MAE/eV":>9}{"RMSE/eV":>9}')
    for part in metrics:
        row = metrics[part]
        click.echo(f'{part:>14}{row["n"]:>6}{row["r2"]:>9.3f}{row["mae"]:>9.3f}{row["rmse"]:>9.3f}')
    table = process.outputs.validation.table
    click.echo(f'\nUnseen flakes, predicted and then labelled with {summary["labels"]}')
    click.echo(f'{"flake":>24}{"predicted/eV":>14}{"labelled/eV":>13}{"error/eV":>10}')
    columns = (table.get_array(name) for name in ('names', 'predicted', 'labelled'))
    for name, predicted, labelled in zip(*columns, strict=True):
        click.echo(f'{name:>24}{predicted:>14.3f}{labelled:>13.3f}{predicted - labelled:>10.3f}')
    click.echo(f'{"MAE":>24}{summary["validation"]["mae_ev"]:>37.3f}')
    _report_lineage(process)
    answered = 'everything' if summary['cached'] else f'{summary["calculations_from_cache"]}'
    source = f'{answered} of {summary["calculations"]} calculations from the cache'
    click.echo(f'\n{summary["wall_s"]:.0f} s, {source}, {summary["nodes"]} nodes in the profile')
    click.echo(f'figures and summary: {_relative(folder)}/')
    click.echo('\nnext:')
    click.echo(f'  source {_relative(folder / ACTIVATE_FILE)}')
    click.echo(f'  aiida-nanoml model show {summary["model_uuid"][:8]}')
    click.echo('  aiida-nanoml flakes generate --family h --size 3 --count 5 --seed 7')


def _report_lineage(process: Any) -> None:
    from aiida_nanoml.provenance.lineage import trace

    predictions = process.outputs.predictions
    click.echo(f'\nLineage of the prediction for {predictions.get_array("names")[0]} (one query)')
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


def _say(text: str) -> None:
    click.echo(text, err=True)
