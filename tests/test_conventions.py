"""Rules that hold for the whole package, checked by walking over it."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import string
import subprocess
import sys
from importlib.metadata import EntryPoint, distribution
from importlib.util import find_spec
from pathlib import Path

import pytest
from aiida.engine import Process
from aiida.plugins.entry_point import ENTRY_POINT_GROUP_TO_MODULE_PATH_MAP

import aiida_nanoml
from aiida_nanoml.calculations.base import WorkerCalculation

PACKAGE = Path(aiida_nanoml.__file__).parent
ENTRY_POINTS = list(distribution('aiida-nanoml').entry_points)
EXTRAS = {'quantumespresso': 'aiida_quantumespresso', 'cp2k': 'aiida_cp2k'}
"""Package that an extra of a plug-in installs; without it, the plug-in is not looked at."""
PLUGINS = [
    point
    for point in ENTRY_POINTS
    if point.group.startswith('aiida.')
    and point.group != 'aiida.cmdline.data'
    and all(find_spec(EXTRAS[extra]) for extra in point.extras)
]
FOLDERS = {
    'aiida.data': 'data',
    'aiida.calculations': 'calculations',
    'aiida.calculations.importers': 'calculations.importers',
    'aiida.parsers': 'parsers',
    'aiida.workflows': 'workflows',
}
PROCESSES = [
    point
    for point in PLUGINS
    if point.group in ('aiida.calculations', 'aiida.workflows') and '.functions.' not in point.value
]
HEAVY = ('tensorflow', 'keras', 'sklearn', 'scipy.optimize', 'tblite', 'pyscf', 'matplotlib', 'pymatgen', 'ase')


def foreign_base(process: type[Process]) -> type[Process]:
    """Give the class of AiiDA, or of another plugin, that a process of ours extends."""
    return next(base for base in process.__mro__ if not base.__module__.startswith('aiida_nanoml.'))


def identify(point: EntryPoint) -> str:
    return f'{point.group}:{point.name}'


def test_there_are_plugins_of_every_kind() -> None:
    assert {point.group for point in PLUGINS} == set(FOLDERS)
    assert {point.name for point in PROCESSES if not point.extras} == {
        f'nanoml.{name}'
        for name in (
            'label',
            'train',
            'predict',
            'study',
            'siesta',
            'program',
            'siesta_warmstart',
            'gap',
            'active',
            'validate',
            'alloy_scan',
            'alloy',
            'rmatrix',
            'rmatrix_scan',
            'density_train',
            'density_predict',
            'density',
        )
    }


@pytest.mark.parametrize('point', PLUGINS, ids=identify)
def test_name_path_and_entry_point_agree(point: EntryPoint) -> None:
    """``nanoml.label`` is found in ``<folder>/label.py`` or is the function ``label``."""
    assert point.group in ENTRY_POINT_GROUP_TO_MODULE_PATH_MAP
    prefix, _, name = point.name.partition('.')
    assert prefix == 'nanoml'
    assert re.fullmatch(r'[a-z][a-z0-9_]*', name)
    loaded = point.load()
    assert inspect.getdoc(loaded)
    assert loaded.__module__ == point.module
    folder = f'aiida_nanoml.{FOLDERS[point.group]}'
    if '.functions.' in point.module:
        assert point.attr == loaded.__name__ == name
        assert point.module.startswith(f'{folder}.functions.')
        assert loaded.is_process_function
    else:
        assert point.module == f'{folder}.{name}'
        assert point.attr == loaded.__name__
        singular = re.sub('ies$', 'y', name.replace('_', ''))
        assert point.attr.lower().startswith(singular)


@pytest.mark.parametrize('point', [point for point in PROCESSES if point.group == 'aiida.calculations'], ids=identify)
def test_a_calculation_its_parser_and_its_task_have_one_name(point: EntryPoint) -> None:
    calculation = point.load()
    task = point.name.removeprefix('nanoml.')
    assert calculation.spec().inputs['metadata']['options']['parser_name'].default == point.name
    (parser,) = (other for other in PLUGINS if (other.group, other.name) == ('aiida.parsers', point.name))
    assert parser.load().__name__ == f'{"".join(map(str.capitalize, task.split("_")))}Parser'
    if not issubclass(calculation, WorkerCalculation):
        return  # it runs a program that is not ours
    assert task == calculation.TASK
    assert callable(getattr(importlib.import_module(f'aiida_nanoml.worker.{task}'), task))


@pytest.mark.parametrize('point', PROCESSES, ids=identify)
def test_exit_codes_are_unique_banded_and_explained(point: EntryPoint) -> None:
    """3xx: output cannot be read; 4xx: stopped or failed, worth another try; 5xx: the input is at fault."""
    process = point.load()
    inherited = set(foreign_base(process).spec().exit_codes)
    own = {label: code for label, code in process.spec().exit_codes.items() if label not in inherited}
    assert own
    statuses = [code.status for code in own.values()]
    assert len(set(statuses)) == len(statuses)
    assert not set(statuses) & {process.spec().exit_codes[label].status for label in inherited}
    for label, code in own.items():
        assert re.fullmatch(r'ERROR_[A-Z_]+', label)
        assert 300 <= code.status < 600
        fields = [field for _, field, _, _ in string.Formatter().parse(code.message) if field is not None]
        assert fields == ['reason'], f'{label} does not say what happened'
        assert code.message[0].isupper()
        assert not code.message.endswith('.'), 'the reason stands at the end'


def test_a_refused_step_has_one_exit_status() -> None:
    """The input is at fault, whichever workflow ran the step."""
    workflows = [point.load() for point in PROCESSES if point.group == 'aiida.workflows']
    codes = [workflow.exit_codes.get('ERROR_STEP_REFUSED') for workflow in workflows]
    assert {code.status for code in codes if code is not None} == {520}


@pytest.mark.parametrize('point', PROCESSES, ids=identify)
def test_every_port_has_help_and_a_type(point: EntryPoint) -> None:
    process = point.load()
    base = foreign_base(process)
    for name, port in process.spec().inputs.items():
        if name not in base.spec().inputs:
            assert port.valid_type is not None, name
            assert point.name == 'nanoml.gap' or port.help, name
    assert list(process.spec().outputs)


@pytest.mark.parametrize('path', sorted(PACKAGE.rglob('*.py')), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_public_objects_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding='utf-8'))
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith(('_', 'test_')):
            assert ast.get_docstring(node), node.name


def test_nothing_unpickles_or_evaluates() -> None:
    """Files from elsewhere are data, never programs."""
    modules_refused = {'pickle', 'cPickle', 'cloudpickle', 'dill', 'joblib', 'marshal', 'shelve'}
    calls_refused = {'eval', 'exec', 'compile', '__import__'}
    faults = []
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            imported = set()
            if isinstance(node, ast.Import):
                imported = {alias.name.partition('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported = {(node.module or '').partition('.')[0]}
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                refused = called in calls_refused
                refused |= called in ('np.load', 'numpy.load') and keywords.get('allow_pickle') != 'False'
                refused |= called in ('yaml.load', 'yaml.unsafe_load', 'yaml.full_load')
                refused |= called.endswith('load_model') and 'keras' in called and keywords.get('safe_mode') != 'True'
                refused |= keywords.get('shell') == 'True'
                if refused:
                    faults.append(f'{path.name}:{node.lineno} calls {called}')
            if imported & modules_refused:
                faults.append(f'{path.name}:{node.lineno} imports {imported}')
    assert not faults


def run_python(program: str) -> str:
    return subprocess.run([sys.executable, '-c', program], check=True, capture_output=True, text=True).stdout


def test_loading_the_plugins_loads_no_heavy_library() -> None:
    """``verdi`` and the daemon load every plugin; only the worker pays for what it uses."""
    program = f"""
import sys
from importlib.metadata import distribution
for point in distribution('aiida-nanoml').entry_points:
    if point.group.startswith('aiida.') and not point.extras:
        point.load()
print(*(name for name in {HEAVY!r} if name in sys.modules))
"""
    assert run_python(program).split() == []


def test_the_worker_does_not_load_aiida() -> None:
    """A compute node needs no AiiDA."""
    program = """
import sys
import aiida_nanoml.worker.main, aiida_nanoml.worker.label, aiida_nanoml.worker.train, aiida_nanoml.worker.predict
print('aiida' in sys.modules, 'tensorflow' in sys.modules, 'matplotlib' in sys.modules)
"""
    assert run_python(program).split() == ['False', 'False', 'False']
