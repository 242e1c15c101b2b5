"""Actions: everything that can be asked of the package, one typed model in one file each.

Faces (command line, pages, messages) fill their fields and show their results, and decide nothing. From Python::

    from aiida_nanoml.actions.label import Label

    labels = Label(structures='flakes', engine='xtb', protocol='fast', name='labels').run()
    print(labels.render())
"""
