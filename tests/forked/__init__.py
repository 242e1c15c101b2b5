"""Programs of the package that start at once: a process that has imported their modules forks one for each call.

Most of what the suite runs are short programs whose time is the import of AiiDA, or of TensorFlow. ``environment.py``
makes a folder that looks like the virtual environment, with clients (``client.py``) in the place of ``verdi``,
``aiida-nanoml`` and ``nanoml-worker``. A client sends its arguments, environment, folder and open files to
``server.py``, which forks: the program is the real one, in a process of its own, with its own signals and exit status.

What a fork cannot show is whether a program imports all that it needs. ``tests/worker``, ``tests/remote`` and other
tests run the plain programs, every daemon is a plain one, and ``pytest --plain`` runs no fork at all.
"""
