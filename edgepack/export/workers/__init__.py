"""Programs that another Python runs, each with one source framework: they import nothing of edgepack.

``main.py`` is started by path and runs ``convert`` of one worker, a file beside it or of another package.
"""
