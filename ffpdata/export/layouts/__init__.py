"""Exports as plain files, with the metadata that trainers of other projects read.

One file here is one layout; `layout.py` says what a layout is, `folder.py` writes the files that all of them share.
"""
