"""Command ``nanoml-worker``: run one task in a job folder."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from aiida_nanoml import __version__
from aiida_nanoml.errors import NanomlError
from aiida_nanoml.worker.files import write_report
from aiida_nanoml.worker.schemas import Report

TASKS = ('label', 'train', 'predict', 'study', 'rmatrix', 'density_train', 'density_predict')


def main(arguments: list[str] | None = None) -> int:
    """Run one task in a job folder.

    :returns: 0 when the report says ``ok``, else 1; the report in ``results.json`` says what happened either way.
    """
    options = _parser().parse_args(arguments)
    start = time.perf_counter()
    try:
        report = _run(options)
    except NanomlError as error:
        report = _failure(type(error).__name__, str(error))
    except Exception as error:
        traceback.print_exc()
        report = _failure('unexpected', f'{type(error).__name__}: {error}; the traceback is in the standard error')
    report = report.model_copy(update={'worker_version': __version__, 'wall_s': time.perf_counter() - start})
    write_report(options.folder, report)
    if report.message:
        print(f'nanoml-worker: {report.message}', file=sys.stderr)
    return 0 if report.status == 'ok' else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='nanoml-worker',
        description='Run one task of aiida-nanoml in a job folder; started by AiiDA on the compute node.',
        epilog='example: nanoml-worker label --processes 2 --folder .',
    )
    parser.add_argument('task', choices=TASKS)
    parser.add_argument('--folder', type=Path, default=Path(), help='folder of the job (default: the current one)')
    parser.add_argument('--processes', type=_positive, default=1, help='processes at the same time (default: 1)')
    parser.add_argument('--version', action='version', version=__version__)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError('must be at least 1')
    return value


def _run(options: argparse.Namespace) -> Report:
    progress = _progress_printer()
    if options.task == 'label':
        # Parallel over structures: threads inside an evaluation would compete with it.
        os.environ.update(OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1', MKL_NUM_THREADS='1')
        from aiida_nanoml.worker.label import label

        return label(options.folder, options.processes, progress)
    if options.task == 'train':
        from aiida_nanoml.worker.train import train

        return train(options.folder, progress)
    if options.task in ('study', 'rmatrix', 'density_train'):
        # Such jobs run side by side, each on its own cores: TensorFlow and OpenBLAS would take all there are.
        threads = str(options.processes)
        os.environ.update(OMP_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads, TF_NUM_INTRAOP_THREADS=threads)
    if options.task == 'study':
        from aiida_nanoml.worker.study import study

        return study(options.folder, progress)
    if options.task == 'rmatrix':
        from aiida_nanoml.worker.rmatrix import rmatrix

        return rmatrix(options.folder, progress)
    if options.task == 'density_train':
        from aiida_nanoml.worker.density_train import density_train

        return density_train(options.folder, progress, options.processes)
    if options.task == 'density_predict':
        from aiida_nanoml.worker.density_predict import density_predict

        return density_predict(options.folder, progress, options.processes)
    from aiida_nanoml.worker.predict import predict

    return predict(options.folder)


def _progress_printer() -> Callable[[int, int], None]:
    """Print at most one line a second: the standard output of a job is read while it runs."""
    last = 0.0

    def show(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last >= 1:
            last = now
            print(f'{done}/{total}', flush=True)

    return show


def _failure(code: str, message: str) -> Report:
    return Report(status='error', code=code, message=message)


if __name__ == '__main__':
    sys.exit(main())
