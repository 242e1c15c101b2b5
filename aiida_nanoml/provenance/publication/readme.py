"""README of a published folder, its licence, and the page of its figures."""

from __future__ import annotations

from collections.abc import Sequence

from aiida_nanoml.provenance.publication.archive import Contents
from aiida_nanoml.provenance.publication.facts import Facts, Licence
from aiida_nanoml.provenance.publication.figures import Figure
from aiida_nanoml.provenance.publication.tables import Table
from aiida_nanoml.text import capitalised

ARCHIVE = 'archive.aiida'
CRATE = 'ro-crate-metadata.json'
README = 'README.md'
STATEMENT = 'DATA_STATEMENT.md'
STATEMENT_TEX = 'data_statement.tex'
BIBLIOGRAPHY = 'references.bib'
LINEAGE = 'lineage.json'
WORKFLOW = 'workflow.cwl'
CHECKSUMS = 'SHA256SUMS'
LICENCE = 'LICENSE'
TABLES, FIGURES = 'tables', 'figures'
COMMANDS = f'{FIGURES}/COMMANDS.md'

FILES = {
    ARCHIVE: 'everything, as an archive of AiiDA',
    STATEMENT: 'how the numbers were computed, in words',
    STATEMENT_TEX: 'the same as a paragraph for a paper',
    BIBLIOGRAPHY: 'what to cite, with the versions of the codes',
    LINEAGE: 'where the published nodes come from: the output of `aiida-nanoml trace --json`',
    WORKFLOW: 'the steps of the calculation, in the Common Workflow Language; a description that cannot be run',
    CRATE: 'description of this folder for machines, a Workflow Run RO-Crate',
    CHECKSUMS: 'SHA-256 of every file',
    LICENCE: 'terms of use',
}
"""Description of each file, by its name."""


def readme(
    facts: Facts, contents: Contents, tables: Sequence[Table], figures: Sequence[Figure], files: set[str]
) -> str:
    """Return the content of ``README.md``.

    :param files: names of the files in the folder.
    """
    authors = '; '.join(map(str, facts.authors))
    nodes = '\n'.join(
        f'- `{uuid}`, {kind}{f", labelled {label}" if label else ""}' for uuid, kind, label in facts.nodes
    )
    first = facts.nodes[0][0]
    core = facts.core_versions[-1] if facts.core_versions else ''
    parts = [
        f'# {facts.title}',
        f'By {authors}. Published {facts.published}. Licence: [{facts.licence.name}]({facts.licence.url}).',
        f'## What is published\n\n{nodes}\n\n{capitalised(facts.lineage.dft)}. See {STATEMENT} for the details.',
        '## Files\n\n' + _bullet_list([(name, title) for name, title in FILES.items() if name in files]),
    ]
    if tables:
        rows = [(f'{TABLES}/{table.name}', f'{table.title}; {table.n_rows} rows') for table in tables]
        parts.append(
            '## Tables\n\nUnits are in the column headers; an empty cell means that there is no value.\n\n'
            + _bullet_list(rows)
        )
    if figures:
        drawn = [(f'{FIGURES}/{figure.name}', figure.title) for figure in figures]
        parts.append(f'## Figures\n\n{COMMANDS} has the commands that make them.\n\n' + _bullet_list(drawn))
    parts += [
        f'## Check the files\n\n```bash\nsha256sum -c {CHECKSUMS}\n```',
        '## Import\n\n'
        f'The archive has the format `{contents.version}` of aiida-core{f" ({core})" if core else ""}; a newer '
        'aiida-core migrates it during the import. The package aiida-nanoml must be installed.\n\n'
        f'```bash\nverdi archive import {ARCHIVE}\naiida-nanoml trace {first}\naiida-nanoml reproduce {first}\n```\n\n'
        f'Without an import, `aiida-nanoml trace {first} --archive {ARCHIVE}` reads the archive directly.\n\n'
        f'`trace` prints the content of {LINEAGE}'
        f'{", which is that of all published nodes together" if len(facts.nodes) > 1 else ""}. PKs differ between '
        'profiles, UUIDs do not. `reproduce` runs again what the archive allows to run, and compares the numbers.',
        '## What the archive holds\n\n'
        f'{contents.n_nodes} nodes and {contents.n_files} files: the {contents.n_ancestors} nodes that are published '
        'or that they depend on, and all other results of the runs among these. It does not contain: workflows that '
        'called runs, and what else they called; groups; comments; settings of computers and schedulers; files of '
        'jobs that were not retrieved. It contains names and addresses of those who stored the nodes, host names, and '
        'paths of executables.',
        f'## Runs in {CRATE} and {WORKFLOW}\n\n'
        'Runs with the same process, code, person, computer, exit status and protocol, at the same depth of the graph, '
        f'are one step and one action. {TABLES}/runs.csv lists every run, with who and when. Imported runs have no '
        'times and no agent in the crate, because AiiDA does not know them.',
    ]
    return '\n\n'.join(parts) + '\n'


def _bullet_list(rows: Sequence[tuple[str, str]]) -> str:
    return '\n'.join(f'- `{name}`: {title}' for name, title in rows)


def commands(figures: Sequence[Figure]) -> str:
    """Return the page of the figures, with the commands that make each from the imported archive."""
    parts = ['# Figures', f'After `verdi archive import {ARCHIVE}`, any of these commands makes the figure again.']
    for figure in figures:
        lines = '\n'.join(figure.commands)
        parts.append(f'## {figure.name}\n\n{figure.title}\n\n```bash\n{lines}\n```')
    return '\n\n'.join(parts) + '\n'


def licence_text(licence: Licence, authors: Sequence[object], year: str) -> str:
    """Return the content of ``LICENSE``: the identifier, and a link to the text of the licence."""
    holders = ', '.join(map(str, authors))
    return (
        f'SPDX-License-Identifier: {licence.spdx}\n\nCopyright {year} {holders}\n\n'
        f'This folder is published under the terms of {licence.name} ({licence.spdx}).\nThe terms: {licence.url}\n\n'
        'Pseudopotentials and other files of third parties in the archive keep the terms of their authors.\n'
    )
