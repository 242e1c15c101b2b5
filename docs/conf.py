"""Configuration of the documentation: built without network, and every warning is an error."""

import os
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

# The build must not depend on the AiiDA configuration of whoever builds, nor touch it. AiiDA reads it when imported.
_configuration = tempfile.TemporaryDirectory(prefix='nanoml-docs-')
os.environ['AIIDA_PATH'] = _configuration.name

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # AiiDA announces the folder that it makes
    from aiida.manage.configuration import get_config

# Autodoc looks at every attribute of a node class, at those that AiiDA deprecates too.
get_config(create=True).set_option('warnings.showdeprecations', False)

from aiida_nanoml import __version__  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))  # for the extension `tables`

project = 'aiida-nanoml'
copyright = '2026, the aiida-nanoml developers'
author = 'The aiida-nanoml developers'
release = version = __version__

extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.mathjax',
    'sphinx_click',
    'sphinx_copybutton',
    'tables',
]
exclude_patterns = ['_build']
nitpicky = True
nitpick_ignore_regex = [
    # Other packages' objects: looking them up would need the network.
    (
        r'py:.*',
        r'(aiida|annotated_types|ase|click|collections|keras|np|npt|numpy|orm|pathlib|pydantic|sklearn|starlette|typing)\..*',
    ),
    # Names that stand without their module in annotations and in docstrings that a subclass inherits.
    (r'py:class', r'Annotated|Any|Callable|ClassVar|Literal|Mapping|MappingProxyType|NDArray|Path|Progress'),
    (r'py:(data|func)', r'PROPERTIES|save_model'),
]

myst_enable_extensions = ['colon_fence', 'deflist', 'dollarmath']
myst_heading_anchors = 3
smartquotes_action = 'qe'  # two hyphens are an option, never a dash

# Notebooks are run when they have changed; `make clean` forgets what they printed.
nb_execution_mode = 'cache'
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

copybutton_prompt_text = r'\$ |> '
copybutton_prompt_is_regexp = True

autodoc_member_order = 'bysource'
# The field lists of the docstrings say shapes and units, which annotations cannot.
autodoc_typehints = 'none'
autodoc_default_options = {
    # Scikit-learn makes these methods.
    'exclude-members': 'set_fit_request, set_predict_request, set_score_request, set_transform_request, model_config',
}
python_use_unqualified_type_names = True

html_theme = 'furo'
html_title = f'aiida-nanoml {release}'
html_show_sphinx = False


def resolve_re_export(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Find an object that a docstring names by the package which re-exports it."""
    module, _, name = node.get('reftarget', '').rpartition('.')
    module = module or node.get('py:module') or ''
    if node.get('refdomain') != 'py' or not module.startswith('aiida_nanoml'):
        return None
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return None
    target = f'{getattr(found, "__module__", "")}.{getattr(found, "__qualname__", "")}'
    domain = env.get_domain('py')
    return domain.resolve_xref(env, node['refdoc'], app.builder, node['reftype'], target, node, content)


def setup(app: Any) -> None:
    """Connect the resolver."""
    app.connect('missing-reference', resolve_re_export)
